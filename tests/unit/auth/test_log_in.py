"""Logging in: who gets in, what the others learn, and how soon they may try again."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from unittest.mock import patch

import pytest
from argon2 import PasswordHasher

from services.auth.model.commands import Authenticate, Register
from services.auth.model.sources import Source
from services.auth.service import Tokens
from services.auth.settings import AuthSettings
from services.common.errors import Kind, ShopError
from tests.testkit.waiting import eventually
from tests.unit.auth.kit import ELSEWHERE, EMAIL, HOME, PASSWORD, SETTINGS, AuthHarness, AuthProcess
from tests.unit.failure import failure

WRONG = "wrong horse battery"


async def guess(
    process: AuthProcess,
    password: str = WRONG,
    email: str = EMAIL,
    client_address: str = HOME,
    device_token: str = "",
) -> str:
    """What comes of an attempt: the error's code, or "ok"."""
    try:
        await process.auth.log_in(
            Authenticate(
                email=email,
                password=password,
                client_address=client_address,
                device_token=device_token,
            )
        )
    except ShopError as error:
        return error.code
    return "ok"


async def register(process: AuthProcess, email: str = EMAIL, password: str = PASSWORD) -> Tokens:
    return await process.auth.register(
        Register(email=email, password=password, name="Ada", client_address=HOME)
    )


async def right(process: AuthProcess, client_address: str = HOME, device_token: str = "") -> Tokens:
    """Logs in with the right password."""
    return await process.auth.log_in(
        Authenticate(
            email=EMAIL, password=PASSWORD, client_address=client_address, device_token=device_token
        )
    )


async def test_the_right_password_opens_a_session(process: AuthProcess, ada: str) -> None:
    tokens = await right(process)
    caller = await process.verifier().verify(tokens.access_token)
    assert (caller.user_id, caller.email, caller.name) == ("usr_0", EMAIL, "Ada Lovelace")
    assert tokens.expires_in == 900
    assert tokens.refresh_token != ada


async def test_a_password_means_the_same_on_any_keyboard(process: AuthProcess) -> None:
    await register(process, password="Café crème №5")
    assert await guess(process, "Cafe\u0301 cre\u0300me No5") == "ok"


async def test_unknown_addresses_and_wrong_passwords_look_the_same(
    process: AuthProcess, ada: str
) -> None:
    attempts = (
        process.auth.log_in(Authenticate(email=email, password=WRONG, client_address=HOME))
        for email in (EMAIL, "nobody@example.com")
    )
    wrong, unknown = [await failure(attempt) for attempt in attempts]
    assert (wrong.kind, wrong.code, wrong.detail) == (unknown.kind, unknown.code, unknown.detail)
    assert (wrong.kind, wrong.code) == (Kind.UNAUTHENTICATED, "wrong-credentials")


async def test_an_unknown_address_costs_a_hash_too(harness: AuthHarness) -> None:
    slow = SETTINGS.model_copy(
        update={"password_hash_memory_kib": 32 * 1024, "password_hash_iterations": 4}
    )
    async with harness.process(slow) as process:
        # The processor's time, threads included: what else the machine does is not in it.
        began = time.process_time()
        await process.passwords.hash(WRONG)
        hash_seconds = time.process_time() - began
        began = time.process_time()
        assert await guess(process, email="nobody@example.com") == "wrong-credentials"
        assert time.process_time() - began > hash_seconds / 3


async def test_five_wrong_passwords_close_the_door_for_longer_and_longer(
    harness: AuthHarness, process: AuthProcess, ada: str
) -> None:
    assert [await guess(process) for _ in range(5)] == ["wrong-credentials"] * 5
    for pause_seconds in (30, 60, 120, 240, 480, 900, 900):
        refused = await failure(right(process))
        assert (refused.kind, refused.code) == (Kind.THROTTLED, "too-many-attempts")
        assert refused.retry_after_seconds == pause_seconds
        harness.clock.pass_seconds(pause_seconds)
        assert await guess(process) == "wrong-credentials"


