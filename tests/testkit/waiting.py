"""Waiting for a condition, with a deadline, instead of sleeping for luck."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

Found = TypeVar("Found")

_POLL_SECONDS = 0.02


async def eventually(
    look: Callable[[], Awaitable[Found | None]], what: str, within_seconds: float = 45.0
) -> Found:
    """What `look` finds once it finds something other than None or False.

    :raises AssertionError: it found nothing in time; says `what` was waited for.
    """
    until = time.monotonic() + within_seconds
    while True:
        found = await look()
        if found is not None and found is not False:
            return found
        assert time.monotonic() < until, f"not within {within_seconds:g} s: {what}"
        await asyncio.sleep(_POLL_SECONDS)


def wait_until(look: Callable[[], Found | None], what: str, within_seconds: float = 45.0) -> Found:
    """The same, for code without an event loop."""
    until = time.monotonic() + within_seconds
    while True:
        found = look()
        if found is not None and found is not False:
            return found
        assert time.monotonic() < until, f"not within {within_seconds:g} s: {what}"
        time.sleep(_POLL_SECONDS)
