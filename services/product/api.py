"""The catalogue over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from functools import lru_cache
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Header, Path, Query, Response
from pydantic import BaseModel, Field

from services.common.dependency_injection import provided
from services.common.errors import Kind
from services.common.fields import MAX_SLUG_LENGTH, SLUG
from services.common.limits import MAX_CURSOR_LENGTH, MAX_PRODUCTS_PAGE, MAX_QUERY_LENGTH
from services.common.protocols.problem import documented
from services.common.settings import ProcessSettings
from services.product.model import MAX_PRICE_CENTS, Sort
from services.product.service import Offer, ProductService, Search

DEFAULT_PAGE = 24
_PICTURE_SECONDS = 3600
# What is made of an offer is made once, as long as the offer is kept.
_KEPT_ANSWERS = 1024
_SVG = "image/svg+xml"


def _is_none(value: object) -> bool:
    return value is None


class ProductItem(BaseModel):
    """A product in a list."""

    id: str = Field(examples=["stovetop-kettle"])
    name: str = Field(examples=["Stovetop Kettle 1.8 L"])
    category: str = Field(examples=["kitchen"])
    brand: str = Field(examples=["Hearth & Fable"])
    blurb: str = Field(examples=["Enamelled steel kettle with an oak grip that stays cool."])
    price_cents: int = Field(examples=[5490])
    currency: str = Field(examples=["EUR"])
    rating: float = Field(ge=1, le=5, examples=[4.7])
    reviews: int = Field(examples=[312])
    available: int | None = Field(
        description="How many can be ordered now; null when that is not known.", examples=[86]
    )
    picture: str = Field(
        description="Path of the picture.", examples=["/api/products/stovetop-kettle/picture"]
    )
    version: str = Field(description="Which version of the service says so.", examples=["v1"])
    badges: list[str] | None = Field(
        default=None,
        exclude_if=_is_none,
        description="What stands out. Since v2.",
        examples=[["Bestseller"]],
    )
    sustainability: str | None = Field(
        default=None, exclude_if=_is_none, description="From A to E. Since v2.", examples=["B"]
    )


class ProductDetails(ProductItem):
    """One product with all that is known of it."""

    description: str = Field(examples=["A generous kettle in deep teal enamel, for all hobs."])
    tags: list[str] = Field(examples=[["kettle", "enamel"]])
    details: dict[str, str] = Field(examples=[{"Material": "Enamelled steel, oiled oak"}])
    weight_grams: int = Field(examples=[1150])
    added: date = Field(description="When the shop began to sell it.", examples=["2025-09-12"])
    related: list[ProductItem] | None = Field(
        default=None,
        exclude_if=_is_none,
        description="The best rated others of its department, when they were asked for.",
    )


class ProductPage(BaseModel):
    """A page of products."""

    items: list[ProductItem]
    next_cursor: str | None = Field(
        description="Continues behind this page; null at the end.", examples=[None]
    )
    suggestion: str | None = Field(
        default=None,
        description="The query that these products answer, when nothing fits the one asked for and"
        " it looks like a typing error.",
        examples=[None],
    )
    arrivals: list[ProductItem] | None = Field(
        default=None,
        exclude_if=_is_none,
        description="The newest products, when they were asked for.",
    )
    version: str = Field(description="Which version of the service answered.", examples=["v1"])


class CategoryItem(BaseModel):
    """A department of the shop."""

    id: str = Field(examples=["kitchen"])
    name: str = Field(examples=["Kitchen"])
    blurb: str = Field(examples=["Honest tools and tableware for cooking."])
    count: int = Field(description="How many products it has.", examples=[11])


class CategoryList(BaseModel):
    """All departments, in the shop's order."""

    items: list[CategoryItem]


ProductIdPath = Annotated[str, Path(max_length=MAX_SLUG_LENGTH, examples=["stovetop-kettle"])]
PriceLimit = Annotated[int | None, Query(ge=0, le=MAX_PRICE_CENTS)]

_PICTURE_HEADERS = {
    "cache-control": f"public, max-age={_PICTURE_SECONDS}",
    # A picture that is opened by itself is a document, and an SVG could have scripts in it.
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
    "x-content-type-options": "nosniff",
}
_PICTURE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The picture.", "content": {_SVG: {}}},
    304: {"description": "The caller has it already."},
}


_ProductService = Annotated[ProductService, provided(ProductService)]
_Process = Annotated[ProcessSettings, provided(ProcessSettings)]

router = APIRouter(prefix="/api", tags=["catalogue"])


