"""The latest traces of a process of a shop on one machine, kept in memory for the page of traces.

A process sends these spans nowhere. An exporter would cost each process memory at its start, and
each page time, even if nobody looks. Here an ended span is a few values in a list.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import SpanKind, format_span_id, format_trace_id

MAX_TRACES = 200
MAX_SPANS_PER_TRACE = 500
MAX_SPANS = 5000  # of all traces together: at most about 5 MB
MAX_VALUE_LENGTH = 200

TRACE_ID = re.compile(r"[0-9a-f]{32}")

# What helps to read a trace, and is no secret: no query, no address, no user.
_KEPT_ATTRIBUTES = (
    "http.target",
    "http.status_code",
    "http.response.status_code",
)
_KINDS = {kind: kind.name.lower() for kind in SpanKind}


@dataclass(slots=True)  # not frozen: that would take a third longer, for every span
class KeptSpan:
    """A span that has ended.

    :ivar parent_id: empty where the trace begins.
    :ivar service: the ``service.name`` of its resource.
    :ivar problem: what its error says of itself; empty where there is none.
    """

    span_id: str
    parent_id: str
    service: str
    name: str
    kind: str
    start_ns: int
    end_ns: int
    is_error: bool
    problem: str
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """What a process knows of a trace in a few words.

    :ivar first: its own span that began first.
    """

    trace_id: str
    first: KeptSpan
    spans: int
    services: list[str]
    is_error: bool


@dataclass(frozen=True, slots=True)
class ProcessTraces:
    """The traces that a process has kept, in the order in which it met them.

    :ivar sent_to: where it sends its spans instead of keeping them; empty where it keeps them.
    """

    sent_to: str
    traces: list[TraceSummary]


@dataclass(frozen=True, slots=True)
class ProcessSpans:
    """The spans of one trace that a process has kept, in the order in which they ended.

    :ivar dropped: how many more it has had than it keeps.
    """

    version: str
    instance: str
    spans: list[KeptSpan]
    dropped: int


@dataclass(slots=True)
class _KeptTrace:
    spans: list[KeptSpan] = field(default_factory=list[KeptSpan])
    dropped: int = 0


class KeptTraces(SpanProcessor):
    """Keeps the spans of the latest traces, the newest MAX_TRACES and MAX_SPANS at most.

    A trace of which all processes keep the latest ones is whole while it is among the latest of all
    of them: none can have met more of them.
    """

    def __init__(self) -> None:
        self._traces: dict[int, _KeptTrace] = {}
        self._count = 0

    def on_end(self, span: ReadableSpan) -> None:
        context = span.context
        if context is None or not context.trace_flags.sampled:
            return
        kept = self._traces.get(context.trace_id)
        if kept is None:
            kept = self._traces[context.trace_id] = _KeptTrace()
        if len(kept.spans) >= MAX_SPANS_PER_TRACE:
            kept.dropped += 1
            return
        kept.spans.append(_kept(span))
        self._count += 1
        while len(self._traces) > MAX_TRACES or self._count > MAX_SPANS:
            oldest = self._traces.pop(next(iter(self._traces)))
            self._count -= len(oldest.spans)

    def summaries(self) -> list[TraceSummary]:
        """All traces, the one that was met first at the beginning."""
        return [
            TraceSummary(
                trace_id=format_trace_id(trace_id),
                first=min(kept.spans, key=lambda span: span.start_ns),
                spans=len(kept.spans) + kept.dropped,
                services=sorted({span.service for span in kept.spans}),
                is_error=any(span.is_error for span in kept.spans),
            )
            for trace_id, kept in self._traces.items()
        ]

    def spans_of(self, trace_id: str) -> tuple[Sequence[KeptSpan], int]:
        """The spans of a trace, and how many more were dropped; of an unknown one, none."""
        kept = self._traces.get(int(trace_id, 16))
        return (kept.spans, kept.dropped) if kept is not None else ((), 0)


def _kept(span: ReadableSpan) -> KeptSpan:
    assert span.context is not None, "a recorded span has a context"
    given = span.attributes or {}
    return KeptSpan(
        span_id=format_span_id(span.context.span_id),
        parent_id=format_span_id(span.parent.span_id) if span.parent is not None else "",
        service=str(span.resource.attributes["service.name"]),
        name=span.name[:MAX_VALUE_LENGTH],
        kind=_KINDS[span.kind],
        start_ns=span.start_time or 0,
        end_ns=span.end_time or 0,
        is_error=not span.status.is_ok,
        problem=_problem(span),
        attributes={
            name: str(given[name]).partition("?")[0][:MAX_VALUE_LENGTH]
            for name in _KEPT_ATTRIBUTES
            if name in given
        },
    )


def _problem(span: ReadableSpan) -> str:
    if span.status.is_ok:
        return ""
    return (span.status.description or "")[:MAX_VALUE_LENGTH]
