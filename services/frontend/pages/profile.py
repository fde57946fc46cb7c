"""The customer's profile and inbox."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from services.common.dependency_injection import provided
from services.common.errors import HTTP_STATUS, Kind, ShopError
from services.common.fields import isolated
from services.common.limits import MAX_CURSOR_LENGTH
from services.frontend.clients import AuthClient
from services.frontend.cookies import Cookie
from services.frontend.forms import (
    ADDRESS_FIELDS,
    Form,
    FormDependency,
)
from services.frontend.pages.site import Site, SiteDependency, leaves_orders, require_session
from services.frontend.security import local_path
from services.frontend.session import CustomerSessions
from services.frontend.visit import Visit, VisitDependency

_INBOX_LIMIT = 20

_Auth = Annotated[AuthClient, provided(AuthClient)]
_Sessions = Annotated[CustomerSessions, provided(CustomerSessions)]

routes = APIRouter(include_in_schema=False)


@routes.get("/profile")
async def profile(visit: VisitDependency, site: SiteDependency) -> Response:
    return await _shown(site, visit, Form({}))


@routes.post("/profile")
async def rename(
    visit: VisitDependency, site: SiteDependency, form: FormDependency, sessions: _Sessions
) -> Response:
    require_session(visit)
    name = form.person("full_name", "your name")
    if form.errors:
        return await _shown(site, visit, form, 422)
    try:
        await site.customers.rename(name)
    except ShopError as error:
        if error.kind not in {Kind.CONFLICT, Kind.INVALID}:
            raise
        form.refused(error, "full_name", {"name": "full_name"})
        return await _shown(site, visit, form, HTTP_STATUS[error.kind])
    # Name and groups stand in the token, so it takes a new one for them to be known.
    visit.enter(await sessions.renew(visit.jar))
    visit.tell_next("Your name is saved.", "good")
    return site.renderer.redirect(visit, "/profile")


@routes.post("/profile/email")
async def change_guest_email(
    visit: VisitDependency, site: SiteDependency, form: FormDependency, auth: _Auth
) -> Response:
    if not require_session(visit).caller.is_guest:
        return site.renderer.redirect(visit, "/profile")
    email = form.email("email")
    if form.errors:
        return await _shown(site, visit, form, 422)
    try:
        await auth.change_guest_email(visit.jar.get(Cookie.REFRESH) or "", email)
    except ShopError as error:
        if error.kind not in {Kind.CONFLICT, Kind.INVALID}:
            raise
        form.refused(error, "email")
        return await _shown(site, visit, form, HTTP_STATUS[error.kind])
    visit.tell_next(f"Your e-mail address is {isolated(email)} now.", "good")
    return site.renderer.redirect(visit, local_path(form.raw("next"), "/profile"))


@routes.post("/profile/beta")
async def join_beta(
    visit: VisitDependency, site: SiteDependency, form: FormDependency, sessions: _Sessions
) -> Response:
    require_session(visit)
    joins = form.raw("beta") == "join"
    await site.customers.join_beta(joins)
    visit.enter(await sessions.renew(visit.jar))
    visit.tell_next(
        "You are in the beta programme now." if joins else "You have left the beta programme.",
        "good",
    )
    return site.renderer.redirect(visit, "/profile")


@routes.post("/profile/addresses")
async def add_address(
    visit: VisitDependency, site: SiteDependency, form: FormDependency
) -> Response:
    require_session(visit)
    address = form.address()
    if form.errors:
        return await _shown(site, visit, form, 422)
    try:
        await site.customers.add_address(address)
    except ShopError as error:
        if error.kind is Kind.INVALID:
            form.refused(error, "name")
            return await _shown(site, visit, form, 422)
        if error.kind is not Kind.CONFLICT:
            raise
        visit.tell_next(error.detail, "bad")
    else:
        visit.tell_next("The address is in your address book.", "good")
    return site.renderer.redirect(visit, "/profile")


@routes.post("/profile/addresses/delete")
async def remove_address(
    visit: VisitDependency, site: SiteDependency, form: FormDependency
) -> Response:
    require_session(visit)
    address_id = form.text("address_id", "an address", 64)
    if not form.errors:
        await site.customers.remove_address(address_id)
        visit.tell_next("The address is removed.", "good")
    return site.renderer.redirect(visit, "/profile")


@routes.post("/profile/password")
async def change_password(
    visit: VisitDependency,
    site: SiteDependency,
    form: FormDependency,
    auth: _Auth,
    sessions: _Sessions,
) -> Response:
    session = require_session(visit)
    password = form.password("password")
    new_password = form.new_password("new_password")
    if form.errors:
        return await _shown(site, visit, form, 422)
    try:
        tokens = await auth.change_password(session.caller.email, password, new_password)
    except ShopError as error:
        if error.kind not in {Kind.UNAUTHENTICATED, Kind.INVALID, Kind.THROTTLED, Kind.CONFLICT}:
            raise
        field = "new_password" if error.kind is Kind.INVALID else "password"
        is_wrong = error.kind is Kind.UNAUTHENTICATED
        form.errors[field] = "This is not your password." if is_wrong else error.detail
        return await _shown(site, visit, form, HTTP_STATUS[error.kind])
    visit.enter(await sessions.begin(visit.jar, tokens))
    visit.renew_id()
    visit.tell_next(
        "Your password is changed. On all other devices you are logged out within 15 minutes.",
        "good",
    )
    return site.renderer.redirect(visit, "/profile")


@routes.post("/profile/confirm")
async def mail_address_link(
    visit: VisitDependency, site: SiteDependency, form: FormDependency, auth: _Auth
) -> Response:
    caller = require_session(visit).caller
    try:
        if caller.is_guest:
            await auth.mail_guest_link(visit.jar.get(Cookie.REFRESH) or "")
        else:
            await auth.mail_address_link(caller.email)
    except ShopError as error:
        if error.kind is not Kind.THROTTLED:
            raise
        visit.tell_next(error.detail, "bad")
    else:
        contact = await site.customers.contact_email(caller) or "you"
        visit.tell_next(f"A mail with a link is on its way to {isolated(contact)}.", "good")
    return site.renderer.redirect(visit, local_path(form.raw("next"), "/profile"))


@routes.get("/inbox")
async def inbox(
    visit: VisitDependency,
    site: SiteDependency,
    cursor: Annotated[str, Query(max_length=MAX_CURSOR_LENGTH)] = "",
) -> Response:
    caller = require_session(visit).caller
    page = await site.customers.inbox(cursor=cursor, limit=_INBOX_LIMIT)
    contact = await site.customers.contact_email(caller) if page.mail == "waiting" else ""
    return site.renderer.page(visit, "inbox.html", page=page, contact=contact, is_first=not cursor)


async def _shown(site: Site, visit: Visit, form: Form, status: int = 200) -> Response:
    require_session(visit)
    view = await site.customers.account()
    return site.renderer.page(
        visit,
        "profile.html",
        status=status,
        view=view,
        values=form.kept(ADDRESS_FIELDS),
        email=form.values.get("email", view.profile.email),
        onward=local_path(form.raw("next"), "/profile"),
        new_name=form.values.get("full_name", view.profile.name),
        errors=form.errors,
        leaves_orders=await leaves_orders(site, visit),
    )
