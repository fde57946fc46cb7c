"""What protects the pages: headers on every answer, checks of every form, and safe ways onward."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.common import context
from services.common.errors import Kind, ShopError
from services.frontend.cookies import CANARY_COOKIE
from services.frontend.sealing import Seal

PAGE_POLICY = (
    "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
# A picture may style itself, and nothing else, also when somebody opens it on its own.
PICTURE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'"

_HEADERS = {
    "content-security-policy": PAGE_POLICY,
    "x-content-type-options": "nosniff",
    # Not "no-referrer": browsers would then send `Origin: null` with the shop's own forms (Fetch
    # §3.2).
    "referrer-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-frame-options": "DENY",
    "cache-control": "no-store",
}
FORM_OF_ANOTHER_VISIT = "form-of-another-visit"
_TRANSPORT_SECURITY = "max-age=31536000"
_LOCAL_PATH = re.compile(r"/(?![/\\])[\x21-\x7e]*")
_MAX_PATH_LENGTH = 512
# Left of a request's time for making a page out of what has arrived.
_RENDER_SECONDS = 0.5


_DEFAULT_PORTS = {"http": "80", "https": "443"}


class SecurityMiddleware:
    """ASGI middleware: adds security headers to answers, and forgets what browsers claim to be.

    Who a visitor is comes from the session alone: tokens and routing headers in the request are
    dropped, except `canary`, which anyone may ask for, by header or by cookie.
    """

    def __init__(self, app: ASGIApp, *, secure: bool) -> None:
        self._app = app
        self._headers = security_headers(secure=secure)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                missing = (header for header in self._headers if header[0] not in given)
                message["headers"] = [*message["headers"], *missing]
            await send(message)

        request = context.current()
        request.token = None
        request.routing = {"canary": "true"} if wants_canary(scope) else {}
        request.deadline -= _RENDER_SECONDS
        await self._app(scope, receive, send_safely)


def security_headers(*, secure: bool) -> Sequence[tuple[bytes, bytes]]:
    """The headers of every answer that has none of its own of the same name.

    :param secure: the shop is served over https.
    """
    headers = {
        **_HEADERS,
        **({"strict-transport-security": _TRANSPORT_SECURITY} if secure else {}),
    }
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def wants_canary(scope: Scope) -> bool:
    for name, value in scope["headers"]:
        if name == b"canary" and value == b"true":
            return True
        if name == b"cookie" and re.search(
            rf"(?:^|;\s*){CANARY_COOKIE}=true(?:;|$)".encode(), value
        ):
            return True
    return False


def form_token(seal: Seal, visit_id: str) -> str:
    """The token that every form of one visit bears (signed double-submit: the visit's id is in a
    cookie). Its second half shows that the first is this shop's, also to another visit.
    """
    of_visit = seal.mark("form", visit_id)
    return f"{of_visit}.{seal.mark('form of any visit', of_visit)}"


def check_form(
    seal: Seal, *, visit_id: str | None, token: str | None, headers: Mapping[str, str]
) -> None:
    """Makes sure that a form was sent by a page of this shop to this visitor.

    :raises ShopError: DENIED, when it was not, or when that cannot be told.
    """
    if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise _foreign_form()
    origin = headers.get("origin")
    if origin is not None and not _is_own(origin, headers.get("host", "")):
        raise _foreign_form()
    if visit_id is None or token is None:
        raise _foreign_form()
    if hmac.compare_digest(form_token(seal, visit_id).encode(), token.encode()):
        return
    of_visit, _, of_shop = token.partition(".")
    if hmac.compare_digest(seal.mark("form of any visit", of_visit).encode(), of_shop.encode()):
        raise ShopError(
            Kind.DENIED,
            FORM_OF_ANOTHER_VISIT,
            "Since this form was opened, somebody has logged in or out. Nothing was changed.",
        )
    raise _foreign_form()


def _is_own(origin: str, host: str) -> bool:
    """Whether an Origin names the host that was asked. A default port may be written on either side
    (RFC 6454 §6.2 leaves it out, some proxies add it to Host).
    """
    scheme, authority = urlsplit(origin)[:2]
    port = _DEFAULT_PORTS.get(scheme)
    return _without_port(authority, port) == _without_port(host, port)


def _without_port(authority: str, port: str | None) -> str:
    lower = authority.lower()
    return lower if port is None else lower.removesuffix(f":{port}")


def local_path(wanted: str | None, otherwise: str = "/") -> str:
    """A path of this shop to go on to, whatever a link said: never another host, scheme or a header
    injection.
    """
    if (
        wanted is None
        or len(wanted) > _MAX_PATH_LENGTH
        or not _LOCAL_PATH.fullmatch(wanted)
        or "\\" in wanted
    ):
        return otherwise
    return wanted


def _foreign_form() -> ShopError:
    return ShopError(
        Kind.DENIED,
        "form-refused",
        "This form is too old, or it did not come from this shop. Nothing was changed.",
    )
