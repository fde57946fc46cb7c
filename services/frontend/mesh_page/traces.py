"""The traces that the processes of a shop on one machine keep, put together; elsewhere, where they
are.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

import aiohttp
from pydantic import TypeAdapter

from services.common.call_record import Call
from services.common.observing.kept_traces import (
    MAX_TRACES,
    KeptSpan,
    ProcessSpans,
    ProcessTraces,
    TraceSummary,
)
from services.common.topology import Topology
from services.frontend.mesh_page.sources import Told, WatchedProcess, ask
from services.frontend.mesh_page.waterfall import WaterfallRow, percent

TRACES_PATH = "/mesh/traces"

_TRACES = TypeAdapter(ProcessTraces)
_SPANS = TypeAdapter(ProcessSpans)
_PATIENCE = aiohttp.ClientTimeout(total=2.0)
# What goes on after so long a pause, such as the parcel's way, has a scale of its own: beside it a
# request would be a dot.
_PAUSE_MILLISECONDS = 1000.0
_MS_PER_NS = 1e-6


@dataclass(frozen=True, slots=True)
class TraceLinks:
    """Where a trace can be seen: in Jaeger, or else on the shop's own page."""

    jaeger_url: str | None
    is_kept_here: bool

    def trace(self, trace_id: str) -> str:
        """The address of a trace; empty when there is none."""
        if self.jaeger_url is not None:
            return f"{self.jaeger_url}/trace/{trace_id}"
        return f"{TRACES_PATH}/{trace_id}" if self.is_kept_here else ""

    def service(self, name: str, workload: str) -> str:
        """The address of a service's traces; empty when there is none."""
        if self.jaeger_url is not None:
            return f"{self.jaeger_url}/search?{urlencode({'service': workload})}"
        return f"{TRACES_PATH}?{urlencode({'service': name})}" if self.is_kept_here else ""


@dataclass(frozen=True, slots=True)
class TraceView:
    """A trace in the list.

    :ivar asked: what was asked for.
    :ivar entrance: the service that was asked.
    :ivar milliseconds: how long it took to answer; what goes on afterwards is not counted.
    """

    trace_id: str
    asked: str
    entrance: str
    start_seconds: float
    milliseconds: float
    spans: int
    services: Sequence[str]
    is_error: bool


@dataclass(frozen=True, slots=True)
class Listing:
    """The latest traces, the newest first.

    :ivar sent_to: by service, where its spans go that are not kept here.
    :ivar silent: the processes that do not answer, whose spans are missing.
    """

    traces: Sequence[TraceView]
    sent_to: Mapping[str, str]
    silent: Sequence[str]


@dataclass(frozen=True, slots=True)
class TracePart:
    """Spans with no long pause between them, as a waterfall (see `waterfall.Waterfall`).

    :ivar start_milliseconds: when it began, since the trace did.
    """

    rows: Sequence[WaterfallRow]
    start_milliseconds: float
    whole_milliseconds: float
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class WholeTrace:
    """One trace."""

    head: TraceView
    parts: Sequence[TracePart]
    dropped: int
    silent: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Span:
    """A span, and the process that has told of it."""

    span: KeptSpan
    version: str
    instance: str


