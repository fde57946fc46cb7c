"""Periodic background jobs that survive their own failures, and work on many things at once."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from services.common import context
from services.common.errors import ShopError
from services.common.observing.logs import get_logger
from services.common.observing.metrics import Metrics

log = get_logger(__name__)

Item = TypeVar("Item")
JobFunction = Callable[[], Awaitable[None]]

_RUN_SECONDS = 60.0


class Job:
    """Runs a function every so often, and at once after `wake()`. A failing run is logged, counted
    and tried again.

    :param begin_after: returns when the first run may begin; by default that is at once.
    """

    def __init__(
        self,
        name: str,
        interval_seconds: float,
        run: JobFunction,
        metrics: Metrics,
        begin_after: JobFunction | None = None,
    ) -> None:
        self.name = name
        self._interval_seconds = interval_seconds
        self._run = run
        self._metrics = metrics
        self._begin_after = begin_after
        self._has_begun = False
        self._woken = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    @property
    def is_alive(self) -> bool:
        """Whether the job still runs, or has not been started or was stopped on purpose."""
        return self._stopping or self._task is None or not self._task.done()

    def start(self) -> None:
        """Starts the job; its first run comes as soon as it may."""
        self._task = asyncio.create_task(self._loop(), name=f"job {self.name}")

    def wake(self) -> None:
        """Runs the job now, or once more when it is running."""
        self._woken.set()

    async def stop(self, grace_seconds: float) -> None:
        """Lets a run under way finish within the grace, then cancels it."""
        self._stopping = True
        self._woken.set()
        if self._task is not None:
            if self._has_begun:
                await asyncio.wait({self._task}, timeout=grace_seconds)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _loop(self) -> None:
        if self._begin_after is not None:
            await self._begin_after()
        self._has_begun = True
        while not self._stopping:
            self._woken.clear()
            await self._run_once()
            # Jitter keeps several processes from sweeping in step.
            pause_seconds = self._interval_seconds * random.uniform(0.8, 1.2)  # noqa: S311  not for secrets
            try:
                async with asyncio.timeout(pause_seconds):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def _run_once(self) -> None:
        outcome = "ok"
        with context.background(_RUN_SECONDS):
            try:
                async with asyncio.timeout(_RUN_SECONDS):
                    await self._run()
            except ShopError as error:
                outcome = error.kind.value
                log.warning("job.failed", job=self.name, kind=error.kind.value, reason=error.detail)
            except Exception:
                outcome = "crashed"
                log.exception("job.crashed", job=self.name)
        self._metrics.job(self.name, outcome)


async def for_each(
    items: Iterable[Item], work: Callable[[Item], Awaitable[None]], at_once: int
) -> None:
    """Does the same for all items, so many at once.

    After a failure no more are begun, and it is raised when those under way have ended.
    """
    left = deque(items)

    async def lane() -> None:
        while left:
            try:
                await work(left.popleft())
            except BaseException:
                left.clear()
                raise

    lanes = [lane() for _ in range(min(at_once, len(left)))]
    if len(lanes) < 2:
        for only in lanes:  # needs no task
            await only
        return
    for outcome in await asyncio.gather(*lanes, return_exceptions=True):
        if outcome is not None:
            raise outcome
