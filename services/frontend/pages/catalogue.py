"""Home, the catalogue, a product, and the products' pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from services.common.dependency_injection import provided
from services.common.errors import Kind, ShopError
from services.common.fields import is_slug
from services.common.limits import MAX_CURSOR_LENGTH, MAX_QUERY_LENGTH
from services.frontend.clients import ProductClient
from services.frontend.model import SORTS, Article, CataloguePage, Filters, cents_of
from services.frontend.pages.site import Site, SiteDependency
from services.frontend.rendering import BETA
from services.frontend.security import PICTURE_POLICY
from services.frontend.visit import Visit, VisitDependency

_HOME_LIMIT = 8
_PAGE_LIMIT = 24
# On one page of the shop, each of _PAGE_LIMIT.
_MAX_PAGES = 10

_FOREVER = "public, max-age=31536000, immutable"
_FOR_NOW = "public, max-age=300"

ProductsDependency = Annotated[ProductClient, provided(ProductClient)]

routes = APIRouter(include_in_schema=False)


@routes.get("/")
async def home(visit: VisitDependency, site: SiteDependency) -> Response:
    page = await site.storefront.home(site.page_size(_HOME_LIMIT))
    seen = await _recently_seen(site, visit)
    return site.renderer.page(visit, "home.html", page=page, seen=seen)


@routes.get("/products")
async def browse(
    visit: VisitDependency,
    site: SiteDependency,
    q: str = "",
    category: str = "",
    sort: str = "",
    min_price: str = "",
    max_price: str = "",
    in_stock: str = "",
    cursor: Annotated[str, Query(max_length=MAX_CURSOR_LENGTH)] = "",
    pages: Annotated[int, Query(ge=1, le=_MAX_PAGES)] = 1,
) -> Response:
    query = q.strip()[:MAX_QUERY_LENGTH]
    filters = Filters(cents_of(min_price), cents_of(max_price), in_stock == "yes")
    chosen = {
        "q": query,
        "category": category if is_slug(category) else "",
        "sort": sort if sort in SORTS else "",
        "min_price": min_price if filters.min_price_cents is not None else "",
        "max_price": max_price if filters.max_price_cents is not None else "",
        "in_stock": "yes" if filters.in_stock else "",
    }
    wrong_prices = [
        text[:20] for text in (min_price, max_price) if text.strip() and cents_of(text) is None
    ]
    page = await site.storefront.browse(
        query=query,
        category=chosen["category"],
        sort=chosen["sort"],
        filters=filters,
        cursor=cursor,
        limit=site.page_size(_PAGE_LIMIT),
        pages=pages,
    )
    return site.renderer.page(
        visit,
        "products.html",
        page=page,
        chosen=chosen,
        more=_more(chosen, page, cursor, pages),
        sorts=SORTS,
        is_first=not cursor,
        wrong_prices=wrong_prices,
        are_limits_crossed=filters.are_limits_crossed,
    )


@routes.get("/products/{product_id}")
async def product(visit: VisitDependency, site: SiteDependency, product_id: str) -> Response:
    if not is_slug(product_id):
        raise _no_such_product()
    found = await site.storefront.show(product_id)
    seen = await _recently_seen(site, visit, product_id)
    visit.see(product_id)
    return site.renderer.page(visit, "product.html", product=found, seen=seen)


@routes.get("/pictures/{picture}")
async def picture(request: Request, products: ProductsDependency, picture: str) -> Response:
    product_id = picture.removesuffix(".svg")
    if product_id == picture or not is_slug(product_id):
        raise _no_such_product()
    body = (await products.picture(product_id)).body
    headers = {
        "etag": f'"{hashlib.sha256(body).hexdigest()[:20]}"',
        "cache-control": _FOREVER if "v" in request.query_params else _FOR_NOW,
        "content-security-policy": PICTURE_POLICY,
    }
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="image/svg+xml", headers=headers)


def _more(
    chosen: Mapping[str, str], page: CataloguePage, cursor: str, pages: int
) -> Mapping[str, str] | None:
    """The query of a page that shows more: these products and the next ones, so that whoever comes
    back to it finds both; once these are many, the next ones alone. None when these are the last.
    """
    if page.next_cursor is None:
        return None
    if pages < _MAX_PAGES:
        return {**chosen, "cursor": cursor, "pages": str(pages + 1)}
    return {**chosen, "cursor": page.next_cursor, "pages": ""}


async def _recently_seen(site: Site, visit: Visit, but: str = "") -> Sequence[Article]:
    if site.renderer.variant != BETA:
        return ()
    return await site.storefront.names([seen for seen in visit.seen if seen != but])


def _no_such_product() -> ShopError:
    return ShopError(Kind.NOT_FOUND, "unknown-product", "There is no such product.")
