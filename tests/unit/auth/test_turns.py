"""Turns at the processor: who goes first, who is sent away, and that no turn is lost."""

from __future__ import annotations

import asyncio
import random

import pytest

from services.auth.turns import Turns
from services.common.errors import Kind, ShopError


class Work:
    """Work in turns, each of which ends when the test says so."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.began: list[str] = []
        self.sent_away: list[str] = []
        self._ends: dict[str, asyncio.Event] = {}

    async def do(self, name: str) -> None:
        """Works once, in the line that the name begins with."""
        end = self._ends[name] = asyncio.Event()
        try:
            async with self.turns.turn(name[0]):
                self.began.append(name)
                await end.wait()
        except ShopError as error:
            if error.kind is Kind.THROTTLED:
                self.sent_away.append(name)

    async def come(self, *names: str) -> list[asyncio.Task[None]]:
        """Lets some come one after the other."""
        tasks: list[asyncio.Task[None]] = []
        for name in names:
            tasks.append(asyncio.create_task(self.do(name)))
            await settled()
        return tasks

    async def end(self, name: str) -> None:
        """Ends one's work."""
        self._ends[name].set()
        await settled()


async def settled() -> None:
    """Lets every task go as far as it can: none of them waits for anything outside."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_lines_take_turns() -> None:
    work = Work(Turns(1, 10))
    await work.come("a1", "a2", "a3", "a4", "b1", "b2", "c1")
    for position in range(7):
        await work.end(work.began[position])
    assert work.began == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]


async def test_as_many_work_as_may() -> None:
    work = Work(Turns(2, 10))
    await work.come("a1", "b1", "c1", "d1")
    assert work.began == ["a1", "b1"]
    await work.end("b1")
    assert work.began == ["a1", "b1", "c1"]
    for name in ("a1", "c1", "d1"):
        await work.end(name)
    await work.come("a2", "a3", "a4")
    assert work.began == ["a1", "b1", "c1", "d1", "a2", "a3"]


async def test_the_last_of_the_longest_line_makes_room() -> None:
    work = Work(Turns(1, 4))
    await work.come("a1", "a2", "a3", "a4", "a5", "a6")
    assert work.sent_away == ["a6"]
    await work.come("b1", "c1")
    assert work.sent_away == ["a6", "a5", "a4"]
    await work.come("b2", "a7")  # as long as the longest then: they themselves are the last
    assert work.sent_away == ["a6", "a5", "a4", "b2", "a7"]
    for position in range(5):
        await work.end(work.began[position])
    assert work.began == ["a1", "a2", "b1", "c1", "a3"]


async def test_without_room_nobody_waits() -> None:
    work = Work(Turns(1, 0))
    await work.come("a1", "b1")
    assert (work.began, work.sent_away) == (["a1"], ["b1"])


async def test_whoever_leaves_the_line_takes_no_turn() -> None:
    work = Work(Turns(1, 10))
    _, first, second, _ = await work.come("a1", "b1", "b2", "c1")
    first.cancel()
    second.cancel()
    await work.end("a1")
    assert work.began == ["a1", "c1"]


async def test_a_turn_that_comes_too_late_goes_to_the_next() -> None:
    work = Work(Turns(1, 10))
    first, second, _ = await work.come("a1", "b1", "c1")
    first.cancel()
    await asyncio.sleep(0)  # the first has gone, and the second has not yet heard of its turn
    second.cancel()
    await settled()
    assert work.began == ["a1", "c1"]


@pytest.mark.parametrize("seed", range(20))
async def test_no_turn_is_lost_whatever_happens(seed: int) -> None:
    chance = random.Random(seed)
    turns = Turns(2, 3)
    working = most = 0

    async def come() -> None:
        nonlocal working, most
        async with turns.turn(chance.choice("abc")):
            working += 1
            most = max(most, working)
            try:
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
            finally:
                working -= 1

    tasks: list[asyncio.Task[None]] = []
    for _ in range(200):
        tasks.append(asyncio.create_task(come()))
        if chance.random() < 0.3:
            chance.choice(tasks).cancel()
        if chance.random() < 0.5:
            await asyncio.sleep(0)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    kinds = {type(outcome) for outcome in outcomes}
    assert kinds == {type(None), asyncio.CancelledError, ShopError}
    assert (most, working) == (2, 0)
    work = Work(turns)
    await work.come("a1", "b1", "c1")
    assert work.began == ["a1", "b1"]
