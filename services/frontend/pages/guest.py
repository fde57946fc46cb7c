"""A guest who keeps the account, by a password."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from starlette.responses import Response

from services.common import error_codes
from services.common.dependency_injection import provided
from services.common.errors import HTTP_STATUS, Kind, ShopError
from services.frontend.clients import AuthClient
from services.frontend.cookies import Cookie
from services.frontend.forms import (
    Form,
    FormDependency,
)
from services.frontend.pages.site import Site, SiteDependency, begin_session, require_session
from services.frontend.service import is_away
from services.frontend.session import CustomerSessions
from services.frontend.visit import Visit, VisitDependency

_Auth = Annotated[AuthClient, provided(AuthClient)]
_Sessions = Annotated[CustomerSessions, provided(CustomerSessions)]

_BREAK = "Setting passwords is taking a short break. Please try again in a moment."

routes = APIRouter(include_in_schema=False)


@routes.get("/profile/keep")
async def show_keeping(visit: VisitDependency, site: SiteDependency) -> Response:
    if not require_session(visit).caller.is_guest:
        return site.renderer.redirect(visit, "/profile")
    return await _keeping(site, visit, Form({}))


@routes.post("/profile/keep")
async def keep(
    visit: VisitDependency,
    site: SiteDependency,
    form: FormDependency,
    auth: _Auth,
    sessions: _Sessions,
) -> Response:
    require_session(visit)
    email = form.email("email")
    password = form.new_password("password")
    if form.errors:
        return await _keeping(site, visit, form, 422)
    try:
        tokens = await auth.keep_guest(visit.jar.get(Cookie.REFRESH) or "", email, password)
    except ShopError as error:
        if error.code == error_codes.NOT_A_GUEST:  # the answer to this very form may have been lost
            visit.enter(await sessions.renew(visit.jar))
            visit.tell_next("This account has a password already.")
            return site.renderer.redirect(visit, "/profile")
        if error.kind is Kind.UNAUTHENTICATED:
            raise
        is_taken = error.code == error_codes.EMAIL_TAKEN
        if is_taken:
            form.errors["email"] = "Give an address that has no account yet."
        elif is_away(error):
            form.errors["password"] = _BREAK
        else:
            form.refused(error, "password")
        status = HTTP_STATUS[error.kind]
        return await _keeping(site, visit, form, status, taken=email if is_taken else "")
    await begin_session(visit, sessions, tokens)
    visit.tell_next("Your password is set: the account is yours to keep.", "good")
    return site.renderer.redirect(visit, "/profile")


async def _keeping(
    site: Site, visit: Visit, form: Form, status: int = 200, *, taken: str = ""
) -> Response:
    caller = require_session(visit).caller
    return site.renderer.page(
        visit,
        "keep.html",
        status=status,
        email=form.raw("email") if form.values else await site.customers.contact_email(caller),
        taken=taken,
        errors=form.errors,
    )