async def test_success_starts_over(harness: AuthHarness, process: AuthProcess, ada: str) -> None:
    for _ in range(3):
        assert [await guess(process) for _ in range(4)] == ["wrong-credentials"] * 4
        assert await guess(process, PASSWORD) == "ok"
    assert [await guess(process) for _ in range(5)] == ["wrong-credentials"] * 5
    assert await guess(process, PASSWORD) == "too-many-attempts"
    harness.clock.pass_seconds(30)
    assert await guess(process, PASSWORD) == "ok"
    assert await guess(process) == "wrong-credentials"


async def test_time_starts_over_too(harness: AuthHarness, process: AuthProcess, ada: str) -> None:
    for _ in range(3):
        assert [await guess(process) for _ in range(4)] == ["wrong-credentials"] * 4
        harness.clock.pass_seconds(300)


async def test_unknown_addresses_are_throttled_alike(process: AuthProcess) -> None:
    outcomes = [await guess(process, email="nobody@example.com") for _ in range(6)]
    assert outcomes == ["wrong-credentials"] * 5 + ["too-many-attempts"]


async def test_processes_count_together_however_many_guess_at_once(
    process: AuthProcess, another: AuthProcess, ada: str
) -> None:
    outcomes = await asyncio.gather(
        *(guess(each) for each in (process, another) for _ in range(20))
    )
    assert sorted(outcomes) == ["too-many-attempts"] * 35 + ["wrong-credentials"] * 5
    assert await guess(another, PASSWORD) == "too-many-attempts"


async def test_one_address_closed_leaves_the_others_open(process: AuthProcess, ada: str) -> None:
    for _ in range(6):
        await guess(process, email="eve@example.com")
    assert await guess(process, PASSWORD) == "ok"


async def test_failures_elsewhere_keep_nobody_out(process: AuthProcess, ada: str) -> None:
    outcomes = [await guess(process, client_address=ELSEWHERE) for _ in range(6)]
    assert outcomes == ["wrong-credentials"] * 5 + ["too-many-attempts"]
    assert await guess(process, PASSWORD, client_address=ELSEWHERE) == "too-many-attempts"
    assert await guess(process, PASSWORD) == "ok"
    assert await guess(process, PASSWORD, client_address=ELSEWHERE) == "too-many-attempts"


async def test_guesses_spread_over_many_addresses_close_their_network_for_the_minute(
    harness: AuthHarness,
) -> None:
    few = SETTINGS.model_copy(update={"login_failures_per_minute": 10})
    async with harness.process(few) as process, harness.process(few) as another:
        await register(process)
        harness.clock.pass_seconds(60 - harness.clock.now_ms % 60_000 / 1000)
        for number in range(5):
            for each in (process, another):
                email = f"{number}-{id(each)}@example.com"
                outcome = await guess(each, email=email, client_address=ELSEWHERE)
                assert outcome == "wrong-credentials"
        refused = await failure(right(another, client_address=ELSEWHERE))
        assert refused.kind is Kind.THROTTLED
        assert refused.retry_after_seconds == pytest.approx(60, abs=0.01)
        assert await guess(another, PASSWORD) == "ok"
        harness.clock.pass_seconds(60)
        assert await guess(process, PASSWORD, client_address=ELSEWHERE) == "ok"


async def test_guesses_at_the_same_time_are_no_way_around_that(harness: AuthHarness) -> None:
    few = SETTINGS.model_copy(update={"login_failures_per_minute": 10, "password_hash_threads": 2})
    async with harness.process(few) as process:
        outcomes = await asyncio.gather(
            *(guess(process, email=f"{number}@example.com") for number in range(40))
        )
    assert 10 <= outcomes.count("wrong-credentials") <= 11
    assert outcomes.count("too-many-attempts") >= 29


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("", "no address", True),
        ("", "192.0.2.1", False),
    ],
)
async def test_a_network_is_what_one_subscriber_has(
    process: AuthProcess, ada: str, one: str, other: str, is_same: bool
) -> None:
    for _ in range(5):
        await guess(process, client_address=one)
    outcome = await guess(process, PASSWORD, client_address=other)
    assert outcome == ("too-many-attempts" if is_same else "ok")


