from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from starlette.responses import Response

_YEAR_SECONDS = 365 * 24 * 3600

# Named as the meshes' routing rules know it, so it bears no prefix.
CANARY_COOKIE = "canary"


class Cookie(StrEnum):
    """What the browser keeps for the frontend. None of it is readable by scripts."""

    VISIT = "visit"
    ACCESS = "access"
    REFRESH = "refresh"
    DEVICE = "device"
    CART = "cart"
    BOUGHT = "bought"
    NOTICE = "notice"
    SEEN = "seen"
    MADE = "made"


_LIFETIME_SECONDS: Mapping[Cookie, int | None] = {
    Cookie.VISIT: None,
    Cookie.ACCESS: None,
    Cookie.REFRESH: 30 * 24 * 3600,
    Cookie.DEVICE: _YEAR_SECONDS,
    Cookie.CART: 90 * 24 * 3600,
    Cookie.BOUGHT: 24 * 3600,
    Cookie.NOTICE: 120,
    Cookie.SEEN: 30 * 24 * 3600,
    Cookie.MADE: 60,
}


@dataclass(slots=True)
class CookieJar:
    """A request's cookies, and what the answer will change about them.

    :param secure: the shop is served over https, so cookies are `Secure` and bound to this host by
        `__Host-`
        (RFC 6265bis §4.1.3.2).
    """

    secure: bool
    sent: Mapping[str, str]
    _changes: dict[Cookie, str | None] = field(default_factory=dict[Cookie, str | None])
    _canary: bool | None = None

    def get(self, cookie: Cookie) -> str | None:
        """The value as the browser will have it after this answer."""
        if cookie in self._changes:
            return self._changes[cookie]
        return self.sent.get(self.name(cookie)) or None

    def put(self, cookie: Cookie, value: str) -> None:
        """Sets a cookie."""
        self._changes[cookie] = value

    def drop(self, cookie: Cookie) -> None:
        """Removes a cookie, where there is one."""
        if self.get(cookie) is not None:
            self._changes[cookie] = None

    def put_canary(self, wanted: bool) -> None:
        """Asks the mesh for the canary release, or no longer."""
        self._canary = wanted

    def name(self, cookie: Cookie) -> str:
        """What the cookie is called on the wire."""
        return f"__Host-meshmart-{cookie}" if self.secure else f"meshmart-{cookie}"

    def apply(self, response: Response) -> None:
        """Writes the changes into an answer."""
        for cookie, value in self._changes.items():
            self._set(response, self.name(cookie), value, _LIFETIME_SECONDS[cookie])
        if self._canary is not None:
            self._set(response, CANARY_COOKIE, "true" if self._canary else None, _YEAR_SECONDS)

    def _set(
        self, response: Response, name: str, value: str | None, lifetime_seconds: int | None
    ) -> None:
        response.set_cookie(
            name,
            value or "",
            max_age=0 if value is None else lifetime_seconds,
            path="/",
            secure=self.secure,
            httponly=True,
            samesite="lax",
        )
