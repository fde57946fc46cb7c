"""Sessions: the tokens that the browser keeps, renewed when they run out.

`auth` decides: its access tokens are verified with its published keys, and only it can renew them.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

from services.common import error_codes
from services.common.errors import Kind, ShopError
from services.common.identity.access_tokens import Caller
from services.frontend.cookies import Cookie, CookieJar
from services.frontend.model import SessionTokens


class Verifier(Protocol):
    """Says whose an access token is."""

    async def verify(self, token: str) -> Caller:
        """Returns who it speaks for. UNAUTHENTICATED for one that is not good."""
        ...


class Renewer(Protocol):
    """`auth`, as sessions need it."""

    async def refresh(self, refresh_token: str) -> SessionTokens:
        """Returns new tokens for a session. UNAUTHENTICATED when it has ended."""
        ...

    async def log_out(self, refresh_token: str) -> None:
        """Ends a session."""
        ...


@dataclass(frozen=True, slots=True)
class CustomerSession:
    """A logged-in customer and the token that speaks for them."""

    caller: Caller
    token: str


@dataclass(slots=True)
class _Renewal:
    """A renewal under way, for all requests that wait for it."""

    task: asyncio.Task[SessionTokens]
    is_revoked: bool = False


class CustomerSessions:
    """Finds out who a visitor is, and keeps them logged in.

    Which tokens are good is for `auth` to say, every time: a session may be ended anywhere. Nothing
    is remembered here but what is under way.

    :param verifier: verifies access tokens.
    :param auth: renews them.
    """

    def __init__(self, verifier: Verifier, auth: Renewer) -> None:
        self._verifier = verifier
        self._auth = auth
        self._renewals: dict[str, _Renewal] = {}

    async def find(self, jar: CookieJar) -> CustomerSession | None:
        """The visitor's session; None for a guest.

        Ended sessions are dropped from the jar, renewed ones put into it. While `auth` cannot be
        asked, a session that needs it counts as none, but its cookies stay.
        """
        access_token = jar.get(Cookie.ACCESS)
        if access_token is not None:
            try:
                return CustomerSession(await self._verifier.verify(access_token), access_token)
            except ShopError as error:
                if error.kind is not Kind.UNAUTHENTICATED:
                    return None
        return await self._renewed(jar)

    async def begin(self, jar: CookieJar, tokens: SessionTokens) -> CustomerSession:
        """A session with tokens that auth has just issued."""
        session = CustomerSession(
            await self._verifier.verify(tokens.access_token), tokens.access_token
        )
        jar.put(Cookie.ACCESS, tokens.access_token)
        jar.put(Cookie.REFRESH, tokens.refresh_token)
        if tokens.device_token:
            jar.put(Cookie.DEVICE, tokens.device_token)  # outlives the session
        return session

    async def renew(self, jar: CookieJar) -> CustomerSession | None:
        """New tokens now, because the old ones say something outdated."""
        return await self._renewed(jar)

    async def end(self, jar: CookieJar) -> None:
        """Logs out, here in any case and at `auth` too.

        :raises ShopError: `auth` could not be told; the cookies are dropped all the same.
        """
        refresh_token = jar.get(Cookie.REFRESH)
        jar.drop(Cookie.ACCESS)
        jar.drop(Cookie.REFRESH)
        if refresh_token is not None:
            self._revoke(refresh_token)
            await self._auth.log_out(refresh_token)

    async def _renewed(self, jar: CookieJar) -> CustomerSession | None:
        refresh_token = jar.get(Cookie.REFRESH)
        if refresh_token is None:
            jar.drop(Cookie.ACCESS)
            return None
        try:
            return await self.begin(jar, await self._renewal(refresh_token))
        except ShopError as error:
            if error.kind in {Kind.UNAUTHENTICATED, Kind.INVALID}:
                jar.drop(Cookie.ACCESS)
                jar.drop(Cookie.REFRESH)
            return None

    async def _renewal(self, refresh_token: str) -> SessionTokens:
        """One renewal per refresh token at a time: whoever comes while it runs gets the same
        tokens. Browsers send several requests at once with the tokens that they have; auth answers
        those that come a moment later with the same successor.
        """
        renewal = self._renewals.get(refresh_token)
        if renewal is None:
            renewal = _Renewal(asyncio.create_task(self._auth.refresh(refresh_token)))
            self._renewals[refresh_token] = renewal
            renewal.task.add_done_callback(lambda _: self._renewals.pop(refresh_token))
        tokens = await asyncio.shield(renewal.task)
        if renewal.is_revoked:
            raise ShopError(
                Kind.UNAUTHENTICATED, error_codes.SESSION_ENDED, "This session has just been ended."
            )
        return tokens

    def _revoke(self, refresh_token: str) -> None:
        """Makes a session's renewals that are under way worth nothing, whichever of its tokens they
        began with.
        """
        session = _session_of(refresh_token)
        for token, renewal in self._renewals.items():
            if _session_of(token) == session:
                renewal.is_revoked = True


def _session_of(refresh_token: str) -> str:
    """What all refresh tokens of a session begin with."""
    return refresh_token.partition(".")[0]
