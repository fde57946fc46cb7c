"""An event loop in which nobody waits: when all tasks sleep it is at once as late as the first of
them wants it to be.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class _Skipping(selectors.DefaultSelector):
    """Skips the time that it was to wait for.

    :ivar now: seconds since the beginning.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is not None:
            self.now += timeout
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.now


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """What a coroutine returns that only sleeps, and asks its loop for the time."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(main)
