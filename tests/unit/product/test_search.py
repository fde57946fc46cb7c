"""What a query finds, and in which order and pages."""

from datetime import date
from pathlib import Path

import pytest

from services.common.errors import Kind
from services.product.model import Sort, fold
from services.product.search import is_one_edit_away
from services.product.service import Search
from tests.unit.failure import failure
from tests.unit.product.shop import ENTRIES, ServedCatalogue, entry, open_shop


async def ids(shop: ServedCatalogue, search: Search) -> list[str]:
    page = await shop.service.search(search, limit=60, cursor=None)
    return [offer.product.id for offer in page.offers]


FOUND: dict[str, set[str]] = {
    "": {"crema-set", "oak-board", "mugs", "blanket", "lamp"},
    "  ": {"crema-set", "oak-board", "mugs", "blanket", "lamp"},
    "crème brûlée": {"crema-set"},
    "CREME brulee": {"crema-set"},
    "cre\u0300me bru\u0302le\u0301e": {"crema-set"},  # accents as characters of their own
    "bru": {"crema-set"},  # only begun
    "bru set": set(),  # begun, but it is not the last word
    "oak": {"oak-board", "blanket"},  # in the name, in the blurb
    "oak board": {"oak-board"},  # all words
    "board oak": {"oak-board"},
    "mug": {"mugs"},  # singular and plural
    "boards": {"oak-board"},
    "stoneware mug": {"mugs"},
    "tea": {"mugs"},  # a tag
    "hearth lamp": {"lamp"},  # a brand
    "living": {"blanket", "lamp"},  # a category's name
    "home & living": {"blanket", "lamp"},
    "reading-lamp": {"lamp"},
    "oas": set(),  # it may become a word that is no plural, so it does not stand for "oa"
    "zebra": set(),
    "oak zebra": set(),
    "!!!": set(),
    "a": set(),  # of three letters, none may be missing to search for
    "category:home": set(),
    "<script>alert(1)</script>": set(),
    "\0oak\0": {"oak-board", "blanket"},
    "东京": set(),
    "oak " * 20: {"oak-board", "blanket"},
}


@pytest.mark.parametrize("query", FOUND)
async def test_all_words_must_occur_and_the_last_may_be_begun(
    shop: ServedCatalogue, query: str
) -> None:
    assert set(await ids(shop, Search(query=query))) == FOUND[query]


async def test_a_category_narrows_the_search(shop: ServedCatalogue) -> None:
    assert set(await ids(shop, Search(category="home"))) == {"blanket", "lamp"}
    assert await ids(shop, Search(query="oak", category="home")) == ["blanket"]
    assert await ids(shop, Search(category="cellar")) == []


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        (Sort.PRICE, ["crema-set", "mugs", "lamp", "oak-board", "blanket"]),
        (Sort.PRICE_DESCENDING, ["blanket", "oak-board", "lamp", "mugs", "crema-set"]),
        (Sort.NAME, ["crema-set", "oak-board", "lamp", "mugs", "blanket"]),
        (Sort.NEWEST, ["blanket", "mugs", "oak-board", "crema-set", "lamp"]),
        (Sort.RATING, ["oak-board", "crema-set", "blanket", "mugs", "lamp"]),
        # The best rating rests on five reviews only, so it does not lead.
        (Sort.RELEVANCE, ["crema-set", "blanket", "oak-board", "mugs", "lamp"]),
        (None, ["crema-set", "blanket", "oak-board", "mugs", "lamp"]),
    ],
)
async def test_sorts(shop: ServedCatalogue, sort: Sort | None, order: list[str]) -> None:
    assert await ids(shop, Search(sort=sort)) == order


async def test_price_limits_are_inclusive(shop: ServedCatalogue) -> None:
    for sort in (Sort.PRICE, Sort.PRICE_DESCENDING):
        search = Search(sort=sort, min_price_cents=3200, max_price_cents=4900)
        assert set(await ids(shop, search)) == {"mugs", "lamp", "oak-board"}


async def test_price_limits_go_with_every_sort(shop: ServedCatalogue) -> None:
    for sort in Sort:
        search = Search(sort=sort, min_price_cents=3200, max_price_cents=4900)
        assert set(await ids(shop, search)) == {"mugs", "lamp", "oak-board"}


async def test_what_is_sold_out_can_be_left_out(shop: ServedCatalogue) -> None:
    in_stock = Search(in_stock=True, sort=Sort.PRICE)
    assert await ids(shop, in_stock) == ["crema-set", "mugs"]
    page = await shop.service.search(in_stock, limit=1, cursor=None)
    page = await shop.service.search(in_stock, limit=1, cursor=page.next_cursor)
    assert [offer.product.id for offer in page.offers] == ["mugs"]
    assert page.next_cursor is None
    shop.stock.out = True  # what is not known is not called sold out
    assert len(await ids(shop, in_stock)) == len(ENTRIES)


@pytest.mark.parametrize("query", ["1.8 L", "1,8 l", "1.8L", "kettle 1.8 L", "1.8"])
async def test_a_number_with_decimals_is_a_word(tmp_path: Path, query: str) -> None:
    entries = [entry("kettle", name="Kettle 1.8 L"), entry("pot", name="Pot 1.5 L")]
    async with open_shop(tmp_path, entries=entries) as shop:
        assert await ids(shop, Search(query=query)) == ["kettle"]


