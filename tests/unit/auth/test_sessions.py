"""Refresh tokens work once; one that comes back ends its session."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from services.auth.model.commands import Authenticate
from services.common.errors import Kind, ShopError
from services.common.identity.access_tokens import Caller
from tests.unit.auth.kit import EMAIL, HOME, PASSWORD, SETTINGS, AuthHarness, AuthProcess
from tests.unit.failure import failure

LIFETIME_SECONDS = SETTINGS.refresh_token_seconds


async def refreshed(process: AuthProcess, refresh_token: str) -> str:
    return (await process.auth.refresh(refresh_token)).refresh_token


async def assert_ended(refresh: Awaitable[object]) -> None:
    ended = await failure(refresh)
    assert (ended.kind, ended.code) == (Kind.UNAUTHENTICATED, "session-ended")


async def test_each_refresh_gives_the_next_token(process: AuthProcess, ada: str) -> None:
    tokens = [ada]
    for _ in range(3):
        tokens.append(await refreshed(process, tokens[-1]))
    assert len(set(tokens)) == 4


async def test_a_refreshed_token_says_what_is_true_now(
    harness: AuthHarness, process: AuthProcess, ada: str
) -> None:
    harness.users.change(EMAIL, name="Ada King", groups=("beta",))
    tokens = await process.auth.refresh(ada)
    caller = await process.verifier().verify(tokens.access_token)
    assert caller == Caller("usr_0", EMAIL, "Ada King", ("beta",))


async def test_a_token_that_comes_back_ends_the_session(
    harness: AuthHarness, process: AuthProcess, ada: str
) -> None:
    stolen = ada
    current = await refreshed(process, ada)
    harness.clock.pass_seconds(11)
    await assert_ended(process.auth.refresh(stolen))
    await assert_ended(process.auth.refresh(current))


async def test_an_older_token_ends_the_session_at_once(process: AuthProcess, ada: str) -> None:
    current = await refreshed(process, await refreshed(process, ada))
    await assert_ended(process.auth.refresh(ada))
    await assert_ended(process.auth.refresh(current))


async def test_a_made_up_secret_ends_the_session(process: AuthProcess, ada: str) -> None:
    session_id = ada.partition(".")[0]
    await assert_ended(process.auth.refresh(f"{session_id}.{'A' * 43}"))
    await assert_ended(process.auth.refresh(ada))


async def test_one_users_reuse_ends_no_other_session(
    harness: AuthHarness, process: AuthProcess, ada: str
) -> None:
    elsewhere = (
        await process.auth.log_in(Authenticate(email=EMAIL, password=PASSWORD, client_address=HOME))
    ).refresh_token
    await refreshed(process, ada)
    harness.clock.pass_seconds(11)
    await assert_ended(process.auth.refresh(ada))
    await refreshed(process, elsewhere)


async def test_requests_at_the_same_time_get_the_same_successor(
    process: AuthProcess, another: AuthProcess, ada: str
) -> None:
    successors = await asyncio.gather(
        *(refreshed(each, ada) for each in (process, another) for _ in range(5))
    )
    (successor,) = set(successors)
    await refreshed(another, successor)


async def test_an_answer_that_got_lost_is_given_again_for_a_moment(
    harness: AuthHarness, process: AuthProcess, ada: str
) -> None:
    lost = await refreshed(process, ada)
    harness.clock.pass_seconds(9.9)
    assert await refreshed(process, ada) == lost
    harness.clock.pass_seconds(0.2)
    await assert_ended(process.auth.refresh(ada))


async def test_a_failed_refresh_uses_nothing_up(
    harness: AuthHarness, process: AuthProcess, ada: str
) -> None:
    harness.users.is_down = True
    assert (await failure(process.auth.refresh(ada))).kind is Kind.UNAVAILABLE
    harness.users.is_down = False
    harness.clock.pass_seconds(60)
    await refreshed(process, ada)


async def test_a_session_ends_when_nobody_uses_it(
    harness: AuthHarness, process: AuthProcess, ada: str
) -> None:
    harness.clock.pass_seconds(LIFETIME_SECONDS - 1)
    used = await refreshed(process, ada)
    harness.clock.pass_seconds(LIFETIME_SECONDS - 1)
    used = await refreshed(process, used)
    harness.clock.pass_seconds(LIFETIME_SECONDS)
    await assert_ended(process.auth.refresh(used))


async def test_a_session_ends_with_its_account(
    harness: AuthHarness, process: AuthProcess, ada: str
) -> None:
    harness.users.accounts.clear()
    gone = await failure(process.auth.refresh(ada))
    assert (gone.kind, gone.code) == (Kind.UNAUTHENTICATED, "account-gone")
    await assert_ended(process.auth.refresh(ada))


async def test_logging_out_ends_the_session_everywhere_and_twice_is_fine(
    process: AuthProcess, another: AuthProcess, ada: str
) -> None:
    await process.auth.log_out(ada)
    await assert_ended(another.auth.refresh(ada))
    await another.auth.log_out(ada)


async def test_logging_out_beats_a_refresh_at_the_same_time(
    process: AuthProcess, another: AuthProcess, ada: str
) -> None:
    outcome, _ = await asyncio.gather(
        refreshed(process, ada), another.auth.log_out(ada), return_exceptions=True
    )
    if isinstance(outcome, str):
        await assert_ended(process.auth.refresh(outcome))
    else:
        assert isinstance(outcome, ShopError)
        assert outcome.kind is Kind.UNAUTHENTICATED


@pytest.mark.parametrize("text", ["", ".", "x", "ses_nobody.x", f"ses_{'a' * 24}.{'A' * 43}", "\0"])
async def test_what_is_no_token_is_refused_and_can_be_logged_out(
    process: AuthProcess, text: str
) -> None:
    await assert_ended(process.auth.refresh(text))
    await process.auth.log_out(text)


async def test_no_token_is_stored(harness: AuthHarness, process: AuthProcess, ada: str) -> None:
    tokens = [ada, await refreshed(process, ada)]
    files = b"".join(path.read_bytes() for path in sorted(harness.data.iterdir()))
    session_id, _, secret = ada.partition(".")
    assert session_id.encode() in files
    for token in tokens:
        assert token.partition(".")[2].encode() not in files
    assert secret


async def test_expired_sessions_are_swept_and_only_those(
    harness: AuthHarness, process: AuthProcess, ada: str
) -> None:
    harness.clock.pass_seconds(LIFETIME_SECONDS - 10)
    later = (
        await process.auth.log_in(Authenticate(email=EMAIL, password=PASSWORD, client_address=HOME))
    ).refresh_token
    harness.clock.pass_seconds(11)
    store = process.sessions._store  # pyright: ignore[reportPrivateUsage]  # what is gone shows nowhere else
    await process.sessions.sweep()
    assert await store.get(ada.partition(".")[0]) is None
    assert await store.get(later.partition(".")[0]) is not None
