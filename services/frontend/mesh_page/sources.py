"""Where the mesh page's figures come from: the shop's processes, Prometheus, or, where there is
neither, what has passed through this frontend.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import aiohttp
import orjson
from pydantic import BaseModel, TypeAdapter

from services.common.observing.recent_traffic import ProcessReport, RecentTraffic
from services.frontend.mesh_page.figures import Figures, ProcessStatus, Traffic, figures_of

_REPORT = TypeAdapter(ProcessReport)
_PATIENCE = aiohttp.ClientTimeout(total=0.5)
_FRESH_SECONDS = 1.0

Told = TypeVar("Told")


class TrafficSource(Protocol):
    """Who has counted the shop's calls."""

    async def traffic(self, window_seconds: int) -> Traffic:
        """What happened in a window that ends now."""
        ...


class WatchedProcess(BaseModel, frozen=True):
    """A process of a shop on one machine, as its runner tells."""

    service: str
    instance: str
    url: str
    version: str = ""


async def ask(
    process: WatchedProcess,
    path: str,
    kind: TypeAdapter[Told],
    session: aiohttp.ClientSession,
    patience: aiohttp.ClientTimeout,
) -> Told | None:
    """What a process says of itself; None when it does not."""
    try:
        async with session.get(f"{process.url}{path}", timeout=patience) as answer:
            if answer.status != 200:
                return None
            return kind.validate_python(orjson.loads(await answer.read()))
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return None


class SeenHere:
    """What has passed through this frontend: pages, and the calls in their records."""

    def __init__(self, recent: RecentTraffic, open_circuits: Callable[[], Sequence[str]]) -> None:
        self._recent = recent
        self._open_circuits = open_circuits

    async def traffic(self, window_seconds: int) -> Traffic:
        report = self._recent.report(window_seconds)
        return Traffic(
            seconds=report.seconds,
            ways=report.ways,
            notes=[
                "As seen by this frontend: each answer carries a record of the calls made for it. "
                "What services do later on their own, such as relaying messages, and what other "
                "ways in bring, is in Prometheus (PROMETHEUS_URL)."
            ],
            open_circuits={("frontend", callee) for callee in self._open_circuits()},
        )


class AllProcesses:
    """What every process of a shop on one machine says of itself. One that does not say anything
    is down.
    """

    def __init__(self, processes: Sequence[WatchedProcess], session: aiohttp.ClientSession) -> None:
        self._processes = processes
        self._session = session

    async def traffic(self, window_seconds: int) -> Traffic:
        path = f"/recent?seconds={window_seconds}"
        reports = await asyncio.gather(
            *(ask(process, path, _REPORT, self._session, _PATIENCE) for process in self._processes)
        )
        traffic = Traffic(
            seconds=max((one.report.seconds for one in reports if one), default=window_seconds),
            ways=[],
            notes=["Counted by the shop's processes themselves, whoever called them."],
        )
        for watched, told in zip(self._processes, reports, strict=True):
            traffic.processes.append(
                ProcessStatus(
                    service=watched.service,
                    instance=watched.instance,
                    version=told.version if told else watched.version,
                    is_up=told is not None,
                )
            )
            if told is not None:
                _add(traffic, told)
        return traffic


def _add(traffic: Traffic, told: ProcessReport) -> None:
    traffic.ways += told.report.ways
    traffic.open_circuits |= {(told.service, callee) for callee in told.open_circuits}
    key = told.service, told.version
    if key in traffic.served:
        traffic.served[key].add(told.report.served)
    else:
        traffic.served[key] = told.report.served


class TrafficWatch:
    """The figures of now, asked for once a second at most, however many people look and however
    long the answer takes.

    :param clock: seconds that only ever go forward.
    """

    def __init__(self, source: TrafficSource, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._clock = clock
        self._asked: dict[int, tuple[float, asyncio.Task[Figures]]] = {}

    async def figures(self, window_seconds: int) -> Figures:
        """The figures of a window that ends now."""
        asked = self._asked.get(window_seconds)
        if asked is None or (asked[1].done() and self._clock() - asked[0] > _FRESH_SECONDS):
            asked = self._clock(), asyncio.create_task(self._ask(window_seconds))
            self._asked[window_seconds] = asked
        return await asyncio.shield(asked[1])

    async def _ask(self, window_seconds: int) -> Figures:
        return figures_of(await self._source.traffic(window_seconds))
