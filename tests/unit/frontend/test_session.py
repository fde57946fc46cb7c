"""Renewals that come together, and log-outs that come between."""

from __future__ import annotations

import asyncio

import pytest

from services.common.identity.access_tokens import Caller
from services.frontend.cookies import Cookie, CookieJar
from services.frontend.model import SessionTokens
from services.frontend.session import CustomerSessions

FIRST, SECOND = "ses_ada.first", "ses_ada.second"


class SlowAuth:
    """Renews when it is let go, and remembers who asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.reached = asyncio.Event()
        self.let_go = asyncio.Event()

    async def refresh(self, refresh_token: str) -> SessionTokens:
        self.asked.append(refresh_token)
        self.reached.set()
        await self.let_go.wait()
        session = refresh_token.partition(".")[0]
        return SessionTokens(
            access_token="access", refresh_token=f"{session}.{len(self.asked)}", expires_in=900
        )

    async def log_out(self, refresh_token: str) -> None:
        """Comes too late for a renewal that auth has begun."""


class AnyToken:
    """Takes every access token."""

    async def verify(self, token: str) -> Caller:
        return Caller("usr_ada", "ada@example.com", "Ada")


def jar(refresh_token: str) -> CookieJar:
    return CookieJar(False, {"meshmart-refresh": refresh_token})


async def test_requests_that_come_together_renew_once() -> None:
    auth = SlowAuth()
    sessions = CustomerSessions(AnyToken(), auth)
    jars = [jar(FIRST) for _ in range(5)]
    finding = [asyncio.create_task(sessions.find(each)) for each in jars]
    await auth.reached.wait()
    auth.let_go.set()
    assert all(await asyncio.gather(*finding))
    assert auth.asked == [FIRST]
    assert {each.get(Cookie.REFRESH) for each in jars} == {"ses_ada.1"}


async def test_a_renewal_is_not_remembered() -> None:
    """Whether the token is still good is for auth to say."""
    auth = SlowAuth()
    auth.let_go.set()
    sessions = CustomerSessions(AnyToken(), auth)
    for _ in range(2):
        await sessions.find(jar(FIRST))
    assert auth.asked == [FIRST, FIRST]


@pytest.mark.parametrize("shown", [FIRST, SECOND])
async def test_a_log_out_revokes_a_renewal_that_is_under_way(shown: str) -> None:
    """Whichever of the session's tokens the log-out has."""
    auth = SlowAuth()
    sessions = CustomerSessions(AnyToken(), auth)
    waiting = jar(FIRST)
    finding = asyncio.create_task(sessions.find(waiting))
    await auth.reached.wait()
    await sessions.end(jar(shown))
    auth.let_go.set()
    assert await finding is None
    assert waiting.get(Cookie.REFRESH) is None
    assert waiting.get(Cookie.ACCESS) is None


async def test_a_log_out_leaves_other_sessions_alone() -> None:
    auth = SlowAuth()
    sessions = CustomerSessions(AnyToken(), auth)
    finding = asyncio.create_task(sessions.find(jar(FIRST)))
    await auth.reached.wait()
    await sessions.end(jar("ses_eve.first"))
    auth.let_go.set()
    assert await finding is not None
