"""What surrounds every route: who may change the sandbox, and how its connections end."""

from __future__ import annotations

import asyncio
import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.common.protocols.http_semantics import is_host, make_relative

_OWN = ("/sandbox/", "/faults")
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class ProtocolMiddleware:
    """ASGI middleware: refuses a Host that names no host and what a page of another site asks
    for, answers requests that a stop cuts off, closes connections with unread bodies, and shortens
    redirects.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        is_unread = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        is_answered = False

        async def receive_noting() -> Message:
            nonlocal is_unread
            message = await receive()
            is_unread = is_unread and message.get("more_body", False)
            return message

        async def send_complete(message: Message) -> None:
            nonlocal is_answered
            if message["type"] == "http.response.start":
                is_answered = True
                make_relative(message, headers.get("host", ""))
                if is_unread:
                    message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        app = self._app
        if not is_host(headers.get("host", "none")):  # HTTP/1.0 may leave it out
            app = refused(400, "The request's Host names no host.")
        elif (
            scope["path"].startswith(_OWN)
            and scope["method"] not in _READING
            and _is_foreign(headers)
        ):
            app = refused(403, "A page of another site may not change the sandbox.")
        try:
            await app(scope, receive_noting, send_complete)
        except asyncio.CancelledError:  # the process ends and has waited long enough
            if not is_answered:
                await _STOPPING(scope, receive_noting, send_complete)


def refused(status: int, message: str) -> JSONResponse:
    """An error of the sandbox's own, in the form of Stripe's."""
    return JSONResponse({"error": {"message": message}}, status)


_STOPPING = JSONResponse(
    {"error": {"message": "The sandbox is being stopped.", "type": "api_error"}},
    503,
    {"Retry-After": "1", "Connection": "close"},
)


def _is_foreign(headers: Headers) -> bool:
    """Whether a browser says that it asks for another site's page (https://fetch.spec.whatwg.org:
    `Origin`, and https://www.w3.org/TR/fetch-metadata). Programs say neither.
    """
    if headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
        return True
    origin = headers.get("origin")
    return origin is not None and not _is_here(origin, headers.get("host", ""))


def is_own_page(headers: Headers) -> bool:
    """Whether a browser says that it asks for a page of the sandbox itself. No other site's page
    can say so, and neither can an old browser.
    """
    return not _is_foreign(headers) and (
        headers.get("sec-fetch-site") == "same-origin" or "origin" in headers
    )


def _is_here(origin: str, host: str) -> bool:
    """Whether an origin is this very host, which is called localhost or by its address: any other
    name may be of another site, whose DNS leads here (DNS rebinding).
    """
    found = urlsplit(origin)
    if found.netloc.lower() != host.lower():
        return False
    if found.hostname == "localhost":
        return True
    try:
        ipaddress.ip_address(found.hostname or "")
    except ValueError:
        return False
    return True
