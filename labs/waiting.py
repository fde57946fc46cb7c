"""Waiting for a condition."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from labs.errors import LabError

Seen = TypeVar("Seen")

_POLL_SECONDS = 0.1


async def eventually(
    look: Callable[[], Awaitable[bool]],
    what: str,
    within_seconds: float,
    poll_seconds: float = _POLL_SECONDS,
) -> None:
    """Returns once `look` returns True.

    :raises LabError: it does not in time; the message says `what` was waited for.
    """
    until = time.monotonic() + within_seconds
    while not await look():
        if time.monotonic() > until:
            raise LabError(f"Not within {within_seconds:g} s: {what}.")
        await asyncio.sleep(poll_seconds)


async def at_rest(
    look: Callable[[], Awaitable[Seen]], what: str, within_seconds: float, pause_seconds: float
) -> Seen:
    """Returns what `look` returns, once it is the same twice with a pause between.

    :raises LabError: it still changes; the message says `what` does.
    """
    seen = await look()

    async def is_the_same() -> bool:
        nonlocal seen
        before, seen = seen, await look()
        return seen == before

    await asyncio.sleep(pause_seconds)
    await eventually(is_the_same, f"{what} is at rest", within_seconds, pause_seconds)
    return seen