async def test_a_known_browser_is_let_in_where_strangers_have_failed(
    harness: AuthHarness, another: AuthProcess
) -> None:
    few = SETTINGS.model_copy(update={"login_failures_per_minute": 10})
    async with harness.process(few) as process:
        device_token = (await register(process)).device_token
        for number in range(6):
            await guess(process)
            await guess(process, email=f"{number}@example.com")
        assert await guess(process, PASSWORD) == "too-many-attempts"
        for each in (process, another):  # all processes know it
            assert await guess(each, PASSWORD, device_token=device_token) == "ok"
        assert await guess(process, PASSWORD) == "too-many-attempts"


async def test_a_known_browser_has_as_many_guesses_as_a_network(
    process: AuthProcess, ada: str
) -> None:
    tokens = await right(process)
    session = await process.auth.refresh(tokens.refresh_token)
    # A renewed session is the same device, wherever it is.
    for device_token, client_address in (
        (tokens.device_token, HOME),
        (session.device_token, HOME),
        (tokens.device_token, ELSEWHERE),
        (session.device_token, ELSEWHERE),
        (session.device_token, HOME),
    ):
        outcome = await guess(process, WRONG, EMAIL, client_address, device_token)
        assert outcome == "wrong-credentials"
    for client_address in (HOME, ELSEWHERE):
        outcome = await guess(process, PASSWORD, EMAIL, client_address, session.device_token)
        assert outcome == "too-many-attempts"
        assert await guess(process, PASSWORD, EMAIL, client_address) == "ok"


async def test_a_browser_is_known_for_one_account_and_a_year(
    harness: AuthHarness, process: AuthProcess, ada: str
) -> None:
    grace = await register(process, "grace@example.com")
    tokens = await right(process)
    last = tokens.device_token[-1]
    forged = tokens.device_token[:-1] + ("1" if last == "0" else "0")
    device, expires_ms, signature = tokens.device_token.split(".")
    prolonged = f"{device}.{int(expires_ms) + 1}.{signature}"
    for _ in range(5):
        await guess(process)
    for unknown in (grace.device_token, forged, prolonged, ada, "x" * 10_000, "\ud800"):
        assert await guess(process, PASSWORD, device_token=unknown) == "too-many-attempts"
    harness.clock.pass_seconds(365 * 86_400 - 1)
    for _ in range(5):
        await guess(process)
    assert await guess(process, PASSWORD, device_token=tokens.device_token) == "ok"
    harness.clock.pass_seconds(1)
    assert await guess(process, PASSWORD, device_token=tokens.device_token) == "too-many-attempts"


async def test_an_outage_costs_nobody_an_attempt(
    harness: AuthHarness, process: AuthProcess, ada: str
) -> None:
    harness.users.is_down = True
    assert [await guess(process, PASSWORD) for _ in range(10)] == ["user-unavailable"] * 10
    harness.users.is_down = False
    assert [await guess(process) for _ in range(5)] == ["wrong-credentials"] * 5


async def happened(condition: Callable[[], bool], what: str) -> None:
    async def look() -> bool:
        return condition()

    await eventually(look, what)


class _Held:
    """Password hashes that take until they are released."""

    def __init__(self) -> None:
        self._released = threading.Event()
        self.begun = 0

    def hash(self, *_: object) -> str:
        self.begun += 1
        assert self._released.wait(30)
        return "$argon2id$"

    def release(self) -> None:
        self._released.set()


def narrow(queue: int) -> AuthSettings:
    """One password is hashed at a time, and so many wait."""
    return SETTINGS.model_copy(update={"password_hash_threads": 1, "password_hash_queue": queue})


async def test_a_crowd_is_sent_away_rather_than_kept_waiting(harness: AuthHarness) -> None:
    async with harness.process(narrow(2)) as process:
        outcomes = await asyncio.gather(
            *(register(process, f"{number}@example.com") for number in range(10)),
            return_exceptions=True,
        )
        refused = [outcome for outcome in outcomes if isinstance(outcome, ShopError)]
        assert [(error.kind, error.code) for error in refused] == [
            (Kind.THROTTLED, "log-in-busy")
        ] * 7
        assert await guess(process, email="0@example.com", password=PASSWORD) == "ok"


