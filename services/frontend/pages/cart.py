"""The cart."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from services.frontend.forms import Form, FormDependency
from services.frontend.model import Cart, CartRefused
from services.frontend.pages.site import Site, SiteDependency
from services.frontend.security import local_path
from services.frontend.visit import VisitDependency

routes = APIRouter(include_in_schema=False)


@routes.get("/cart")
async def show(visit: VisitDependency, site: SiteDependency) -> Response:
    basket = await site.storefront.basket(visit.cart)
    return site.renderer.page(visit, "cart.html", basket=basket)


@routes.post("/cart")
async def change(visit: VisitDependency, site: SiteDependency, form: FormDependency) -> Response:
    product_id = form.product_id()
    if product_id:
        try:
            cart, told = await _changed(site, visit.cart, product_id, form)
            visit.put_cart(cart)
            visit.tell_next(told, "good")
        except CartRefused as limit:
            visit.tell_next(str(limit), "bad")
    return site.renderer.redirect(visit, local_path(form.raw("next"), "/cart"))


async def _changed(site: Site, cart: Cart, product_id: str, form: Form) -> tuple[Cart, str]:
    """The cart after the form, and what to say.

    :raises CartRefused: it cannot be so; the cart stays as it is.
    """
    if form.raw("action") == "remove":
        return cart.without(product_id), "Removed from your cart."
    quantity = form.quantity()
    if form.raw("action") == "update":
        changed, told = cart.with_quantity(product_id, quantity), "Your cart is up to date."
    else:
        if quantity == 0:
            raise CartRefused("Choose how many you want: at least 1.")
        changed, told = cart.with_added(product_id, quantity), "Added to your cart."
    wanted = changed.quantity_of(product_id)
    if wanted > cart.quantity_of(product_id):
        available = await site.storefront.available(product_id)
        if available is not None and wanted > available:
            raise CartRefused(_too_few(available))
    return changed, told


def _too_few(available: int) -> str:
    match available:
        case 0:
            left = "This is sold out."
        case 1:
            left = "Only 1 is left."
        case _:
            left = f"Only {available} are left."
    return f"{left} Your cart has not changed."