class Traces:
    """Asks the processes of a shop on one machine for the spans that they keep.

    :param processes: none, where spans are kept elsewhere.
    """

    def __init__(
        self,
        processes: Sequence[WatchedProcess],
        session: aiohttp.ClientSession,
        topology: Topology,
    ) -> None:
        self._processes = processes
        self._session = session
        self._names = {service.workload: name for name, service in topology.services.items()}

    @property
    def are_kept(self) -> bool:
        """Whether there is anybody to ask."""
        return bool(self._processes)

    async def latest(self) -> Listing:
        """The latest MAX_TRACES traces."""
        told = await self._ask_all("/traces", _TRACES)
        by_id: defaultdict[str, list[TraceSummary]] = defaultdict(list)
        sent_to: dict[str, str] = {}
        for watched, one in told:
            if one is None:
                continue
            if one.sent_to:
                sent_to[watched.service] = one.sent_to
            for summary in one.traces:
                by_id[summary.trace_id].append(summary)
        traces = sorted(
            (self._view(trace_id, summaries) for trace_id, summaries in by_id.items()),
            key=lambda trace: -trace.start_seconds,
        )
        return Listing(traces[:MAX_TRACES], sent_to, _silent(told))

    async def one(self, trace_id: str) -> WholeTrace | None:
        """A trace by its id; None when nobody has it (any more)."""
        told = await self._ask_all(f"/spans?trace_id={trace_id}", _SPANS)
        spans: list[_Span] = []
        dropped = 0
        for _, one in told:
            if one is not None:
                spans += [_Span(span, one.version, one.instance) for span in one.spans]
                dropped += one.dropped
        if not spans:
            return None
        spans.sort(key=lambda one: one.span.start_ns)
        first = spans[0].span
        summary = TraceSummary(
            trace_id=trace_id,
            first=first,
            spans=len(spans) + dropped,
            services=[one.span.service for one in spans],
            is_error=any(one.span.is_error for one in spans),
        )
        return WholeTrace(
            head=self._view(trace_id, [summary]),
            parts=[self._part(part, first.start_ns) for part in _parts(list(_in_order(spans)))],
            dropped=dropped,
            silent=_silent(told),
        )

    def _view(self, trace_id: str, summaries: Sequence[TraceSummary]) -> TraceView:
        first = min((summary.first for summary in summaries), key=lambda span: span.start_ns)
        services = {self._name(one) for summary in summaries for one in summary.services}
        return TraceView(
            trace_id=trace_id,
            asked=_asked(first),
            entrance=self._name(first.service),
            start_seconds=first.start_ns / 1e9,
            milliseconds=(first.end_ns - first.start_ns) * _MS_PER_NS,
            spans=sum(summary.spans for summary in summaries),
            services=sorted(services),
            is_error=any(summary.is_error for summary in summaries),
        )

    def _part(self, spans: Sequence[tuple[int, _Span]], trace_start_ns: int) -> TracePart:
        begin = min(one.span.start_ns for _, one in spans)
        whole = (max(one.span.end_ns for _, one in spans) - begin) * _MS_PER_NS
        return TracePart(
            rows=[self._row(depth, one, begin, whole) for depth, one in spans],
            start_milliseconds=(begin - trace_start_ns) * _MS_PER_NS,
            whole_milliseconds=whole,
        )

    def _row(self, depth: int, one: _Span, begin_ns: int, whole: float) -> WaterfallRow:
        span = one.span
        start = (span.start_ns - begin_ns) * _MS_PER_NS
        milliseconds = (span.end_ns - span.start_ns) * _MS_PER_NS
        call = Call(
            callee=self._name(span.service),
            operation=f"→ {span.name}" if span.kind == "client" else span.name,
            version=one.version,
            instance=one.instance,
            milliseconds=milliseconds,
            status=_status(span),
        )
        start_percent = percent(start, whole)
        return WaterfallRow(
            depth=depth,
            call=call,
            start_milliseconds=start,
            start_percent=start_percent,
            width_percent=percent(start + milliseconds, whole) - start_percent,
            is_failed=span.is_error,
            notes=list(_notes(span)),
        )

    def _name(self, workload: str) -> str:
        return self._names.get(workload, workload)

    async def _ask_all(
        self, path: str, kind: TypeAdapter[Told]
    ) -> Sequence[tuple[WatchedProcess, Told | None]]:
        told = await asyncio.gather(
            *(ask(process, path, kind, self._session, _PATIENCE) for process in self._processes)
        )
        return list(zip(self._processes, told, strict=True))


def _silent(told: Sequence[tuple[WatchedProcess, object | None]]) -> Sequence[str]:
    return [watched.instance for watched, one in told if one is None]


def _in_order(spans: Sequence[_Span]) -> Iterator[tuple[int, _Span]]:
    """The spans with their depths, each above those that were made for it, by their beginnings.

    :param spans: by their beginnings.
    """
    known = {one.span.span_id for one in spans}
    below: defaultdict[str, list[_Span]] = defaultdict(list)
    for one in reversed(spans):
        parent = one.span.parent_id
        below[parent if parent in known else ""].append(one)
    waiting = [(0, one) for one in below[""]]
    while waiting:
        depth, one = waiting.pop()
        yield depth, one
        waiting += [(depth + 1, child) for child in below[one.span.span_id]]


def _parts(spans: Sequence[tuple[int, _Span]]) -> Iterator[Sequence[tuple[int, _Span]]]:
    """The spans, parted where nothing was going on for long; each part begins at depth 0."""
    starts: list[int] = []
    until = None
    for one in sorted((one.span for _, one in spans), key=lambda span: span.start_ns):
        if until is None or (one.start_ns - until) * _MS_PER_NS > _PAUSE_MILLISECONDS:
            starts.append(one.start_ns)
        until = max(until or 0, one.end_ns)
    for begin, end in zip(starts, [*starts[1:], None], strict=True):
        part = [
            (depth, one)
            for depth, one in spans
            if begin <= one.span.start_ns and (end is None or one.span.start_ns < end)
        ]
        least = min(depth for depth, _ in part)
        yield [(depth - least, one) for depth, one in part]


def _asked(span: KeptSpan) -> str:
    """What a request was for: with its path, where it has one, instead of its route."""
    target = span.attributes.get("http.target", "")
    return f"{span.name.partition(' ')[0]} {target}" if target else span.name


def _status(span: KeptSpan) -> str:
    code = span.attributes.get("http.status_code") or span.attributes.get(
        "http.response.status_code"
    )
    return code or ("error" if span.is_error else "ok")


def _notes(span: KeptSpan) -> Iterator[str]:
    """What helps beside the name."""
    target = span.attributes.get("http.target", "")
    if target and not span.name.endswith(f" {target}"):
        yield target
    if span.problem:
        yield span.problem
