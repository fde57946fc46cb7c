"""Turns at work that takes a processor: some at a time, shared fairly, and not for all at once."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from services.common.errors import Kind, ShopError


class Turns:
    """A waiting room with a line for each origin. The lines take turns, so one that is long delays
    only those in it (fair queueing: Nagle, RFC 970).

    When the room is full, the last of the longest line is sent away, which may be the newcomer: a
    waiting line that takes longer than the clients' patience serves nobody.

    :param at_once: how many work at the same time.
    :param waiting: how many more may wait.
    """

    def __init__(self, at_once: int, waiting: int) -> None:
        self._free = at_once
        self._room = waiting
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def turn(self, line: str) -> AsyncGenerator[None]:
        """Waits for a turn and holds it.

        :raises ShopError: THROTTLED, when too many are waiting.
        """
        if self._free > 0:
            self._free -= 1
        else:
            await self._wait(line)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, line: str) -> None:
        self._make_room(line)
        place = asyncio.get_running_loop().create_future()
        self._lines.setdefault(line, deque()).append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.cancelled():
                self._leave(line, place)
            elif place.exception() is None:  # its turn came, and it is gone
                self._pass_on()
            raise

    def _make_room(self, newcomers: str) -> None:
        if sum(map(len, self._lines.values())) < self._room:
            return
        lengths = {line: len(places) for line, places in self._lines.items()}
        lengths[newcomers] = lengths.get(newcomers, 0) + 1
        longest = max(lengths, key=lengths.__getitem__)
        if lengths[longest] <= lengths[newcomers]:
            raise _busy()
        last = self._lines[longest][-1]
        self._leave(longest, last)
        if not last.done():
            last.set_exception(_busy())

    def _pass_on(self) -> None:
        """Gives a turn that has ended to the first of the line that has waited longest for one."""
        while self._lines:
            line, places = next(iter(self._lines.items()))
            place = places[0]
            self._leave(line, place)
            if line in self._lines:
                self._lines.move_to_end(line)
            if not place.done():
                place.set_result(None)
                return
        self._free += 1

    def _leave(self, line: str, place: asyncio.Future[None]) -> None:
        """Takes a place out of its line; one that was cancelled may be out already."""
        places = self._lines.get(line, deque())
        if place in places:
            places.remove(place)
            if not places:
                del self._lines[line]


def _busy() -> ShopError:
    return ShopError(
        Kind.THROTTLED,
        "log-in-busy",
        "Many people are logging in just now. Please try again in a moment.",
        retry_after_seconds=1,
    )
