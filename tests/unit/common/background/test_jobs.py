"""Background jobs go on whatever their runs do, and stop when they are told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from services.common import context
from services.common.background.jobs import Job, for_each
from services.common.errors import Kind, ShopError
from services.common.observing.metrics import Metrics
from tests.testkit.metrics import values_of
from tests.unit.common.kit import until

HOUR = 3600.0


@asynccontextmanager
async def running(
    run: Callable[[], Awaitable[None]], metrics: Metrics, interval_seconds: float = HOUR
) -> AsyncGenerator[Job]:
    job = Job("sweep", interval_seconds, run, metrics)
    job.start()
    try:
        yield job
    finally:
        await job.stop(grace_seconds=1.0)


class Sweep:
    """A job that does as each of its runs is told: fail, or wait."""

    def __init__(self) -> None:
        self.runs = 0
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self) -> None:
        self.runs += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def sweep() -> Sweep:
    return Sweep()


def counted(metrics: Metrics, outcome: str) -> float:
    return values_of(metrics, "meshmart_job_runs_total").get(("sweep", outcome), 0)


async def test_runs_at_once_and_then_every_so_often(sweep: Sweep, metrics: Metrics) -> None:
    async with running(sweep, metrics, interval_seconds=0.01) as job:
        await until(lambda: sweep.runs >= 3)
        assert job.is_alive
    assert counted(metrics, "ok") >= 3


async def test_the_first_run_waits_for_what_it_needs(sweep: Sweep, metrics: Metrics) -> None:
    may_begin = asyncio.Event()

    async def begin_after() -> None:
        await may_begin.wait()

    job = Job("sweep", HOUR, sweep, metrics, begin_after)
    job.start()
    job.wake()
    await asyncio.sleep(0)
    assert (sweep.runs, job.is_alive) == (0, True)
    may_begin.set()
    await until(lambda: sweep.runs == 1)
    await job.stop(grace_seconds=1.0)


async def test_one_that_waits_is_stopped_at_once(sweep: Sweep, metrics: Metrics) -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    job = Job("sweep", HOUR, sweep, metrics, never)
    job.start()
    await asyncio.sleep(0)
    async with asyncio.timeout(5.0):
        await job.stop(grace_seconds=HOUR)
    assert sweep.runs == 0


async def test_is_woken(sweep: Sweep, metrics: Metrics) -> None:
    async with running(sweep, metrics) as job:
        await until(lambda: sweep.runs == 1)
        job.wake()
        await until(lambda: sweep.runs == 2)


async def test_woken_while_it_runs_it_runs_just_once_more(sweep: Sweep, metrics: Metrics) -> None:
    sweep.gate.clear()
    async with running(sweep, metrics) as job:
        await until(lambda: sweep.runs == 1)
        for _ in range(5):
            job.wake()
        sweep.gate.set()
        await until(lambda: counted(metrics, "ok") == 2)
    assert sweep.runs == 2


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ShopError(Kind.UNAVAILABLE, "store-unavailable", "Away."), "unavailable"),
        (RuntimeError("a mistake in the program"), "crashed"),
        (TimeoutError(), "crashed"),
    ],
)
async def test_a_failing_run_is_counted_and_the_next_one_comes(
    sweep: Sweep, metrics: Metrics, error: Exception, outcome: str
) -> None:
    sweep.error = error
    async with running(sweep, metrics, interval_seconds=0.01) as job:
        await until(lambda: counted(metrics, outcome) >= 2)
        sweep.error = None
        await until(lambda: counted(metrics, "ok") >= 1)
        assert job.is_alive


async def test_a_run_has_a_context_of_its_own(metrics: Metrics) -> None:
    seen: list[str] = []

    async def run() -> None:
        seen.append(context.current().request_id)
        assert context.current().seconds_left > 0

    async with running(run, metrics, interval_seconds=0.01):
        await until(lambda: len(seen) >= 2)
    assert len(set(seen)) == len(seen)
    assert counted(metrics, "crashed") == 0


async def test_stop_lets_a_run_finish(sweep: Sweep, metrics: Metrics) -> None:
    sweep.gate.clear()
    async with running(sweep, metrics) as job:
        await until(lambda: sweep.runs == 1)
        stopping = asyncio.create_task(job.stop(grace_seconds=5.0))
        await asyncio.sleep(0)
        sweep.gate.set()
        await stopping
        assert job.is_alive, "it was stopped on purpose"
    assert counted(metrics, "ok") == 1


async def test_stop_cancels_a_run_that_takes_too_long(sweep: Sweep, metrics: Metrics) -> None:
    sweep.gate.clear()
    async with running(sweep, metrics) as job:
        await until(lambda: sweep.runs == 1)
        await job.stop(grace_seconds=0.01)
        sweep.gate.set()
    assert sweep.runs == 1
    assert counted(metrics, "ok") == 0


async def test_a_job_that_never_began_can_be_stopped(sweep: Sweep, metrics: Metrics) -> None:
    job = Job("sweep", HOUR, sweep, metrics)
    assert job.is_alive
    await job.stop(grace_seconds=1.0)
    assert sweep.runs == 0


class TestForEach:
    async def test_does_so_many_at_once(self) -> None:
        at_work: set[int] = set()
        most = 0
        done: list[int] = []

        async def work(number: int) -> None:
            nonlocal most
            at_work.add(number)
            most = max(most, len(at_work))
            await asyncio.sleep(0)
            at_work.remove(number)
            done.append(number)

        await for_each(range(20), work, at_once=3)
        assert sorted(done) == list(range(20))
        assert most == 3

    @pytest.mark.parametrize("count", [0, 1])
    async def test_few_are_enough(self, count: int) -> None:
        done: list[int] = []

        async def work(number: int) -> None:
            done.append(number)

        await for_each(range(count), work, at_once=3)
        assert done == list(range(count))

    async def test_after_a_failure_ends_what_is_begun_and_begins_no_more(self) -> None:
        begun: list[int] = []
        ended: list[int] = []

        async def work(number: int) -> None:
            begun.append(number)
            await asyncio.sleep(0.01)
            if number == 1:
                raise ShopError(Kind.UNAVAILABLE, "away", "It is away.")
            await asyncio.sleep(0.01)
            ended.append(number)

        with pytest.raises(ShopError, match="away"):
            await for_each(range(20), work, at_once=3)
        assert begun == [0, 1, 2]
        assert ended == [0, 2]

    async def test_is_cancelled_as_a_whole(self) -> None:
        begun: list[int] = []
        cancelled: list[int] = []

        async def work(number: int) -> None:
            begun.append(number)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(number)
                raise

        task = asyncio.create_task(for_each(range(20), work, at_once=3))
        await until(lambda: len(begun) == 3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert sorted(cancelled) == [0, 1, 2]
        assert begun == [0, 1, 2]
