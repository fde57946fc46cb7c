"""The cart."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from services.frontend.forms import Form, FormDependency
from services.frontend.model import Cart, CartLimitReached
from services.frontend.pages.site import SiteDependency
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
            cart, told = _changed(visit.cart, product_id, form)
            visit.put_cart(cart)
            visit.tell_next(told, "good")
        except CartLimitReached as limit:
            visit.tell_next(str(limit), "bad")
    return site.renderer.redirect(visit, local_path(form.raw("next"), "/cart"))


def _changed(cart: Cart, product_id: str, form: Form) -> tuple[Cart, str]:
    match form.raw("action"):
        case "remove":
            return cart.without(product_id), "Removed from your cart."
        case "update":
            quantity = form.number("quantity", default=cart.quantity_of(product_id))
            return cart.with_quantity(product_id, quantity), "Your cart is up to date."
        case _:
            quantity = max(1, form.number("quantity", default=1))
            return cart.with_added(product_id, quantity), "Added to your cart."
