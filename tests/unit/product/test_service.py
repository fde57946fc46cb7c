"""Stock on the pages, loading, editions."""

import asyncio
from datetime import date
from pathlib import Path

import pytest

from services.common.documents import Documents, SqliteStore
from services.common.errors import Kind
from services.common.limits import MAX_PRODUCT_IDS
from services.product.files import read_catalogue
from services.product.model import (
    CatalogueEntry,
    Edition,
    Product,
    Sort,
    UnknownProduct,
    badges,
    newest_of,
    sustainability,
)
from services.product.service import Search
from services.product.store import PRODUCTS, ProductStore
from tests.unit.failure import failure
from tests.unit.product.shop import ENTRIES, ServedCatalogue, entry, open_shop, write_catalogue


async def test_a_page_asks_inventory_once(shop: ServedCatalogue) -> None:
    page = await shop.service.search(Search(sort=Sort.PRICE), limit=3, cursor=None)
    assert [offer.available for offer in page.offers] == [3, 200, 0]
    assert shop.stock.asked == [["crema-set", "mugs", "lamp"]]


async def test_the_newest_products_come_with_a_page_in_the_same_look_at_the_stock(
    shop: ServedCatalogue,
) -> None:
    page = await shop.service.search(Search(sort=Sort.PRICE), limit=2, cursor=None, arrivals=2)
    assert [offer.product.id for offer in page.offers] == ["crema-set", "mugs"]
    assert page.arrivals is not None
    assert [(offer.product.id, offer.available) for offer in page.arrivals] == [
        ("blanket", 0),
        ("mugs", 200),
    ]
    assert page.next_cursor is not None
    assert shop.stock.asked == [["crema-set", "mugs", "blanket"]]


async def test_the_best_others_of_its_department_come_with_a_product(
    shop: ServedCatalogue,
) -> None:
    offers = await shop.service.offers("crema-set", related=1)
    assert [(offer.product.id, offer.available) for offer in offers] == [
        ("crema-set", 3),
        ("oak-board", 0),
    ]
    assert shop.stock.asked == [["crema-set", "oak-board"]]
    all_of_it = await shop.service.offers("crema-set", related=60)
    assert [offer.product.id for offer in all_of_it] == ["crema-set", "oak-board", "mugs"]


async def test_an_empty_page_does_not_ask_inventory(shop: ServedCatalogue) -> None:
    await shop.service.search(Search(query="zebra"), limit=3, cursor=None)
    assert shop.stock.asked == []


async def test_without_inventory_availability_is_unknown(shop: ServedCatalogue) -> None:
    shop.stock.out = True
    page = await shop.service.search(Search(), limit=60, cursor=None)
    assert [offer.available for offer in page.offers] == [None] * len(ENTRIES)
    assert [offer.available for offer in await shop.service.offers("mugs")] == [None]


async def test_products_come_in_the_order_asked_for(shop: ServedCatalogue) -> None:
    products = await shop.service.products(["mugs", "lamp", "mugs"])
    assert [product.id for product in products] == ["mugs", "lamp", "mugs"]


async def test_what_only_another_version_knows_comes_from_the_store(tmp_path: Path) -> None:
    async with open_shop(tmp_path, entries=[*ENTRIES, entry("new-thing", price_cents=700)]):
        pass
    async with open_shop(tmp_path) as shop:
        products = await shop.service.products(["mugs", "new-thing"])
        assert [product.price_cents for product in products] == [3200, 700]
        page = await shop.service.search(Search(), limit=60, cursor=None)
    assert len(page.offers) == len(ENTRIES)


async def test_the_first_unknown_product_is_named(shop: ServedCatalogue) -> None:
    with pytest.raises(UnknownProduct) as raised:
        await shop.service.products(["mugs", "no-such", "nor-this"])
    assert raised.value.kind is Kind.NOT_FOUND
    assert raised.value.fields == {"product_id": "no-such"}


async def test_too_many_products_at_once_are_invalid(shop: ServedCatalogue) -> None:
    assert (
        await failure(shop.service.products(["mugs"] * (MAX_PRODUCT_IDS + 1)))
    ).kind is Kind.INVALID


async def test_categories_count_their_products(shop: ServedCatalogue) -> None:
    counts = [(category.id, count) for category, count in shop.service.categories()]
    assert counts == [("kitchen", 3), ("home", 2)]


