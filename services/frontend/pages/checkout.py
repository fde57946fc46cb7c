"""The checkout: first where to, then how to pay, then one order. Whoever has no account gives an
e-mail address, too, and is a guest from then on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.responses import Response

from services.common import error_codes
from services.common.dependency_injection import provided
from services.common.errors import HTTP_STATUS, Kind, ShopError
from services.frontend.clients import AuthClient
from services.frontend.forms import ADDRESS_FIELDS, Form, FormDependency
from services.frontend.model import (
    ACCEPTED_METHODS,
    DECLINED_METHODS,
    PAYMENT_METHODS,
    AddressBookEntry,
    Cart,
    Draft,
    PostalAddress,
)
from services.frontend.pages.site import Site, SiteDependency, begin_session, require_session
from services.frontend.refusals import explained
from services.frontend.service import is_away
from services.frontend.session import CustomerSessions
from services.frontend.visit import Visit, VisitDependency

_DRAFT = "draft"
_DRAFT_SECONDS = 2 * 3600
_SHIPPING = ("standard", "express")

_Auth = Annotated[AuthClient, provided(AuthClient)]
_Sessions = Annotated[CustomerSessions, provided(CustomerSessions)]

routes = APIRouter(include_in_schema=False)


@routes.get("/checkout")
async def show(
    visit: VisitDependency, site: SiteDependency, address: str = "", change: str = ""
) -> Response:
    if not visit.cart.lines:
        return site.renderer.redirect(visit, "/cart")
    if not visit.looks_logged_in:
        return await _delivery_page(site, visit, (), Form({}))
    require_session(visit)
    saved = await site.storefront.addresses()
    chosen = next((one for one in saved or () if one.id == address), None)
    if chosen is None and saved and len(saved) == 1 and not (address or change):
        chosen = saved[0]
    if chosen is None:
        return await _delivery_page(site, visit, saved, Form({}))
    form = Form(chosen.model_dump(include=set(ADDRESS_FIELDS)))
    form.address()
    if form.errors:  # saved before today's rules, by which it would be refused in the end
        return await _delivery_page(site, visit, saved, form)
    return await _payment_page(site, visit, _new_draft(site, visit, visit.cart, chosen))


@routes.post("/checkout/address")
async def choose_address(
    visit: VisitDependency,
    site: SiteDependency,
    form: FormDependency,
    auth: _Auth,
    sessions: _Sessions,
) -> Response:
    is_stranger = not visit.looks_logged_in
    if not is_stranger:
        require_session(visit)
    if not visit.cart.lines:
        return site.renderer.redirect(visit, "/cart")
    email = form.email("email") if is_stranger else ""
    address = form.address()
    if form.errors:
        saved = () if is_stranger else await site.storefront.addresses()
        return await _delivery_page(site, visit, saved, form, status=422)
    if is_stranger:
        try:
            tokens = await auth.open_guest(email, address.name)
        except ShopError as error:
            if is_away(error):
                form.errors["email"] = (
                    "Ordering without an account is taking a short break. "
                    "Please try again in a moment."
                )
            else:
                form.refused(error, "email")
            return await _delivery_page(site, visit, (), form, status=HTTP_STATUS[error.kind])
        await begin_session(visit, sessions, tokens)
    kept = await _kept(site, form, address)
    if form.errors:
        return await _delivery_page(site, visit, (), form, status=422)
    if kept is not None:
        return site.renderer.redirect(visit, f"/checkout?address={kept.id}")
    return await _payment_page(site, visit, _new_draft(site, visit, visit.cart, address))


@routes.post("/checkout")
async def place(visit: VisitDependency, site: SiteDependency, form: FormDependency) -> Response:
    caller = require_session(visit).caller if visit.looks_logged_in else None
    draft = _opened(visit, form.raw("draft"))
    if caller is None or draft is None or draft.user_id != caller.user_id:
        visit.tell_next("That page was too old. Please check your order again.", "bad")
        return site.renderer.redirect(visit, "/checkout")
    method = form.raw("payment_method")
    shipping = form.raw("shipping") if form.raw("shipping") in _SHIPPING else _SHIPPING[0]
    if method not in PAYMENT_METHODS:
        wrong = {"payment_method": "Choose how you want to pay."}
        return await _payment_page(site, visit, draft, status=422, errors=wrong, shipping=shipping)
    try:
        order = await site.storefront.place(draft, payment_method=method, shipping=shipping)
    except ShopError as error:
        if error.kind is Kind.UNAUTHENTICATED:
            raise
        return await _refused(site, visit, draft, error, method=method, shipping=shipping)
    visit.take_out(draft)
    return site.renderer.redirect(visit, f"/orders/{order.order_id}")


async def _refused(
    site: Site, visit: Visit, draft: Draft, error: ShopError, *, method: str, shipping: str
) -> Response:
    """The payment page again, with what went wrong.

    After a refusal that is final, the next attempt is a new order, under a new key. After an outage
    nobody knows whether there is an order: the next attempt bears the same key, so that it cannot
    become a second one.
    """
    refusal = explained(error)
    if refusal.is_final:
        draft = _new_draft(site, visit, draft.cart, draft.address)
    return await _payment_page(
        site,
        visit,
        draft,
        status=refusal.status,
        problem=refusal.text,
        shipping=shipping,
        method="" if refusal.is_final else method,
    )


async def _delivery_page(
    site: Site,
    visit: Visit,
    saved: Sequence[AddressBookEntry] | None,
    form: Form,
    *,
    status: int = 200,
) -> Response:
    values = form.kept(("email", *ADDRESS_FIELDS))
    if not form.values and visit.caller is not None:
        values["name"] = visit.caller.name
    guest = visit.caller if visit.caller is not None and visit.caller.is_guest else None
    return site.renderer.page(
        visit,
        "checkout_address.html",
        status=status,
        saved=saved,
        contact=await site.customers.contact_email(guest) if guest else "",
        values=values,
        errors=form.errors,
    )


async def _payment_page(
    site: Site,
    visit: Visit,
    draft: Draft,
    *,
    status: int = 200,
    errors: Mapping[str, str] | None = None,
    problem: str = "",
    shipping: str = _SHIPPING[0],
    method: str = "",
) -> Response:
    try:
        view = await site.storefront.payment(draft)
    except ShopError as error:
        if error.code != error_codes.WEIGHT_OUT_OF_RANGE:
            raise
        visit.tell_next(f"{error.detail} Your cart is too heavy: please take something out.", "bad")
        return site.renderer.redirect(visit, "/cart")
    if not view.basket.is_orderable and status == 200:
        return site.renderer.redirect(visit, "/cart")
    return site.renderer.page(
        visit,
        "checkout_payment.html",
        status=status,
        view=view,
        contact=await site.customers.contact_email(require_session(visit).caller),
        sealed=visit.seal.close(_DRAFT, draft.showing(view.totals).model_dump(mode="json")),
        errors=errors or {},
        problem=problem,
        shipping=shipping,
        method=method,
        accepted=ACCEPTED_METHODS,
        declined=DECLINED_METHODS,
    )


def _new_draft(site: Site, visit: Visit, cart: Cart, address: PostalAddress) -> Draft:
    caller = require_session(visit).caller
    return site.storefront.draft(user_id=caller.user_id, cart=cart, address=address)


def _opened(visit: Visit, sealed: str) -> Draft | None:
    """The draft that a form brought back; None when it is not one of ours, or too old."""
    try:
        return Draft.model_validate(visit.seal.open(_DRAFT, sealed, _DRAFT_SECONDS))
    except ValidationError:
        return None


async def _kept(site: Site, form: Form, address: PostalAddress) -> AddressBookEntry | None:
    """The address as it is saved; None when it is not, because it is refused, which goes to the
    form's errors, or because it need not be.
    """
    try:
        return await site.storefront.keep_address(address)
    except ShopError as error:
        if error.kind is Kind.INVALID:
            form.refused(error, "name")
        elif error.kind is not Kind.CONFLICT:  # a full address book: the order can do without
            raise
        return None
