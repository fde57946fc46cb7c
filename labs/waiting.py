"""Waiting for a condition."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from labs.errors import LabError

_POLL_SECONDS = 0.1


async def eventually(
    look: Callable[[], Awaitable[bool]],
    what: str,
    within_seconds: float,
    poll_seconds: float = _POLL_SECONDS,
) -> None:
    """Returns once `look` gives True.

    :raises LabError: it does not in time; says `what` was waited for.
    """
    until = time.monotonic() + within_seconds
    while not await look():
        if time.monotonic() > until:
            raise LabError(f"Not within {within_seconds:g} s: {what}.")
        await asyncio.sleep(poll_seconds)
