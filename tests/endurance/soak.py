"""Whether the shop can run for ever: an hour at half of what it can do, and what grows meanwhile.

``python -m tests.endurance.soak --minutes 60``

Fails when memory drifts by 5 % or more, connections grow, an order takes more or less room in the
stores late in the run than early, or any answer is not what the customer had to expect.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import os
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import aiohttp
import orjson

from tests.endurance.measure import Footprint, footprints, log_bytes, store_bytes, table, wal_bytes
from tests.endurance.traffic import PLENTY, Regulars, Tally, closed_loop, open_loop
from tests.testkit.customer import Client
from tests.testkit.shop import Shop
from tests.testkit.waiting import eventually

MAX_MEMORY_DRIFT = 0.05
MAX_STORE_DRIFT = 0.10
# SQLite begins its log anew at 4 MiB, unless some reader never lets go
# (https://sqlite.org/wal.html#ckpt).
MAX_WAL_BYTES = 16 * 2**20
# The size of asyncio's pool for blocking work (ThreadPoolExecutor), which fills when many come at
# once.
SPARE_THREADS = (os.cpu_count() or 1) + 4
# Longer than any connection in the shop is kept for the next request.
IDLE_SECONDS = 90.0
# A channel that was opened late: shipping's to notification, when the first parcel moves.
SPARE = 2

_SEED = 1
_CUSTOMERS = 64
_CLOSED_LOOP_CLIENTS = 16
_WARM_UP_SECONDS = 10.0
_SAMPLES_PER_LINE = 4
_MIB = 2**20

# As the shop runs by itself: parcels move, and a password costs what it should.
_ENVIRONMENT = {
    "SHIPPING_STEP_SECONDS": "20",
    "PASSWORD_HASH_MEMORY_KIB": str(19 * 1024),
    "PASSWORD_HASH_ITERATIONS": "2",
}


@dataclass(frozen=True, slots=True)
class Sample:
    """The shop at one moment of the run."""

    seconds: float
    orders: int
    requests: int
    unexpected: int
    processes: Mapping[str, Footprint]
    store_bytes: Mapping[str, int]
    wal_bytes: Mapping[str, int]
    log_bytes: int

    def own_bytes(self) -> int:
        """The memory of the whole shop."""
        return sum(process.own_bytes for process in self.processes.values())


class SoakRun:
    """The samples of a run, with its early and its late part to compare: the second and the last
    sixth (minutes 10 to 20 and 50 to 60 of an hour).

    Before that caches fill, the slowest with an order's small documents: each connection to a store
    keeps 2 MB of pages, which takes the first 6,000 orders. A run of fewer finds some growth.
    """

    def __init__(self, samples: Sequence[Sample], seconds: float) -> None:
        self.samples = samples
        self.early = [each for each in samples if 1 / 6 <= each.seconds / seconds < 2 / 6]
        self.late = [each for each in samples if each.seconds / seconds >= 5 / 6]

    def medians(self, value: Callable[[Sample], float]) -> tuple[float, float]:
        """Early and late."""
        return median(map(value, self.early)), median(map(value, self.late))

    def store_bytes_per_order(self) -> tuple[float, float]:
        """What an order added to the stores in the first third, and in the last."""
        third = len(self.samples) // 3
        return (
            _bytes_per_order(self.samples[0], self.samples[third]),
            _bytes_per_order(self.samples[-1 - third], self.samples[-1]),
        )


def _bytes_per_order(first: Sample, last: Sample) -> float:
    grown = sum(last.store_bytes.values()) - sum(first.store_bytes.values())
    return grown / max(1, last.orders - first.orders)


def violations(run: SoakRun) -> Iterator[str]:
    """A sentence for each promise that the run has broken."""
    early, late = run.medians(Sample.own_bytes)
    if late / early - 1 >= MAX_MEMORY_DRIFT:
        yield f"the shop's memory grew by {late / early - 1:.1%}"
    for name in run.samples[0].processes:
        if len({sample.processes[name].pid for sample in run.samples}) > 1:
            yield f"{name} died and was replaced"
            continue
        early, late = run.medians(lambda sample, name=name: sample.processes[name].own_bytes)
        if late / early - 1 >= MAX_MEMORY_DRIFT:
            yield f"{name}'s memory grew by {late / early - 1:.1%}"
        early, late = run.medians(lambda sample, name=name: sample.processes[name].threads)
        if late > early + SPARE_THREADS:
            yield f"{name}'s threads grew from {early:g} to {late:g}"
    early, late = run.store_bytes_per_order()
    if abs(late / early - 1) >= MAX_STORE_DRIFT:
        yield f"an order took {early:.0f} bytes in the stores at first and {late:.0f} at last"
    for name, size in run.samples[-1].wal_bytes.items():
        if size > MAX_WAL_BYTES:
            yield f"the write-ahead log of {name} has {size / _MIB:.0f} MiB"


async def soak(shop: Shop, arguments: argparse.Namespace) -> tuple[SoakRun, Tally, list[str]]:
    """Measures the shop's capacity, then runs it at half of that; gives also what it still holds
    when it has nothing to do any more.
    """
    async with _visitors(shop, customers=1) as alone:
        await closed_loop(alone.journey, clients=1, seconds=_WARM_UP_SECONDS)
    fresh = footprints(shop)
    async with _visitors(shop) as trial:
        await closed_loop(trial.journey, clients=_CLOSED_LOOP_CLIENTS, seconds=_WARM_UP_SECONDS)
        capacity = await closed_loop(
            trial.journey, clients=_CLOSED_LOOP_CLIENTS, seconds=arguments.capacity_seconds
        )
    print(f"capacity {capacity:.1f} journeys/s; now {capacity / 2:.1f}/s", flush=True)
    seconds = 60 * arguments.minutes
    async with _visitors(shop) as regulars, asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(
            _watch(shop, regulars.tally, seconds, arguments.sample_seconds, arguments.samples)
        )
        await open_loop(regulars.journey, per_second=capacity / 2, seconds=seconds, seed=_SEED)
    run = SoakRun(watching.result(), seconds)
    return run, regulars.tally, await _left_open(shop, fresh)


@contextlib.asynccontextmanager
async def _visitors(shop: Shop, customers: int = _CUSTOMERS) -> AsyncGenerator[Regulars]:
    """New customers, whose connections are closed afterwards."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield await Regulars.gather(Client(session, shop.url), customers, seed=_SEED)


