"""The customer's orders."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from services.common.errors import Kind, ShopError
from services.common.fields import is_order_id
from services.common.limits import MAX_CURSOR_LENGTH, MAX_QUERY_LENGTH
from services.frontend.forms import FormDependency
from services.frontend.pages.site import Site, SiteDependency, require_session
from services.frontend.service import OrderTracking
from services.frontend.visit import Visit, VisitDependency

_PAGE_LIMIT = 10
_NOT_PLACED = "not-placed"

routes = APIRouter(include_in_schema=False)


@routes.get("/orders")
async def history(
    visit: VisitDependency,
    site: SiteDependency,
    show: str = "",
    q: str = "",
    cursor: Annotated[str, Query(max_length=MAX_CURSOR_LENGTH)] = "",
) -> Response:
    require_session(visit)
    query = q.strip()[:MAX_QUERY_LENGTH]
    are_attempts = show == _NOT_PLACED and not query
    page = await site.customers.orders(
        query=query,
        attempts=None if query else are_attempts,
        cursor=cursor,
        limit=site.page_size(_PAGE_LIMIT),
    )
    return site.renderer.page(
        visit,
        "orders.html",
        page=page,
        listing={"show": _NOT_PLACED if are_attempts else "", "q": query},
        is_first=not cursor,
    )


@routes.get("/orders/{order_id}")
async def show(visit: VisitDependency, site: SiteDependency, order_id: str) -> Response:
    view = await _followed(site, visit, order_id)
    contact = await site.customers.contact_email(require_session(visit).caller)
    return site.renderer.page(visit, "order.html", view=view, contact=contact)


@routes.get("/orders/{order_id}/status")
async def status(visit: VisitDependency, site: SiteDependency, order_id: str) -> Response:
    view = await _followed(site, visit, order_id)
    return site.renderer.fragment(visit, "order_status.html", view=view)


@routes.post("/orders/{order_id}/cancel")
async def cancel(
    visit: VisitDependency, site: SiteDependency, order_id: str, _: FormDependency
) -> Response:
    require_session(visit)
    try:
        order = await site.customers.cancel(_checked(order_id))
    except ShopError as error:
        if error.kind is not Kind.CONFLICT:
            raise
        visit.tell_next(error.detail, "bad")
    else:
        told = (
            "Your order is cancelled and you get your money back."
            if order.is_settled
            else "We are cancelling your order."
        )
        visit.tell_next(told, "good")
    return site.renderer.redirect(visit, f"/orders/{order_id}")


async def _followed(site: Site, visit: Visit, order_id: str) -> OrderTracking:
    require_session(visit)
    return await site.customers.follow(_checked(order_id))


def _checked(order_id: str) -> str:
    if not is_order_id(order_id):
        raise ShopError(Kind.NOT_FOUND, "unknown-order", "There is no such order.")
    return order_id
