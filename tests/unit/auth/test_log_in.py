"""Logging in: who gets in, what the others learn, and how soon they may try again."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable
from unittest.mock import patch

import pytest
from argon2 import PasswordHasher

from services.common.errors import Kind, ShopError
from tests.unit.auth.kit import EMAIL, PASSWORD, SETTINGS, Process, World

WRONG = "wrong horse battery"


async def failure(attempt: Awaitable[object]) -> ShopError:
    with pytest.raises(ShopError) as failed:
        await attempt
    return failed.value


async def guess(process: Process, password: str = WRONG, email: str = EMAIL) -> str:
    """What comes of an attempt: the error's code, or "ok"."""
    try:
        await process.auth.log_in(email=email, password=password)
    except ShopError as error:
        return error.code
    return "ok"


async def test_the_right_password_opens_a_session(process: Process, ada: str) -> None:
    tokens = await process.auth.log_in(email=EMAIL, password=PASSWORD)
    caller = await process.verifier().verify(tokens.access_token)
    assert (caller.user_id, caller.email, caller.name) == ("usr_0", EMAIL, "Ada Lovelace")
    assert tokens.expires_in == 900
    assert tokens.refresh_token != ada


async def test_a_password_means_the_same_on_any_keyboard(process: Process) -> None:
    await process.auth.register(email=EMAIL, password="Café crème №5", name="Ada")
    assert await guess(process, "Cafe\u0301 cre\u0300me No5") == "ok"


async def test_unknown_addresses_and_wrong_passwords_look_the_same(
    process: Process, ada: str
) -> None:
    wrong = await failure(process.auth.log_in(email=EMAIL, password=WRONG))
    unknown = await failure(process.auth.log_in(email="nobody@example.com", password=WRONG))
    assert (wrong.kind, wrong.code, wrong.detail) == (unknown.kind, unknown.code, unknown.detail)
    assert (wrong.kind, wrong.code) == (Kind.UNAUTHENTICATED, "wrong-credentials")


async def test_an_unknown_address_costs_a_hash_too(world: World) -> None:
    slow = SETTINGS.model_copy(
        update={"password_hash_memory_kib": 32 * 1024, "password_hash_iterations": 4}
    )
    async with world.process(slow) as process:
        # The processor's time, threads included: what else the machine does is not in it.
        began = time.process_time()
        await process.passwords.hash(WRONG)
        hash_seconds = time.process_time() - began
        began = time.process_time()
        assert await guess(process, email="nobody@example.com") == "wrong-credentials"
        assert time.process_time() - began > hash_seconds / 3


async def test_five_wrong_passwords_close_the_door_for_longer_and_longer(
    world: World, process: Process, ada: str
) -> None:
    assert [await guess(process) for _ in range(5)] == ["wrong-credentials"] * 5
    for pause_seconds in (30, 60, 120, 240, 480, 900, 900):
        refused = await failure(process.auth.log_in(email=EMAIL, password=PASSWORD))
        assert (refused.kind, refused.code) == (Kind.THROTTLED, "too-many-attempts")
        assert refused.retry_after_seconds == pause_seconds
        world.clock.pass_seconds(pause_seconds)
        assert await guess(process) == "wrong-credentials"


async def test_success_starts_over(world: World, process: Process, ada: str) -> None:
    for _ in range(3):
        assert [await guess(process) for _ in range(4)] == ["wrong-credentials"] * 4
        assert await guess(process, PASSWORD) == "ok"
    assert [await guess(process) for _ in range(5)] == ["wrong-credentials"] * 5
    assert await guess(process, PASSWORD) == "too-many-attempts"
    world.clock.pass_seconds(30)
    assert await guess(process, PASSWORD) == "ok"
    assert await guess(process) == "wrong-credentials"


async def test_time_starts_over_too(world: World, process: Process, ada: str) -> None:
    for _ in range(3):
        assert [await guess(process) for _ in range(4)] == ["wrong-credentials"] * 4
        world.clock.pass_seconds(300)


async def test_unknown_addresses_are_throttled_alike(process: Process) -> None:
    outcomes = [await guess(process, email="nobody@example.com") for _ in range(6)]
    assert outcomes == ["wrong-credentials"] * 5 + ["too-many-attempts"]


async def test_processes_count_together_however_many_guess_at_once(
    process: Process, another: Process, ada: str
) -> None:
    outcomes = await asyncio.gather(
        *(guess(each) for each in (process, another) for _ in range(20))
    )
    assert sorted(outcomes) == ["too-many-attempts"] * 35 + ["wrong-credentials"] * 5
    assert await guess(another, PASSWORD) == "too-many-attempts"


async def test_one_address_closed_leaves_the_others_open(process: Process, ada: str) -> None:
    for _ in range(6):
        await guess(process, email="eve@example.com")
    assert await guess(process, PASSWORD) == "ok"


