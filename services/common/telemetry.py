"""Tracing: one tracer per process, parent-based sampling, OTLP over gRPC."""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased


def make_tracer_provider(
    *,
    service: str,
    version: str,
    instance: str,
    namespace: str,
    sampling_ratio: float,
    otlp_endpoint: str | None,
) -> TracerProvider:
    """A provider whose spans bear the service's name.

    Without an endpoint spans are made (so that there is a trace id to show) but go nowhere.
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
        sampler=ParentBased(TraceIdRatioBased(sampling_ratio)),
    )
    if otlp_endpoint is not None:
        # Only where spans are sent: the exporter costs start-up time and memory.
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )

        exporter = OTLPSpanExporter(
            endpoint=otlp_endpoint, insecure=otlp_endpoint.startswith("http://")
        )
        provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1000))
    return provider


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