async def test_loading_again_writes_only_what_differs(tmp_path: Path) -> None:
    catalogue = read_catalogue(write_catalogue(tmp_path / "catalogue"))
    database = SqliteStore(tmp_path / "product.db")
    store = ProductStore(await Documents[Product].open(database, PRODUCTS, Product))
    assert await store.load(catalogue.products) == len(ENTRIES)
    assert await store.load(catalogue.products) == 0

    dearer = [one | {"price_cents": 5100} if one["id"] == "oak-board" else one for one in ENTRIES]
    changed = read_catalogue(write_catalogue(tmp_path / "changed", dearer))
    assert await store.load(changed.products) == 1
    assert (await store.get_many(["oak-board"]))["oak-board"].price_cents == 5100
    await database.close()


async def test_several_processes_may_load_at_once(tmp_path: Path) -> None:
    catalogue = read_catalogue(write_catalogue(tmp_path / "catalogue"))
    databases = [SqliteStore(tmp_path / "product.db") for _ in range(3)]
    stores = [
        ProductStore(await Documents[Product].open(database, PRODUCTS, Product))
        for database in databases
    ]
    written = await asyncio.gather(*(store.load(catalogue.products) for store in stores))
    assert sum(written) == len(ENTRIES)
    wanted = {product.id: product for product in catalogue.products}
    assert await stores[0].get_many(wanted) == wanted
    for database in databases:
        await database.close()


async def test_the_second_edition_says_more_and_opens_with_what_is_new(tmp_path: Path) -> None:
    async with (
        open_shop(tmp_path / "first") as first,
        open_shop(tmp_path / "second", version="v2") as second,
    ):
        old = await first.service.search(Search(), limit=60, cursor=None)
        new = await second.service.search(Search(), limit=60, cursor=None)
    assert [offer.badges for offer in old.offers] == [None] * len(ENTRIES)
    assert [offer.sustainability for offer in old.offers] == [None] * len(ENTRIES)
    assert old.offers[0].blurb == "A thing of use."
    assert [(offer.product.id, offer.badges, offer.sustainability) for offer in new.offers] == [
        ("blanket", ["New"], "B"),
        ("mugs", [], "D"),
        ("oak-board", [], "D"),
        ("crema-set", ["Bestseller", "Few left"], "D"),
        ("lamp", [], "E"),
    ]
    assert new.offers[0].blurb == "Warm as oak embers. By Hearth, made in Norway."
    assert new.offers[-1].blurb == "A thing of use. By Hearth."


async def test_who_searches_for_something_gets_the_best_first_in_both_editions(
    tmp_path: Path,
) -> None:
    async with open_shop(tmp_path, version="v2") as shop:
        page = await shop.service.search(Search(query="hearth"), limit=1, cursor=None)
    assert page.offers[0].product.id == "crema-set"


@pytest.mark.parametrize(
    ("version", "edition"),
    [
        ("v1", Edition.FIRST),
        ("v2", Edition.SECOND),
        ("v2.1", Edition.SECOND),
        ("dev", Edition.FIRST),
    ],
)
def test_the_version_decides_the_edition(version: str, edition: Edition) -> None:
    assert Edition.of_version(version) is edition


def product(**changes: object) -> Product:
    return Product.of(CatalogueEntry.model_validate(entry("thing", **changes)))


def test_badges() -> None:
    ordinary = product(added=date(2025, 1, 1))
    assert badges(ordinary, newest=date(2026, 1, 1), available=50) == []
    assert badges(ordinary, newest=date(2026, 1, 1), available=None) == []
    assert badges(ordinary, newest=date(2026, 1, 1), available=0) == []  # none left is not few
    assert badges(ordinary, newest=date(2026, 1, 1), available=1) == ["Few left"]
    assert badges(ordinary, newest=date(2025, 2, 1), available=50) == ["New"]
    loved = product(reviews=500)
    assert badges(loved, newest=date(2026, 1, 1), available=50) == ["Bestseller"]


@pytest.mark.parametrize(
    ("details", "weight_grams", "label"),
    [
        ({"Material": "Oiled oak", "Made in": "Portugal"}, 400, "A"),
        ({"Material": "Oiled oak", "Made in": "Portugal"}, 3000, "B"),
        ({"Material": "Oiled oak", "Made in": "Vietnam"}, 3000, "C"),
        ({"Material": "Steel", "Made in": "Vietnam"}, 3000, "D"),
        ({"Material": "Nylon"}, 9000, "E"),
        ({}, 6000, "E"),
        ({"Material": "Cloaked steel"}, 3000, "D"),  # no oak in it
    ],
)
def test_sustainability(details: dict[str, str], weight_grams: int, label: str) -> None:
    assert sustainability(product(details=details, weight_grams=weight_grams)) == label


def test_an_empty_catalogue_has_no_newest_product() -> None:
    assert newest_of([]) == date.min