@router.get(
    "/products",
    operation_id="search_products",
    summary="Search the catalogue",
    response_model=ProductPage,
    responses=documented(),
)
async def search_products(
    process: _Process,
    service: _ProductService,
    q: Annotated[
        str,
        Query(
            max_length=MAX_QUERY_LENGTH,
            description="Words that must all occur; the last may be only begun.",
            examples=["oak board"],
        ),
    ] = "",
    category: Annotated[str | None, Query(max_length=MAX_SLUG_LENGTH, pattern=SLUG)] = None,
    sort: Sort | None = None,
    min_price_cents: PriceLimit = None,
    max_price_cents: PriceLimit = None,
    in_stock: Annotated[
        bool, Query(description="Leave out what is sold out; unknown stock stays in.")
    ] = False,
    limit: Annotated[int, Query(ge=1, le=MAX_PRODUCTS_PAGE)] = DEFAULT_PAGE,
    cursor: Annotated[
        str | None,
        Query(max_length=MAX_CURSOR_LENGTH, description="The page before's `next_cursor`."),
    ] = None,
    arrivals: Annotated[
        int,
        Query(
            ge=0,
            le=MAX_PRODUCTS_PAGE,
            description="How many of the newest products to add, whatever fits: for a first page.",
        ),
    ] = 0,
) -> Response:
    search = Search(q, category, sort, min_price_cents, max_price_cents, in_stock)
    page = await service.search(search, limit=limit, cursor=cursor, arrivals=arrivals)
    version = process.version
    answer: dict[str, object] = {
        "items": [_item_json(offer, version) for offer in page.offers],
        "next_cursor": page.next_cursor,
        "suggestion": page.suggestion,
        "version": version,
    }
    if page.arrivals is not None:
        answer["arrivals"] = [_item_json(offer, version) for offer in page.arrivals]
    return _json(answer)


@router.get(
    "/products/{product_id}",
    operation_id="get_product",
    summary="One product",
    response_model=ProductDetails,
    responses=documented(Kind.NOT_FOUND),
)
async def get_product(
    product_id: ProductIdPath,
    process: _Process,
    service: _ProductService,
    related: Annotated[
        int,
        Query(
            ge=0,
            le=MAX_PRODUCTS_PAGE,
            description="How many others of its department to add at most.",
        ),
    ] = 0,
) -> Response:
    offer, *others = await service.offers(product_id, related=related)
    answer = dict(_details(offer, process.version))
    if related:
        answer["related"] = [_item_json(other, process.version) for other in others]
    return _json(answer)


@router.get(
    "/products/{product_id}/picture",
    operation_id="get_picture",
    summary="A product's picture, as SVG",
    response_class=Response,
    responses={**documented(Kind.NOT_FOUND), **_PICTURE_RESPONSES},
)
async def get_picture(
    product_id: ProductIdPath,
    service: _ProductService,
    if_none_match: Annotated[str | None, Header(max_length=1000)] = None,
) -> Response:
    picture = service.picture(product_id)
    headers = {**_PICTURE_HEADERS, "etag": picture.etag}
    if _matches(if_none_match, picture.etag):
        return Response(status_code=304, headers=headers)
    return Response(picture.svg, media_type=_SVG, headers=headers)


@router.get(
    "/categories",
    operation_id="list_categories",
    summary="The departments of the shop",
    responses=documented(),
)
async def list_categories(service: _ProductService) -> CategoryList:
    return CategoryList(
        items=[
            CategoryItem(id=category.id, name=category.name, blurb=category.blurb, count=count)
            for category, count in service.categories()
        ]
    )


def _json(answer: Mapping[str, object]) -> Response:
    """An answer out of parts that were checked against their models when they were made."""
    return Response(orjson.dumps(answer), media_type="application/json")


@lru_cache(_KEPT_ANSWERS)
def _item_json(offer: Offer, version: str) -> orjson.Fragment:
    return orjson.Fragment(ProductItem(**_item(offer, version)).model_dump_json())


@lru_cache(_KEPT_ANSWERS)
def _details(offer: Offer, version: str) -> Mapping[str, object]:
    product = offer.product
    return ProductDetails(
        **_item(offer, version),
        description=product.description,
        tags=list(product.tags),
        details=product.details,
        weight_grams=product.weight_grams,
        added=date.fromisoformat(product.added),
    ).model_dump(mode="json")


def _item(offer: Offer, version: str) -> dict[str, Any]:
    product = offer.product
    return {
        "id": product.id,
        "name": product.name,
        "category": product.category,
        "brand": product.brand,
        "blurb": offer.blurb,
        "price_cents": product.price.cents,
        "currency": product.price.currency,
        "rating": product.rating,
        "reviews": product.reviews,
        "available": offer.available,
        "picture": f"/api/products/{product.id}/picture",
        "version": version,
        "badges": offer.badges,
        "sustainability": offer.sustainability,
    }


def _matches(if_none_match: str | None, etag: str) -> bool:
    """RFC 9110, 13.1.2: a list of entity tags, compared weakly, or ``*``."""
    if if_none_match is None:
        return False
    tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return "*" in tags or etag in tags
