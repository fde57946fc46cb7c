"""The mesh page's figures: what was counted, by whomever, as shares, rates and percentiles."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.common import context
from services.common.call_record import Call
from services.common.observing.recent_traffic import (
    MAX_TRACES,
    TREND_POINTS,
    RecentTraffic,
    Tally,
    Trace,
    WayReport,
)
from services.common.observing.telemetry import kept_trace_id
from services.common.serving.http_server import operation_of

VISITORS = "visitors"
MESH_PATH = "/mesh"
MESH_OPERATION = f"GET {MESH_PATH}"  # in no figures: the page asks for itself again and again
FRONTEND = "frontend"
NO_TREND: Sequence[float] = (0.0,) * TREND_POINTS


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One process of a service. `is_up` is whether it answers."""

    service: str
    instance: str
    version: str
    is_up: bool


@dataclass(slots=True)
class Traffic:
    """What was counted within some time, as its source has it.

    :ivar served: what each version of a service has answered, as itself says. Without any, what
        callers say counts.
    :ivar notes: what the reader has to know about the source.
    """

    seconds: float
    ways: list[WayReport]
    notes: list[str]
    served: dict[tuple[str, str], Tally] = field(default_factory=dict[tuple[str, str], Tally])
    processes: list[ProcessStatus] = field(default_factory=list[ProcessStatus])
    open_circuits: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])


@dataclass(frozen=True, slots=True)
class Numbers:
    """How often, how often in vain, and how long: milliseconds, None where nothing was measured."""

    calls: int
    errors: int
    p50_ms: float | None
    p99_ms: float | None

    @property
    def error_percent(self) -> float:
        """The share of errors."""
        return 100 * self.errors / self.calls if self.calls else 0.0


@dataclass(frozen=True, slots=True)
class VersionFigures:
    """One version of a service.

    :ivar percent: its share of the answers. Answers of unknown version, such as those of a proxy,
        are in nobody's share.
    """

    version: str
    numbers: Numbers
    percent: float
    processes: Sequence[ProcessStatus] = ()


@dataclass(frozen=True, slots=True)
class EdgeFigures:
    """What happened between two services. Milliseconds are what the caller waited.

    :ivar denied: answers of 403 by the service; `denied_before` by a mesh's proxy before it.
    :ivar refused: calls that the caller did not make, since the circuit was open, say.
    :ivar trend: calls over the window, the oldest first.
    """

    caller: str
    callee: str
    numbers: Numbers
    per_second: float
    retries: int
    refused: int
    denied: int
    denied_before: int
    is_circuit_open: bool
    trend: Sequence[float]
    versions: Sequence[VersionFigures]
    traces: Sequence[Trace]


@dataclass(frozen=True, slots=True)
class ServiceFigures:
    """What a service has answered, by version, the busiest first.

    :ivar processes: all that are known, those among them whose version is not.
    """

    name: str
    numbers: Numbers
    per_second: float
    versions: Sequence[VersionFigures]
    processes: Sequence[ProcessStatus]

    @property
    def down(self) -> Sequence[ProcessStatus]:
        """The processes that do not answer."""
        return [process for process in self.processes if not process.is_up]


@dataclass(frozen=True, slots=True)
class Figures:
    """All of them; edges and services by name. Only those that were used, or that are down."""

    edges: Mapping[tuple[str, str], EdgeFigures]
    services: Mapping[str, ServiceFigures]
    notes: Sequence[str]


def figures_of(traffic: Traffic) -> Figures:
    """Makes figures of what was counted."""
    by_edge: defaultdict[tuple[str, str], list[WayReport]] = defaultdict(list)
    for way in traffic.ways:
        by_edge[way.caller, way.callee].append(way)
    edges = {
        edge: figures
        for edge, ways in by_edge.items()
        if (figures := _edge(edge, ways, traffic)) is not None
    }
    return Figures(edges=edges, services=_services(traffic), notes=traffic.notes)