async def test_guesses_spread_over_many_addresses_close_the_door_for_the_minute(
    world: World,
) -> None:
    few = SETTINGS.model_copy(update={"login_failures_per_minute": 10})
    async with world.process(few) as process, world.process(few) as another:
        await process.auth.register(email=EMAIL, password=PASSWORD, name="Ada")
        world.clock.pass_seconds(60 - world.clock.now_ms % 60_000 / 1000)
        for number in range(5):
            for each in (process, another):
                email = f"{number}-{id(each)}@example.com"
                assert await guess(each, email=email) == "wrong-credentials"
        refused = await failure(another.auth.log_in(email=EMAIL, password=PASSWORD))
        assert refused.kind is Kind.THROTTLED
        assert refused.retry_after_seconds == pytest.approx(60, abs=0.01)
        world.clock.pass_seconds(60)
        assert await guess(process, PASSWORD) == "ok"


async def test_an_outage_costs_nobody_an_attempt(world: World, process: Process, ada: str) -> None:
    world.users.is_down = True
    assert [await guess(process, PASSWORD) for _ in range(10)] == ["user-unavailable"] * 10
    world.users.is_down = False
    assert [await guess(process) for _ in range(5)] == ["wrong-credentials"] * 5


async def test_a_crowd_is_sent_away_rather_than_kept_waiting(world: World) -> None:
    narrow = SETTINGS.model_copy(update={"password_hash_threads": 1, "password_hash_queue": 2})
    async with world.process(narrow) as process:
        await process.auth.register(email=EMAIL, password=PASSWORD, name="Ada")
        outcomes = await asyncio.gather(
            *(process.passwords.hash(PASSWORD) for _ in range(10)), return_exceptions=True
        )
        refused = [outcome for outcome in outcomes if isinstance(outcome, ShopError)]
        assert [(error.kind, error.code) for error in refused] == [
            (Kind.THROTTLED, "log-in-busy")
        ] * 7
        assert await guess(process, PASSWORD) == "ok"


async def test_a_crowd_costs_nobody_an_attempt(world: World) -> None:
    narrow = SETTINGS.model_copy(update={"password_hash_threads": 1, "password_hash_queue": 0})
    async with world.process(narrow) as process:
        await process.auth.register(email=EMAIL, password=PASSWORD, name="Ada")
        released = threading.Event()

        def hash_slowly(_: str) -> str:
            assert released.wait(30)
            return "$argon2id$"

        with patch.object(PasswordHasher, "hash", side_effect=hash_slowly):
            hashing = asyncio.create_task(process.passwords.hash(PASSWORD))
            await asyncio.sleep(0)  # the task begins, and the only thread is busy from then on
            assert [await guess(process) for _ in range(10)] == ["log-in-busy"] * 10
            released.set()
            await hashing
        assert [await guess(process) for _ in range(5)] == ["wrong-credentials"] * 5


async def test_a_hash_of_other_parameters_is_replaced_at_the_next_log_in(
    world: World, process: Process, ada: str
) -> None:
    stronger = SETTINGS.model_copy(update={"password_hash_iterations": 3})
    before = world.users.accounts[EMAIL].password_hash
    async with world.process(stronger) as upgraded:
        assert await guess(upgraded) == "wrong-credentials"
        assert world.users.accounts[EMAIL].password_hash == before
        assert await guess(upgraded, PASSWORD) == "ok"
        after = world.users.accounts[EMAIL].password_hash
        assert "t=1" in before
        assert "t=3" in after
        assert await guess(upgraded, PASSWORD) == "ok"
        assert world.users.accounts[EMAIL].password_hash == after


async def test_log_in_does_not_depend_on_the_new_hash_being_stored(
    world: World, process: Process, ada: str
) -> None:
    stronger = SETTINGS.model_copy(update={"password_hash_iterations": 3})
    unavailable = ShopError(Kind.UNAVAILABLE, "user-unavailable", "user cannot be reached.")
    async with world.process(stronger) as upgraded:
        with patch.object(world.users, "replace_password_hash", side_effect=unavailable) as failed:
            assert await guess(upgraded, PASSWORD) == "ok"
        failed.assert_called_once()


async def test_counters_that_no_longer_count_are_swept(
    world: World, process: Process, ada: str
) -> None:
    await guess(process)
    counted_ms = world.clock.now_ms
    store = process.throttle._store  # pyright: ignore[reportPrivateUsage]  # what is gone shows nowhere else
    await process.throttle.sweep()
    assert await store.get(EMAIL) is not None
    assert await store.failures(counted_ms) == 1
    world.clock.pass_seconds(301)
    await process.throttle.sweep()
    assert await store.get(EMAIL) is None
    assert await store.failures(counted_ms) == 0
