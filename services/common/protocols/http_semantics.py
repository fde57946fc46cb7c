"""Rules of HTTP that the frameworks do not implement, for every app of the shop."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlsplit, urlunsplit

from starlette.requests import Request
from starlette.routing import BaseRoute, Match, Mount
from starlette.types import Message, Scope

# uri-host [":" port] (RFC 9110 §7.2, RFC 3986 §3.2.2), without the comma, which joins two fields.
_HOST = re.compile(
    r"(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})+)(?::[0-9]*)?"
)
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def is_host(value: str) -> bool:
    """Whether a ``Host`` names one host."""
    return _HOST.fullmatch(value) is not None


def make_relative(message: Message, host: str) -> None:
    """Shortens a redirect to this very host to its path: behind a proxy that ends TLS, the scheme
    that is seen here is not the client's (RFC 9110 §10.2.2).

    :param message: an ASGI ``http.response.start``.
    """
    headers: list[tuple[bytes, bytes]] = message["headers"]
    for position, (name, value) in enumerate(headers):
        if name.lower() != b"location":
            continue
        target = urlsplit(value.decode("latin-1"))
        if target.netloc and target.netloc == host:
            path = urlunsplit(("", "", target.path or "/", target.query, target.fragment))
            headers[position] = (name, path.encode("latin-1"))


def allow_header(methods: Iterable[str]) -> str:
    """The value of ``Allow``: wherever GET is answered, HEAD is, too (RFC 9110 §9.3.2)."""
    allowed = set(methods)
    return ", ".join(sorted(allowed | {"HEAD"} if "GET" in allowed else allowed))


def allowed_here(request: Request, routes: Iterable[BaseRoute]) -> str:
    """The ``Allow`` of a 405: the methods of all routes at this path (RFC 9110 §15.5.6). The
    framework names those of the first one only.
    """
    asked: Scope = {
        "type": "http",
        "path": request.scope["path"],
        "root_path": request.scope.get("app_root_path", ""),
        "headers": request.scope["headers"],
    }
    at_path = list(routes)
    found = [
        method
        for method in _METHODS
        if any(_serves(route, {**asked, "method": method}) for route in at_path)
    ]
    return allow_header(found or ["GET"])  # a folder of files answers nothing else


def _serves(route: BaseRoute, scope: Scope) -> bool:
    return not isinstance(route, Mount) and route.matches(scope)[0] is Match.FULL
