"""The HTTP API: shapes, refusals, pictures."""

from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, urlencode

import pytest

from services.pb import product_pb2 as pb
from services.product.api import ProductDetails, ProductPage
from services.product.rpc import ProductRpc
from tests.unit.asgi import AsgiAnswer, ask
from tests.unit.product.shop import ServedCatalogue, entry, open_shop

# The servicers leave their context to the server's interceptor.
NO_CONTEXT = cast("Any", None)


async def get(shop: ServedCatalogue, path: str, **query: str) -> AsgiAnswer:
    return await ask(shop.app, "GET", f"{path}?{urlencode(query)}" if query else path)


async def get_picture(shop: ServedCatalogue, product_id: str, known: str) -> AsgiAnswer:
    target = f"/api/products/{product_id}/picture"
    return await ask(shop.app, "GET", target, headers={"if-none-match": known})


async def test_a_page_of_products(shop: ServedCatalogue) -> None:
    answer = await get(shop, "/api/products", q="mugs")
    assert answer.status == 200
    assert answer.json() == {
        "items": [
            {
                "id": "mugs",
                "name": "Stoneware Mugs",
                "category": "kitchen",
                "brand": "Hearth",
                "blurb": "A thing of use.",
                "price_cents": 3200,
                "currency": "EUR",
                "rating": 4.0,
                "reviews": 10,
                "available": 200,
                "picture": "/api/products/mugs/picture",
                "version": "v1",
            }
        ],
        "next_cursor": None,
        "suggestion": None,
        "version": "v1",
    }


async def test_what_a_page_needs_comes_in_one_answer(shop: ServedCatalogue) -> None:
    answer = await get(shop, "/api/products", sort="rating", limit="1", arrivals="2")
    ProductPage.model_validate(answer.json(), extra="forbid")
    first = answer.json()
    assert [item["id"] for item in first["items"]] == ["oak-board"]
    assert [item["id"] for item in first["arrivals"]] == ["blanket", "mugs"]
    answer = await get(shop, "/api/products/mugs", related="1")
    ProductDetails.model_validate(answer.json(), extra="forbid")
    product = answer.json()
    assert [item["id"] for item in product["related"]] == ["oak-board"]
    assert "related" not in (await get(shop, "/api/products/mugs")).json()


async def test_an_answer_follows_the_stock(shop: ServedCatalogue) -> None:
    for available in (200, 199, 200):
        shop.stock.figures["mugs"] = available
        assert (await get(shop, "/api/products/mugs")).json()["available"] == available
        [item] = (await get(shop, "/api/products", q="mugs")).json()["items"]
        assert item["available"] == available


async def test_the_second_edition_adds_two_fields(tmp_path: Path) -> None:
    async with open_shop(tmp_path, version="v2") as shop:
        [item] = (await get(shop, "/api/products", q="brulee")).json()["items"]
    assert (item["version"], item["badges"], item["sustainability"]) == (
        "v2",
        ["Bestseller", "Few left"],
        "D",
    )


async def test_pages_follow_each_other(shop: ServedCatalogue) -> None:
    first = (await get(shop, "/api/products", sort="name", limit="3")).json()
    assert [item["id"] for item in first["items"]] == ["crema-set", "oak-board", "lamp"]
    cursor = first["next_cursor"]
    second = (await get(shop, "/api/products", sort="name", limit="3", cursor=cursor)).json()
    assert [item["id"] for item in second["items"]] == ["mugs", "blanket"]
    assert second["next_cursor"] is None


async def test_unknown_availability_is_null(shop: ServedCatalogue) -> None:
    shop.stock.out = True
    answer = await get(shop, "/api/products")
    assert answer.status == 200
    assert {item["available"] for item in answer.json()["items"]} == {None}


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "61"},
        {"limit": "many"},
        {"sort": "colour"},
        {"cursor": "nonsense"},
        {"cursor": "WyJieV9uYW1lIiw"},
        {"cursor": "x" * 401},
        {"q": "x" * 101},
        {"category": "../etc"},
        {"sort": "price", "min_price_cents": "-1"},
        {"in_stock": "perhaps"},
        {"min_price": "500"},
    ],
)
async def test_wrong_queries_are_refused(shop: ServedCatalogue, query: dict[str, str]) -> None:
    answer = await get(shop, "/api/products", **query)
    assert answer.status == 422
    assert answer.headers["content-type"] == "application/problem+json"


async def test_one_product(shop: ServedCatalogue) -> None:
    found = (await get(shop, "/api/products/lamp")).json()
    assert found["description"] == "It is of use, and that is all there is to say."
    assert found["details"] == {"Material": "ABS plastic", "Size": "30"}
    assert (found["tags"], found["weight_grams"], found["added"], found["available"]) == (
        ["useful"],
        500,
        "2024-02-01",
        0,
    )
    assert "badges" not in found


@pytest.mark.parametrize("product_id", ["no-such", "LAMP", "a b", "%00", quote("löffel")])
@pytest.mark.parametrize("suffix", ["", "/picture"])
async def test_an_unknown_product_is_not_found(
    shop: ServedCatalogue, product_id: str, suffix: str
) -> None:
    answer = await get(shop, f"/api/products/{product_id}{suffix}")
    assert answer.status == 404
    assert answer.json()["code"] == "unknown-product"


async def test_categories(shop: ServedCatalogue) -> None:
    assert (await get(shop, "/api/categories")).json() == {
        "items": [
            {"id": "kitchen", "name": "Kitchen", "blurb": "For cooks.", "count": 3},
            {"id": "home", "name": "Home & Living", "blurb": "For dwellers.", "count": 2},
        ]
    }


async def test_a_picture_cannot_run_anything(shop: ServedCatalogue) -> None:
    answer = await get(shop, "/api/products/lamp/picture")
    assert answer.status == 200
    assert answer.body == b'<svg xmlns="http://www.w3.org/2000/svg"><title>lamp</title></svg>'
    assert answer.headers["content-type"] == "image/svg+xml"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert (
        answer.headers["content-security-policy"] == "default-src 'none'; style-src 'unsafe-inline'"
    )
    assert answer.headers["cache-control"] == "public, max-age=3600"


async def test_a_picture_that_the_caller_has_is_not_sent_again(shop: ServedCatalogue) -> None:
    etag = (await get(shop, "/api/products/lamp/picture")).headers["etag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = await get_picture(shop, "lamp", known)
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", etag)
    other = await get_picture(shop, "mugs", etag)
    assert other.status == 200


async def test_text_from_the_catalogue_is_given_as_it_is(tmp_path: Path) -> None:
    name = "<script>alert('ü')</script>"
    async with open_shop(tmp_path, entries=[entry("thing", name=name)]) as shop:
        assert (await get(shop, "/api/products/thing")).json()["name"] == name


async def test_prices_and_weights_over_grpc(shop: ServedCatalogue) -> None:
    request = pb.GetProductsRequest(product_ids=["mugs", "blanket"])
    answer = await ProductRpc(shop.service).GetProducts(request, NO_CONTEXT)
    assert [
        (one.product_id, one.name, one.price.cents, one.price.currency, one.weight_grams)
        for one in answer.products
    ] == [
        ("mugs", "Stoneware Mugs", 3200, "EUR", 500),
        ("blanket", "Wool Blanket", 7900, "EUR", 1400),
    ]
