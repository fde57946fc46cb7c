"""Failures as pages that a customer understands."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.common import context, error_codes
from services.common.errors import HTTP_STATUS, Kind, ShopError, kind_of_http_status
from services.common.observing.logs import get_logger
from services.common.protocols.http_semantics import allowed_here
from services.common.protocols.problem import shop_error_response
from services.frontend.cookies import Cookie
from services.frontend.pages.site import Site
from services.frontend.security import FORM_OF_ANOTHER_VISIT
from services.frontend.visit import Visits

log = get_logger(__name__)

_RETRY_SECONDS = 2.0

# What asks for these is no person; a page would only be in the way.
_FILE_PREFIXES = ("/pictures/", "/static/", "/favicon.ico", "/robots.txt", "/sitemap.xml")


@dataclass(frozen=True, slots=True)
class _Words:
    title: str
    text: str


_WORDS: Mapping[Kind, _Words] = {
    Kind.NOT_FOUND: _Words(
        "We cannot find that", "It may have moved or sold out, or the address may be mistyped."
    ),
    Kind.DENIED: _Words(
        "We did not accept that form",
        "It was too old, or it did not come from this shop. Nothing was changed. "
        "Go back, reload the page and try again.",
    ),
    Kind.UNAVAILABLE: _Words(
        "This part of the shop is taking a short break",
        "It will be back in a moment. The rest of the shop is open, and your cart is safe.",
    ),
    Kind.THROTTLED: _Words(
        "One moment, please", "That was a little too fast for us. Wait a moment and try again."
    ),
    Kind.TOO_LARGE: _Words("That was too much", "What you sent is larger than this shop accepts."),
    Kind.INVALID: _Words(
        "We did not understand that", "Something in the address or the form is not right."
    ),
    Kind.CONFLICT: _Words("That is not possible now", "Something has changed in the meantime."),
    Kind.INTERNAL: _Words(
        "Something went wrong on our side",
        "We have logged it. You were not charged for anything new.",
    ),
}
_ANOTHER_VISIT = _Words(
    "Somebody has logged in or out",
    "That page was opened before somebody logged in or out in this browser, or changed the "
    "password. Nothing was changed, and the cart is kept.",
)
_SAME_WORDS = {
    Kind.TIMEOUT: Kind.UNAVAILABLE,
    Kind.DECLINED: Kind.CONFLICT,
    Kind.UNAUTHENTICATED: Kind.DENIED,
}


class ErrorPages:
    """Turns failures into pages."""

    def __init__(self, site: Site, visits: Visits) -> None:
        self._site = site
        self._visits = visits

    def install(self, app: FastAPI) -> None:
        """Makes every failure of the pages a page."""
        app.add_exception_handler(ShopError, self._on_shop_error)
        app.add_exception_handler(RequestValidationError, self._on_invalid)
        app.add_exception_handler(HTTPException, self._on_http_exception)

    async def page(self, request: Request, error: ShopError) -> Response:
        """The page for one failure."""
        if request.url.path.startswith(_FILE_PREFIXES):
            return shop_error_response(error)
        visit = await self._visits.open(request)
        if error.kind is Kind.UNAUTHENTICATED:
            visit.jar.drop(Cookie.ACCESS)
            visit.jar.drop(Cookie.REFRESH)
            visit.tell_next("Please log in to continue.")
            return self._site.renderer.redirect(
                visit, f"/login?next={quote(_way_back(request), safe='')}"
            )
        is_of_another_visit = error.code == FORM_OF_ANOTHER_VISIT
        words = (
            _ANOTHER_VISIT
            if is_of_another_visit
            else _WORDS[_SAME_WORDS.get(error.kind, error.kind)]
        )
        headers: dict[str, str] = {}
        if error.retry_after_seconds is not None or error.kind is Kind.UNAVAILABLE:
            said = error.retry_after_seconds
            seconds = _RETRY_SECONDS if said is None else said
            headers["retry-after"] = str(max(1, math.ceil(seconds)))
        return self._site.renderer.page(
            visit,
            "error.html",
            status=HTTP_STATUS[error.kind],
            headers=headers,
            title=words.title,
            text=words.text,
            detail=error.detail if error.kind in {Kind.CONFLICT, Kind.INVALID} else "",
            kind=error.kind,
            way_on=_way_on(request) if is_of_another_visit else "",
            request_id=context.current().request_id,
        )

    async def _on_shop_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, ShopError)
        return await self.page(request, error)

    async def _on_invalid(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return await self.page(request, ShopError(Kind.INVALID, error_codes.INVALID_REQUEST, ""))

    async def _on_http_exception(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        kind = kind_of_http_status(error.status_code)
        response = await self.page(request, ShopError(kind, "http", ""))
        if response.status_code >= 400:
            response.status_code = error.status_code
        for name, value in (error.headers or {}).items():
            response.headers[name] = value
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            response.headers["allow"] = allowed_here(request, request.app.routes)
        return response


class UnexpectedErrors:
    def __init__(self, app: ASGIApp, *, pages: ErrorPages) -> None:
        self._app = app
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_noting(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, send_noting)
        except (ClientDisconnect, HTTPException, ShopError):
            raise
        except Exception:
            if started:
                raise
            log.exception("page.failed", method=scope["method"], path=scope["path"])
            error = ShopError(Kind.INTERNAL, error_codes.INTERNAL, "")
            response = await self._pages.page(Request(scope, receive), error)
            await response(scope, receive, send)


def _way_on(request: Request) -> str:
    """The page that a form belongs to; empty where it belongs to all pages."""
    way = _way_back(request)
    asked: Scope = {"type": "http", "method": "GET", "path": way, "root_path": "", "headers": []}
    routes: Sequence[BaseRoute] = request.app.routes
    return way if any(route.matches(asked)[0] is Match.FULL for route in routes) else ""


def _way_back(request: Request) -> str:
    """Where to go on after logging in: the page itself, or, after a form, the page that the form
    belongs to.
    """
    path: bytes = request.scope["raw_path"]
    if request.method != "GET":
        return "/" + path.decode("latin-1").split("/")[1]
    query: bytes = request.scope["query_string"]
    return (path + b"?" + query if query else path).decode("latin-1")
