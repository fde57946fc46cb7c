"""Sessions: the tokens that the browser keeps, renewed when they run out.

`auth` decides: its access tokens are verified with its published keys, and only it can renew them.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass

from services.common.errors import Kind, ShopError
from services.common.identity import Caller, TokenVerifier
from services.frontend.clients import AuthClient
from services.frontend.cookies import Cookie, CookieJar
from services.frontend.model import Tokens

# Browsers send several requests at once with the tokens they have; each refresh token works only
# once.
_REMEMBER_SECONDS = 30.0
_MAX_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Session:
    """A logged-in customer and the token that speaks for them."""

    caller: Caller
    token: str


class Sessions:
    """Finds out who a visitor is, and keeps them logged in.

    :param verifier: verifies access tokens.
    :param auth: renews them.
    """

    def __init__(self, verifier: TokenVerifier, auth: AuthClient) -> None:
        self._verifier = verifier
        self._auth = auth
        self._renewals: OrderedDict[str, tuple[float, asyncio.Task[Tokens]]] = OrderedDict()

    async def find(self, jar: CookieJar) -> Session | None:
        """The visitor's session; None for a guest.

        Ended sessions are dropped from the jar, renewed ones put into it. While `auth` cannot be
        asked, a session that needs it counts as none, but its cookies stay.
        """
        access_token = jar.get(Cookie.ACCESS)
        if access_token is not None:
            try:
                return Session(await self._verifier.verify(access_token), access_token)
            except ShopError as error:
                if error.kind is not Kind.UNAUTHENTICATED:
                    return None
        return await self._renewed(jar)

    async def begin(self, jar: CookieJar, tokens: Tokens) -> Session:
        """A session with tokens that auth has just issued."""
        session = Session(await self._verifier.verify(tokens.access_token), tokens.access_token)
        jar.put(Cookie.ACCESS, tokens.access_token)
        jar.put(Cookie.REFRESH, tokens.refresh_token)
        if tokens.device_token:
            jar.put(Cookie.DEVICE, tokens.device_token)  # outlives the session
        return session

    async def renew(self, jar: CookieJar) -> Session | None:
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
            self._forget_session(refresh_token)
            await self._auth.log_out(refresh_token)

    async def _renewed(self, jar: CookieJar) -> Session | None:
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

    async def _renewal(self, refresh_token: str) -> Tokens:
        """One renewal per refresh token: whoever comes while it runs, or shortly after, gets the
        same tokens.
        """
        self._forget_old()
        known = self._renewals.get(refresh_token)
        if known is None:
            known = (time.monotonic(), asyncio.create_task(self._auth.refresh(refresh_token)))
            self._renewals[refresh_token] = known
        try:
            return await asyncio.shield(known[1])
        except ShopError:
            self._renewals.pop(refresh_token, None)
            raise

    def _forget_session(self, refresh_token: str) -> None:
        """Forgets the renewals that led to a token: none of its session's is good any more."""
        token: str | None = refresh_token
        while token is not None:
            self._renewals.pop(token, None)
            token = next(
                (
                    earlier
                    for earlier, (_, renewal) in self._renewals.items()
                    if _successor(renewal) == token
                ),
                None,
            )

    def _forget_old(self) -> None:
        outdated = time.monotonic() - _REMEMBER_SECONDS
        while self._renewals:
            began_at, _ = next(iter(self._renewals.values()))
            if began_at >= outdated and len(self._renewals) < _MAX_REMEMBERED:
                return
            self._renewals.popitem(last=False)


def _successor(renewal: asyncio.Task[Tokens]) -> str | None:
    """The refresh token that a renewal has brought, as far as it has."""
    if not renewal.done() or renewal.cancelled() or renewal.exception() is not None:
        return None
    return renewal.result().refresh_token
