"""Tracing: one tracer per process, parent-based sampling, OTLP over gRPC."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from contextvars import Token
from types import TracebackType

from opentelemetry import propagate, trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import (
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, Span, SpanKind, TraceState
from opentelemetry.util.types import Attributes

from services.common.forward_proxy import proxy_for

TRACE_HEADERS = ("traceparent", "tracestate", "baggage")


def make_tracer_provider(
    *,
    service: str,
    version: str,
    instance: str,
    namespace: str,
    sampling_ratio: float,
    is_outermost: bool = False,
    otlp_endpoint: str | None,
    kept_here: SpanProcessor | None = None,
    unkept_pages: Collection[str] = (),
) -> TracerProvider:
    """A provider whose spans have the service's name.

    An outermost service decides by itself which traces are kept, also of those that people
    outside have begun; all others follow their caller. Without an endpoint spans are made (so that
    there is a trace id to show) but go nowhere, or where `kept_here` puts them.

    :param unkept_pages: paths of an outermost service that begin no kept trace, and those below.
    """
    provider = TracerProvider(
        resource=Resource.create(
            {
                "service.name": service,
                "service.namespace": namespace,
                "service.version": version,
                "service.instance.id": instance,
            }
        ),
        sampler=_sampler(sampling_ratio, is_outermost=is_outermost, unkept_pages=unkept_pages),
    )
    if otlp_endpoint is not None:
        # Only where spans are sent: the exporter costs start-up time and memory.
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )

        exporter = OTLPSpanExporter(
            endpoint=otlp_endpoint,
            insecure=otlp_endpoint.startswith("http://"),
            # Typed as a pair of words, taken as options of gRPC.
            channel_options=_way_to(otlp_endpoint),  # pyright: ignore[reportArgumentType]
        )
        provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1000))
    elif kept_here is not None:
        provider.add_span_processor(kept_here)
    return provider


def _way_to(endpoint: str) -> tuple[tuple[str, str | int], ...]:
    """The options with which gRPC obeys the same variables as all other calls: by itself it would
    ask a proxy for this machine, too, and know neither `all_proxy` nor names in upper case.
    """
    proxy = proxy_for(endpoint if "://" in endpoint else f"https://{endpoint}")
    return (("grpc.enable_http_proxy", 0),) if proxy is None else (("grpc.http_proxy", proxy),)


def _sampler(ratio: float, *, is_outermost: bool, unkept_pages: Collection[str]) -> Sampler:
    if not is_outermost:
        return ParentBased(TraceIdRatioBased(ratio))
    chance = _Chance(ratio, unkept_pages)
    return ParentBased(chance, remote_parent_sampled=chance, remote_parent_not_sampled=chance)


class _Chance(Sampler):
    """Keeps a share of the traces, whatever their ids and flags are: people outside choose both.

    Those of the mesh page are not kept: it asks for itself again and again, and shows the others.
    """

    def __init__(self, ratio: float, unkept_pages: Collection[str]) -> None:
        self._ratio = ratio
        self._unkept_pages = unkept_pages

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,  # noqa: ARG002  as in all samplers
        name: str,  # noqa: ARG002
        kind: SpanKind | None = None,  # noqa: ARG002
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,  # noqa: ARG002
        trace_state: TraceState | None = None,  # noqa: ARG002
    ) -> SamplingResult:
        is_kept = random.random() < self._ratio  # noqa: S311  no secret
        path = str((attributes or {}).get("http.target", ""))
        if is_below(path, self._unkept_pages):
            is_kept = False
        decision = Decision.RECORD_AND_SAMPLE if is_kept else Decision.DROP
        state = trace.get_current_span(parent_context).get_span_context().trace_state
        return SamplingResult(decision, attributes, state)

    def get_description(self) -> str:
        return f"Chance({self._ratio})"


def is_below(path: str, pages: Collection[str]) -> bool:
    """Whether a path is that of one of these pages, or below it."""
    return any(f"{path}/".startswith(f"{page}/") for page in pages)


class within:  # noqa: N801  a context manager, named as such are
    """Makes a span the current one, and ends it on the way out. An error that passes by is not
    recorded: whoever knows what it means sets the span's status.

    A class, since every call enters two: `start_as_current_span` makes two generators for each.
    """

    __slots__ = ("_previous", "_span")

    def __init__(self, span: Span) -> None:
        self._span = span
        self._previous: Token[Context] | None = None

    def __enter__(self) -> Span:
        self._previous = attach(trace.set_span_in_context(self._span))
        return self._span

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._previous is not None, "entered before"
        detach(self._previous)
        self._span.end()


def inject_trace(headers: dict[str, str]) -> None:
    """Adds the current trace (W3C ``traceparent``, ``tracestate``, ``baggage``) to outgoing
    headers.
    """
    propagate.inject(headers)


def extract_trace(headers: Mapping[str, str]) -> Context:
    """The trace that incoming headers belong to."""
    return propagate.extract(headers)


def trace_id() -> str:
    """The current trace's id in hexadecimal, or an empty string outside of any."""
    span_context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(span_context.trace_id) if span_context.is_valid else ""


def kept_trace_id(span: Span | None = None) -> str:
    """The id of a span's trace when the trace is kept, or an empty string.

    :param span: the current one where none is given.
    """
    span_context = (span or trace.get_current_span()).get_span_context()
    if not span_context.is_valid or not span_context.trace_flags.sampled:
        return ""
    return trace.format_trace_id(span_context.trace_id)