async def _left_open(shop: Shop, fresh: Mapping[str, Footprint]) -> list[str]:
    """Waits until nothing is open but what a fresh shop holds open; gives what never gets closed.

    Under load this cannot be told: a moment's crowd opens connections, and as each is used in turn
    none of them gets old.
    """
    left: list[str] = []

    async def is_closed() -> bool:
        left.clear()
        for name, now in footprints(shop).items():
            then = fresh[name]
            if now.connections > then.connections + SPARE:
                left.append(f"{name} keeps {now.connections} connections, not {then.connections}")
            if now.open_files > then.open_files + SPARE:
                left.append(f"{name} keeps {now.open_files} files open, not {then.open_files}")
        return not left

    with contextlib.suppress(AssertionError):
        await eventually(is_closed, "connections are closed", IDLE_SECONDS)
    return left


async def _watch(
    shop: Shop, tally: Tally, seconds: float, every_seconds: float, file: Path
) -> list[Sample]:
    """Samples of the whole run, each also a line of JSON in `file`."""
    samples: list[Sample] = []
    began = time.monotonic()
    with file.open("wb") as output:
        while True:
            sample = Sample(
                seconds=time.monotonic() - began,
                orders=tally.orders,
                requests=tally.requests,
                unexpected=tally.unexpected.total(),
                processes=await asyncio.to_thread(footprints, shop),
                store_bytes=store_bytes(shop),
                wal_bytes=wal_bytes(shop),
                log_bytes=log_bytes(shop),
            )
            output.write(orjson.dumps(dataclasses.asdict(sample)) + b"\n")
            output.flush()
            if len(samples) % _SAMPLES_PER_LINE == 0:
                print(_line(sample), flush=True)
            samples.append(sample)
            if began + seconds - time.monotonic() < every_seconds:
                return samples
            await asyncio.sleep(began + len(samples) * every_seconds - time.monotonic())


