"""The customer's profile and inbox."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from services.common.errors import Kind, ShopError
from services.common.provide import provided
from services.frontend.forms import ADDRESS_FIELDS, Form, FormDependency
from services.frontend.pages.site import Site, SiteDependency, require_session
from services.frontend.session import Sessions
from services.frontend.visit import Visit, VisitDependency

_INBOX_LIMIT = 20

_Sessions = Annotated[Sessions, provided(Sessions)]

routes = APIRouter(include_in_schema=False)


@routes.get("/profile")
async def profile(visit: VisitDependency, site: SiteDependency) -> Response:
    return await _shown(site, visit, Form({}))


@routes.post("/profile")
async def rename(
    visit: VisitDependency, site: SiteDependency, form: FormDependency, sessions: _Sessions
) -> Response:
    require_session(visit)
    name = form.text("full_name", "your name", 100)
    if form.errors:
        return await _shown(site, visit, form, 422)
    await site.customers.rename(name)
    # Name and groups stand in the token, so it takes a new one for them to be known.
    visit.enter(await sessions.renew(visit.jar))
    visit.tell_next("Your name is saved.", "good")
    return site.renderer.redirect(visit, "/profile")


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
        if error.kind not in {Kind.CONFLICT, Kind.INVALID}:
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


@routes.get("/inbox")
async def inbox(
    visit: VisitDependency,
    site: SiteDependency,
    cursor: Annotated[str, Query(max_length=512)] = "",
) -> Response:
    require_session(visit)
    page = await site.customers.inbox(cursor=cursor, limit=_INBOX_LIMIT)
    return site.renderer.page(visit, "inbox.html", page=page, is_first=not cursor)


async def _shown(site: Site, visit: Visit, form: Form, status: int = 200) -> Response:
    require_session(visit)
    view = await site.customers.account()
    return site.renderer.page(
        visit,
        "profile.html",
        status=status,
        view=view,
        values=form.kept(ADDRESS_FIELDS),
        new_name=form.values.get("full_name", view.profile.name),
        errors=form.errors,
    )
