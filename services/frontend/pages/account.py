"""Registering, logging in and out, and what is done with links by mail."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from services.common import error_codes
from services.common.dependency_injection import provided
from services.common.errors import HTTP_STATUS, Kind, ShopError
from services.common.fields import isolated
from services.frontend.clients import AuthClient
from services.frontend.cookies import Cookie
from services.frontend.forms import (
    Form,
    FormDependency,
)
from services.frontend.pages.site import Site, SiteDependency, begin_session, leaves_orders
from services.frontend.security import local_path
from services.frontend.service import is_away
from services.frontend.session import CustomerSessions
from services.frontend.visit import Visit, VisitDependency

_ABOUT_PASSWORDS = frozenset(
    {error_codes.WEAK_PASSWORD, error_codes.SAME_PASSWORD, error_codes.PASSWORD_REPLACED}
)
# How long a visitor waits when the service does not say it.
_WAIT_SECONDS = 60
# Whoever fills these in is somebody else afterwards, or nobody.
_SESSION_ENDS = frozenset({"login.html", "register.html", "password.html"})

_Auth = Annotated[AuthClient, provided(AuthClient)]
_Onward = Annotated[str, Query(alias="next")]
_Sessions = Annotated[CustomerSessions, provided(CustomerSessions)]

routes = APIRouter(include_in_schema=False)


@routes.get("/login")
async def show_login(
    visit: VisitDependency, site: SiteDependency, onward: _Onward = "/"
) -> Response:
    return await _shown(site, visit, "login.html", onward)


@routes.post("/login")
async def log_in(
    visit: VisitDependency,
    site: SiteDependency,
    form: FormDependency,
    auth: _Auth,
    sessions: _Sessions,
) -> Response:
    email = form.email("email")
    password = form.password("password")
    if form.errors:
        return await _entrance(site, visit, "login.html", form, 422)
    try:
        tokens = await auth.log_in(email, password, visit.jar.get(Cookie.DEVICE))
    except ShopError as error:
        form.errors["email"] = _login_refusal(error)
        return await _entrance(site, visit, "login.html", form, HTTP_STATUS[error.kind])
    await begin_session(visit, sessions, tokens)
    visit.tell_next("Welcome back.", "good")
    return site.renderer.redirect(visit, local_path(form.raw("next")))


@routes.get("/register")
async def show_registration(
    visit: VisitDependency, site: SiteDependency, onward: _Onward = "/"
) -> Response:
    return await _shown(site, visit, "register.html", onward)


@routes.post("/register")
async def register(
    visit: VisitDependency,
    site: SiteDependency,
    form: FormDependency,
    auth: _Auth,
    sessions: _Sessions,
) -> Response:
    name = form.person("name", "your name")
    email = form.email("email")
    password = form.new_password("password")
    if form.errors:
        return await _entrance(site, visit, "register.html", form, 422)
    try:
        tokens = await auth.register(email, password, name)
    except ShopError as error:
        if error.kind is Kind.INVALID:
            form.refused(error, "password" if error.code in _ABOUT_PASSWORDS else "email")
        else:
            form.errors["email"] = _registration_refusal(error)
        return await _entrance(site, visit, "register.html", form, HTTP_STATUS[error.kind])
    await begin_session(visit, sessions, tokens)
    visit.tell_next(f"Welcome to Meshmart, {isolated(name)}.", "good")
    return site.renderer.redirect(visit, local_path(form.raw("next")))


@routes.post("/logout")
async def log_out(
    visit: VisitDependency, site: SiteDependency, _: FormDependency, sessions: _Sessions
) -> Response:
    is_told = await _leave(visit, sessions)
    visit.jar.drop(Cookie.SEEN)
    visit.tell_next(
        "You are logged out." if is_told else "You are logged out on this device.", "good"
    )
    return site.renderer.redirect(visit, "/")


@routes.get("/forgot")
async def show_forgotten(visit: VisitDependency, site: SiteDependency) -> Response:
    return await _entrance(site, visit, "forgot.html", Form({}))


@routes.post("/forgot")
async def mail_password_link(
    visit: VisitDependency, site: SiteDependency, form: FormDependency, auth: _Auth
) -> Response:
    email = form.email("email")
    if form.errors:
        return await _entrance(site, visit, "forgot.html", form, 422)
    try:
        await auth.mail_password_link(email)
    except ShopError as error:
        form.errors["email"] = _link_refusal(error)
        return await _entrance(site, visit, "forgot.html", form, HTTP_STATUS[error.kind])
    visit.tell_next(
        "If there is an account with this e-mail address, a mail with a link is on its way to it. "
        "The link is good for half an hour."
    )
    return site.renderer.redirect(visit, "/login")


@routes.get("/password")
async def show_reset(visit: VisitDependency, site: SiteDependency) -> Response:
    return await _entrance(site, visit, "password.html", Form({}))


@routes.post("/password")
async def reset_password(
    visit: VisitDependency,
    site: SiteDependency,
    form: FormDependency,
    auth: _Auth,
    sessions: _Sessions,
) -> Response:
    code = form.code()
    new_password = form.new_password("new_password")
    if form.errors:
        return await _entrance(site, visit, "password.html", form, 422)
    try:
        await auth.reset_password(code, new_password)
    except ShopError as error:
        field = "new_password" if error.code in _ABOUT_PASSWORDS else "code"
        form.errors[field] = _link_refusal(error)
        return await _entrance(site, visit, "password.html", form, HTTP_STATUS[error.kind])
    await _leave(visit, sessions)
    visit.tell_next("Your new password is set. Please log in with it.", "good")
    return site.renderer.redirect(visit, "/login")


@routes.get("/confirm")
async def show_confirmation(visit: VisitDependency, site: SiteDependency) -> Response:
    return await _entrance(site, visit, "confirm.html", Form({}))


@routes.post("/confirm")
async def confirm_address(
    visit: VisitDependency, site: SiteDependency, form: FormDependency, auth: _Auth
) -> Response:
    code = form.code()
    if form.errors:
        return await _entrance(site, visit, "confirm.html", form, 422)
    try:
        await auth.confirm_address(code)
    except ShopError as error:
        form.errors["code"] = _link_refusal(error)
        return await _entrance(site, visit, "confirm.html", form, HTTP_STATUS[error.kind])
    visit.tell_next("Thank you: your e-mail address is confirmed.", "good")
    return site.renderer.redirect(visit, "/inbox" if visit.session else "/")


async def _shown(site: Site, visit: Visit, template: str, onward: str) -> Response:
    if visit.caller is not None and not visit.caller.is_guest:
        return site.renderer.redirect(visit, local_path(onward))
    return await _entrance(site, visit, template, Form({"next": onward}))


async def _entrance(
    site: Site, visit: Visit, template: str, form: Form, status: int = 200
) -> Response:
    return site.renderer.page(
        visit,
        template,
        status=status,
        values=form.kept(("email", "name", "code")),
        errors=form.errors,
        onward=local_path(form.raw("next")),
        leaves_orders=template in _SESSION_ENDS and await leaves_orders(site, visit),
    )


async def _leave(visit: Visit, sessions: CustomerSessions) -> bool:
    """Logs out; whether auth could be told."""
    is_told = True
    try:
        await sessions.end(visit.jar)
    except ShopError:
        is_told = False
    visit.enter(None)
    visit.renew_id()
    return is_told


def _login_refusal(error: ShopError) -> str:
    if error.kind is Kind.UNAUTHENTICATED:
        return "This e-mail address and password do not match."
    if error.code == error_codes.TOO_MANY_ATTEMPTS:
        return f"Too many attempts. Please wait {_wait(error)} and try again."
    if is_away(error):
        return "Logging in is taking a short break. Please try again in a moment."
    return error.detail


def _registration_refusal(error: ShopError) -> str:
    if error.kind is Kind.CONFLICT:
        return "There is an account with this e-mail address already. Log in instead?"
    if is_away(error):
        return "Opening accounts is taking a short break. Please try again in a moment."
    return error.detail


def _link_refusal(error: ShopError) -> str:
    if error.kind is Kind.THROTTLED:
        return f"{error.detail} ({_wait(error)})"
    if is_away(error):
        return "This is taking a short break. Please try again in a moment."
    return error.detail


def _wait(error: ShopError) -> str:
    said = error.retry_after_seconds
    seconds = _WAIT_SECONDS if said is None else round(said)
    return f"{seconds} seconds" if seconds < 120 else f"{round(seconds / 60)} minutes"