def _line(sample: Sample) -> str:
    return (
        f"{sample.seconds / 60:5.1f} min  {sample.orders:6} orders  "
        f"{sample.unexpected} unexpected  {sample.own_bytes() / _MIB:6.1f} MiB  "
        f"{sum(each.connections for each in sample.processes.values()):4} connections  "
        f"stores {sum(sample.store_bytes.values()) / _MIB:7.1f} MiB  "
        f"logs {sample.log_bytes / _MIB:7.1f} MiB"
    )


def _memory_table(run: SoakRun) -> str:
    rows: list[list[str]] = []
    for name in run.samples[0].processes:
        cells: list[str] = []
        for what in ("own_bytes", "pss_bytes", "rss_bytes"):
            early, late = run.medians(
                lambda sample, name=name, what=what: getattr(sample.processes[name], what)
            )
            cells += [f"{early / _MIB:.1f}", f"{late / _MIB:.1f}", f"{late / early - 1:+.1%}"]
        for what in ("connections", "open_files", "threads"):
            early, late = run.medians(
                lambda sample, name=name, what=what: getattr(sample.processes[name], what)
            )
            cells.append(f"{early:g} → {late:g}")
        rows.append([name, *cells])
    early, late = run.medians(Sample.own_bytes)
    total = [f"{early / _MIB:.1f}", f"{late / _MIB:.1f}", f"{late / early - 1:+.1%}"]
    rows.append(["the shop", *total, *[""] * 9])
    memory = [f"{kind} {part}" for kind in ("own", "PSS", "RSS") for part in ("early", "late", "")]
    return table(["process (MiB)", *memory, "connections", "files", "threads"], rows)


def _store_table(run: SoakRun) -> str:
    first, last = run.samples[0], run.samples[-1]
    orders = max(1, last.orders - first.orders)
    rows = [
        [
            name,
            f"{size / _MIB:.1f}",
            f"{last.wal_bytes[name] / _MIB:.1f}",
            f"{(size - first.store_bytes[name]) / orders:.0f}",
        ]
        for name, size in last.store_bytes.items()
    ]
    return table(["store", "MiB", "log MiB", "bytes per order"], rows)


def _latency_table(tally: Tally) -> str:
    rows = [
        [
            step,
            str(len(milliseconds)),
            f"{tally.percentile_ms(step, 50):.0f}",
            f"{tally.percentile_ms(step, 95):.0f}",
            f"{max(milliseconds):.0f}",
        ]
        for step, milliseconds in sorted(tally.milliseconds.items())
    ]
    return table(["step", "requests", "p50 ms", "p95 ms", "max ms"], rows)


def report(run: SoakRun, tally: Tally) -> None:
    """Prints all tables."""
    early, late = run.store_bytes_per_order()
    print(f"\n{_memory_table(run)}\n\n{_store_table(run)}")
    print(f"an order takes {early:.0f} bytes early, {late:.0f} late ({late / early - 1:+.1%})")
    print(f"\n{_latency_table(tally)}\n")


def main() -> int:
    """Gives the exit status: 1 when something is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--sample-seconds", type=float, default=15)
    parser.add_argument("--capacity-seconds", type=float, default=30)
    parser.add_argument("--samples", type=Path, default=Path("build/soak.jsonl"), metavar="FILE")
    arguments = parser.parse_args()
    arguments.samples.parent.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        Shop(Path(folder), environment=_ENVIRONMENT, stock=PLENTY) as shop,
    ):
        run, tally, left_open = asyncio.run(soak(shop, arguments))
        errors = shop.logged_errors()
    report(run, tally)
    wrong = [*violations(run), *left_open]
    wrong += [f"{count} x {what}" for what, count in tally.unexpected.most_common()]
    wrong += [f"{len(errors)} errors were logged, such as {errors[0]}"] if errors else []
    print("\n".join(f"VIOLATION: {each}" for each in wrong) or "nothing grew, nothing failed")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