async def test_a_crowd_costs_nobody_an_attempt(harness: AuthHarness) -> None:
    async with harness.process(narrow(0)) as process:
        await register(process)
        held = _Held()
        with patch.object(PasswordHasher, "hash", side_effect=held.hash):
            registering = asyncio.create_task(register(process, "grace@example.com"))
            await happened(lambda: held.begun == 1, "the only thread is busy")
            assert [await guess(process) for _ in range(10)] == ["log-in-busy"] * 10
            held.release()
            await registering
        assert [await guess(process) for _ in range(5)] == ["wrong-credentials"] * 5


async def test_a_crowd_from_one_network_neither_sends_others_away_nor_goes_first(
    harness: AuthHarness,
) -> None:
    ended: list[str] = []

    async def attempt(process: AuthProcess, client_address: str, number: int) -> str:
        email = EMAIL if client_address == HOME else f"{number}@example.com"
        outcome = await guess(process, PASSWORD, email, client_address)
        ended.append(f"{client_address} {outcome}")
        return outcome

    async with harness.process(narrow(8)) as process:
        await register(process)
        held = _Held()
        with patch.object(PasswordHasher, "hash", side_effect=held.hash):
            registering = asyncio.create_task(register(process, "grace@example.com"))
            await happened(lambda: held.begun == 1, "the only thread is busy")
            crowd = [
                asyncio.create_task(attempt(process, ELSEWHERE, number)) for number in range(20)
            ]
            await happened(lambda: len(ended) == 12, "all but eight are sent away")
            customer = asyncio.create_task(attempt(process, HOME, 0))
            await happened(lambda: len(ended) == 13, "the last of the crowd makes room")
            assert ended == [f"{ELSEWHERE} log-in-busy"] * 13
            held.release()
            assert await customer == "ok"
            outcomes = await asyncio.gather(*crowd)
        await registering
    assert outcomes.count("wrong-credentials") == 7
    assert ended.index(f"{HOME} ok") <= 13 + 2  # one turn of the crowd's before, one at its heels


async def test_a_hash_of_other_parameters_is_replaced_at_the_next_log_in(
    harness: AuthHarness, process: AuthProcess, ada: str
) -> None:
    stronger = SETTINGS.model_copy(update={"password_hash_iterations": 3})
    before = harness.users.accounts[EMAIL].password_hash
    async with harness.process(stronger) as upgraded:
        assert await guess(upgraded) == "wrong-credentials"
        assert harness.users.accounts[EMAIL].password_hash == before
        assert await guess(upgraded, PASSWORD) == "ok"
        after = harness.users.accounts[EMAIL].password_hash
        assert "t=1" in before
        assert "t=3" in after
        assert await guess(upgraded, PASSWORD) == "ok"
        assert harness.users.accounts[EMAIL].password_hash == after


async def test_log_in_does_not_depend_on_the_new_hash_being_stored(
    harness: AuthHarness, process: AuthProcess, ada: str
) -> None:
    stronger = SETTINGS.model_copy(update={"password_hash_iterations": 3})
    unavailable = ShopError(Kind.UNAVAILABLE, "user-unavailable", "user cannot be reached.")
    async with harness.process(stronger) as upgraded:
        with patch.object(
            harness.users, "replace_password_hash", side_effect=unavailable
        ) as failed:
            assert await guess(upgraded, PASSWORD) == "ok"
        failed.assert_called_once()


async def test_counters_that_no_longer_count_are_swept(
    harness: AuthHarness, process: AuthProcess, ada: str
) -> None:
    source = Source(HOME)
    await guess(process)
    counted_ms = harness.clock.now_ms
    store = process.throttle._store  # pyright: ignore[reportPrivateUsage]  # what is gone shows nowhere else
    await process.throttle.sweep()
    assert await store.get(source, EMAIL) is not None
    assert await store.failures(HOME, counted_ms) == 1
    harness.clock.pass_seconds(301)
    await process.throttle.sweep()
    assert await store.get(source, EMAIL) is None
    assert await store.failures(HOME, counted_ms) == 0
