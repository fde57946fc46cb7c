"""The faults that a request can meet between its caller and its callee, whatever the protocol."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

FORWARDED = "forwarded"

Outcome = TypeVar("Outcome")


class Fault(StrEnum):
    """What can happen to a request."""

    DELAY = "delay"  # it takes longer on its way
    ERROR = "error"  # it is refused and never arrives
    LOST_REPLY = "lost reply"  # it has its effect, and the caller never hears of it
    DUPLICATE = "duplicate"  # it arrives twice
    LATE = "late"  # it arrives after its caller has given up


@dataclass(frozen=True, slots=True)
class Faults:
    """How likely a request meets each fault, from 0 to 1; it meets one at most.

    The seconds are upper bounds: how long a delayed request is held, how long after the first the
    second copy of a duplicated one follows (half of them do so at once), and how long after its
    caller has given up a late one is sent.
    """

    delay: float = 0.0
    error: float = 0.0
    lost_reply: float = 0.0
    duplicate: float = 0.0
    late: float = 0.0
    delay_seconds: float = 1.0
    duplicate_seconds: float = 2.0
    late_seconds: float = 2.0

    def __post_init__(self) -> None:
        rates = [rate for _, rate in self._rates()]
        if min(rates) < 0 or sum(rates) > 1:
            raise ValueError(f"these are no shares of all requests: {self}")

    def draw(self, dice: random.Random) -> Fault | None:
        """The fault of one request."""
        point = dice.random()
        for fault, rate in self._rates():
            if point < rate:
                return fault
            point -= rate
        return None

    def _rates(self) -> tuple[tuple[Fault, float], ...]:
        return (
            (Fault.DELAY, self.delay),
            (Fault.ERROR, self.error),
            (Fault.LOST_REPLY, self.lost_reply),
            (Fault.DUPLICATE, self.duplicate),
            (Fault.LATE, self.late),
        )


NO_FAULTS = Faults()


class InjectedError(Exception):
    """The request was not forwarded: answer with an error."""


class ReplyLostError(Exception):
    """The callee has answered: do not answer."""


class FaultInjector:
    """Sends requests on, and does to them what its faults say.

    :param counts: how often each fault has really happened, and how many requests were FORWARDED,
        copies included.
    """

    def __init__(self, dice: random.Random, counts: Counter[str]) -> None:
        self.dice = dice
        self._counts = counts
        self._faults = NO_FAULTS
        self._is_healed = asyncio.Event()
        self._is_healed.set()
        self._under_way: set[asyncio.Task[Any]] = set()

    @property
    def faults(self) -> Faults:
        """What happens to the requests from now on."""
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._faults = faults
        if faults is not NO_FAULTS:
            self._is_healed.clear()

    def heal(self) -> None:
        """Ends all faults and lets go at once what is being held."""
        self._faults = NO_FAULTS
        self._is_healed.set()

    @property
    def held(self) -> int:
        """How many requests meet a fault just now, copies that are under way included."""
        return len(self._under_way)

    async def drained(self) -> None:
        """Returns when no request is held and no copy is under way."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def close(self) -> None:
        """Gives up what is being held."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def send(self, forward: Callable[[], Coroutine[Any, Any, Outcome]]) -> Outcome:
        """What `forward` gives, if the faults let it. Cancelled when the caller gives up.

        :param forward: sends the request to the callee; may be called twice and when the caller has
            long gone. A failure is among what it gives; it does not raise.
        :raises InjectedError: the request was not forwarded.
        :raises ReplyLostError: it was.
        """
        fault = self._faults.draw(self.dice) if self._faults is not NO_FAULTS else None
        if fault is None:
            self._counts[FORWARDED] += 1
            return await forward()
        with self._tracked():
            return await self._send_badly(fault, forward)

    async def _send_badly(
        self, fault: Fault, forward: Callable[[], Coroutine[Any, Any, Outcome]]
    ) -> Outcome:
        match fault:
            case Fault.DELAY:
                self._counts[fault] += 1
                await self._pause(self._faults.delay_seconds)
            case Fault.ERROR:
                self._counts[fault] += 1
                raise InjectedError
            case Fault.LOST_REPLY:
                self._counts[FORWARDED] += 1
                await forward()
                self._counts[fault] += 1
                raise ReplyLostError
            case Fault.DUPLICATE:
                pause_seconds = self.dice.choice((0.0, self._faults.duplicate_seconds))
                self._send_copy(fault, forward, pause_seconds)
            case Fault.LATE:
                try:
                    await self._is_healed.wait()
                except asyncio.CancelledError:  # the caller has given up
                    self._send_copy(fault, forward, self._faults.late_seconds)
                    raise
        self._counts[FORWARDED] += 1
        return await forward()

    def _send_copy(
        self, fault: Fault, forward: Callable[[], Awaitable[object]], pause_seconds: float
    ) -> None:
        self._counts[fault] += 1

        async def send() -> None:
            await self._pause(pause_seconds)
            self._counts[FORWARDED] += 1
            await forward()

        copy = asyncio.create_task(send())
        self._under_way.add(copy)
        copy.add_done_callback(self._under_way.discard)

    async def _pause(self, longest_seconds: float) -> None:
        """Waits for up to that long, but no longer than until all is healed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.dice.uniform(0, longest_seconds)):
                await self._is_healed.wait()

    @contextmanager
    def _tracked(self) -> Generator[None]:
        """Makes `drained` wait for the current task."""
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        try:
            yield
        finally:
            self._under_way.discard(task)