@pytest.mark.parametrize(
    ("query", "corrected", "found"),
    [
        ("lmap", "lamp", ["lamp"]),  # two letters swapped
        ("lapm", "lamp", ["lamp"]),
        ("lampp", "lamp", ["lamp"]),
        ("lanp", "lamp", ["lamp"]),
        ("stonware mugs", "stoneware mugs", ["mugs"]),
        ("stoneware mgus", "stoneware mugs", ["mugs"]),
        ("blankte wool", "blanket wool", ["blanket"]),
        ("lamp", None, ["lamp"]),
        ("lxxp", None, []),
        ("oka", "oak", ["oak-board", "blanket"]),
        ("mgs", None, []),  # of three letters, none may be missing
        ("oak zebra", None, []),
    ],
)
async def test_one_typing_error_is_forgiven_and_said(
    shop: ServedCatalogue, query: str, corrected: str | None, found: list[str]
) -> None:
    page = await shop.service.search(Search(query=query), limit=60, cursor=None)
    assert page.suggestion == corrected
    assert [offer.product.id for offer in page.offers] == found


@pytest.mark.parametrize(
    ("word", "other", "is_near"),
    [
        ("lmap", "lamp", True),
        ("lam", "lamp", True),
        ("lamps", "lamp", True),
        ("camp", "lamp", True),
        ("lamp", "lamp", False),
        ("palm", "lamp", False),
        ("pmal", "lamp", False),
    ],
)
def test_one_edit(word: str, other: str, is_near: bool) -> None:
    assert is_one_edit_away(word, other) is is_near
    assert is_one_edit_away(other, word) is is_near


async def test_a_word_of_the_name_comes_before_a_begun_one_a_tag_and_the_text(
    tmp_path: Path,
) -> None:
    entries = [
        entry("text", name="Shade", blurb="Fits every lamp.", reviews=900, rating=5.0),
        entry("tag", name="Lantern", tags=["lamp"], reviews=900, rating=5.0),
        entry("begun", name="Lampshade", reviews=900, rating=5.0),
        entry("named", name="Desk Lamp", reviews=1, rating=2.0),
    ]
    async with open_shop(tmp_path, entries=entries) as shop:
        assert await ids(shop, Search(query="lamp")) == ["named", "begun", "tag", "text"]


@pytest.mark.parametrize("cursor", ["", "x", "=", "ä", "bm9uc2Vuc2U", "_" * 400])
async def test_what_is_no_cursor_is_invalid(shop: ServedCatalogue, cursor: str) -> None:
    assert (
        await failure(shop.service.search(Search(), limit=2, cursor=cursor))
    ).code == "invalid-cursor"


@pytest.mark.parametrize("sort", list(Sort))
@pytest.mark.parametrize("limit", [1, 4, 7, 30])
async def test_paging_shows_everything_once_in_the_order_of_one_page(
    tmp_path: Path, sort: Sort, limit: int
) -> None:
    # Many are equal in what they are sorted by.
    many = [
        entry(
            f"cup-{number}",
            name=f"Cup {number % 4}",
            price_cents=1000 + number % 5,
            rating=3.0 + number % 3,
            added=date(2025, 1, 1 + number % 6),
            category="home" if number % 7 == 0 else "kitchen",
        )
        for number in range(29)
    ]
    async with open_shop(tmp_path, entries=many) as shop:
        for search in (Search(sort=sort), Search(query="cup", sort=sort, category="kitchen")):
            whole = await ids(shop, search)
            paged: list[str] = []
            cursor: str | None = None
            while True:
                page = await shop.service.search(search, limit=limit, cursor=cursor)
                assert len(page.offers) <= limit
                paged += [offer.product.id for offer in page.offers]
                cursor = page.next_cursor
                if cursor is None:
                    break
            assert paged == whole
            expected = [
                one["id"] for one in many if not search.category or one["category"] == "kitchen"
            ]
            assert sorted(paged) == sorted(expected)


async def test_a_cursor_of_another_sort_is_invalid(shop: ServedCatalogue) -> None:
    page = await shop.service.search(Search(sort=Sort.NAME), limit=2, cursor=None)
    assert (
        await failure(
            shop.service.search(Search(sort=Sort.PRICE), limit=2, cursor=page.next_cursor)
        )
    ).kind is Kind.INVALID


def test_folding_takes_accents_and_case_away() -> None:
    assert fold("Crème BRÛLÉE, straße ﬁn Ångström") == "creme brulee, strasse fin angstrom"


@pytest.mark.parametrize(
    ("singular", "plural"),
    [
        ("mug", "mugs"),
        ("glass", "glasses"),
        ("box", "boxes"),
        ("brush", "brushes"),
        ("berry", "berries"),
        ("toy", "toys"),
        ("vase", "vases"),
        ("wheelbarrow", "wheelbarrows"),
        ("refrigeratorlight", "refrigeratorlights"),
    ],
)
async def test_singular_and_plural_find_each_other(
    tmp_path: Path, singular: str, plural: str
) -> None:
    entries = [entry("one", name=f"Red {singular}"), entry("two", name=f"Red {plural}")]
    async with open_shop(tmp_path, entries=entries) as shop:
        for word in (singular, plural):
            for query in (word, f"{word} red"):
                assert set(await ids(shop, Search(query=query))) == {"one", "two"}


async def test_every_product_is_found_by_its_own_name(shop: ServedCatalogue) -> None:
    for one in ENTRIES:
        assert one["id"] in await ids(shop, Search(query=one["name"]))
        for length in range(2, len(one["name"].split()[0]) + 1):
            assert one["id"] in await ids(shop, Search(query=one["name"][:length]))