def _edge(edge: tuple[str, str], ways: Sequence[WayReport], traffic: Traffic) -> EdgeFigures | None:
    by_version: defaultdict[str, Tally] = defaultdict(Tally)
    for way in ways:
        by_version[way.version].add(way.tally)
    total = _sum(by_version.values())
    is_open = edge in traffic.open_circuits
    if not total.calls and not total.refused and not is_open:
        return None
    traces = sorted(
        (trace for way in ways for trace in way.traces), key=lambda one: one.age_seconds
    )
    return EdgeFigures(
        caller=edge[0],
        callee=edge[1],
        numbers=_numbers(total),
        per_second=total.calls / traffic.seconds,
        retries=round(total.retries),
        refused=round(total.refused),
        denied=round(total.denied),
        denied_before=round(total.denied_before),
        is_circuit_open=is_open,
        trend=[sum(points) for points in zip(*(way.trend for way in ways), strict=True)],
        versions=_versions(by_version, ()),
        traces=traces[:MAX_TRACES],
    )


def _services(traffic: Traffic) -> Mapping[str, ServiceFigures]:
    served: defaultdict[str, dict[str, Tally]] = defaultdict(dict)
    for (service, version), tally in (traffic.served or _as_callers_say(traffic.ways)).items():
        served[service][version] = tally
    processes: defaultdict[str, list[ProcessStatus]] = defaultdict(list)
    for process in traffic.processes:
        processes[process.service].append(process)
    found: dict[str, ServiceFigures] = {}
    for name in (*served, *(name for name in processes if name not in served)):
        total = _sum(served[name].values())
        found[name] = ServiceFigures(
            name=name,
            numbers=_numbers(total),
            per_second=total.calls / traffic.seconds,
            versions=_versions(served[name], processes[name]),
            processes=processes[name],
        )
    return found


def _as_callers_say(ways: Iterable[WayReport]) -> Mapping[tuple[str, str], Tally]:
    served: defaultdict[tuple[str, str], Tally] = defaultdict(Tally)
    for way in ways:
        served[way.callee, way.version].add(way.tally)
    return served


def _versions(
    by_version: Mapping[str, Tally], processes: Sequence[ProcessStatus]
) -> Sequence[VersionFigures]:
    tallies = {version: tally for version, tally in by_version.items() if version}
    for process in processes:
        if process.version:
            tallies.setdefault(process.version, Tally())
    answers = sum(tally.calls for tally in tallies.values())
    figures = [
        VersionFigures(
            version=version,
            numbers=_numbers(tally),
            percent=100 * tally.calls / answers if answers else 0.0,
            processes=[process for process in processes if process.version == version],
        )
        for version, tally in tallies.items()
        if tally.calls or processes
    ]
    return sorted(figures, key=lambda one: (-one.numbers.calls, one.version))


def _sum(tallies: Iterable[Tally]) -> Tally:
    total = Tally()
    for tally in tallies:
        total.add(tally)
    return total


def _numbers(tally: Tally) -> Numbers:
    return Numbers(
        calls=round(tally.calls),
        errors=round(tally.errors),
        p50_ms=tally.percentile_ms(50),
        p99_ms=tally.percentile_ms(99),
    )


class Entrance:
    """Counts what visitors ask for, as it passes through this frontend.

    :param with_calls_below: whether to count the calls that were made for it, too: where nobody
        else can be asked for them.
    """

    def __init__(self, recent: RecentTraffic, *, with_calls_below: bool) -> None:
        self._recent = recent
        self._with_calls_below = with_calls_below

    def passed(self, call: Call) -> None:
        """Counts a call of a visitor."""
        trace_id = kept_trace_id()
        self._recent.called(VISITORS, call, trace_id=trace_id)
        if self._with_calls_below:
            self._note(call.callee, call.calls, trace_id)

    def _note(self, caller: str, calls: Iterable[Call], trace_id: str) -> None:
        for call in calls:
            self._recent.called(caller, call, trace_id=trace_id)
            self._note(call.callee, call.calls, trace_id)


class EntranceMiddleware:
    """ASGI middleware: counts each page, and the calls that were made for it; the mesh page itself,
    which asks again and again, is left out.
    """

    def __init__(self, app: ASGIApp, *, entrance: Entrance, version: str, instance: str) -> None:
        self._app = app
        self._entrance = entrance
        self._version = version
        self._instance = instance

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == MESH_PATH:
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = "internal"

        async def send_noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, send_noting)
        finally:
            self._entrance.passed(
                Call(
                    callee=FRONTEND,
                    operation=operation_of(scope),
                    version=self._version,
                    instance=self._instance,
                    milliseconds=1000 * (time.perf_counter() - started),
                    status=status,
                    calls=tuple(context.current().log.calls),
                )
            )
