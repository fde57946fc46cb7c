"""A real OTLP receiver: what an OpenTelemetry collector is to the shop."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import grpc.aio
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,  # pyright: ignore[reportUnknownVariableType]  untyped
)

from tests.testkit.hunt import SecretTold, findings


@dataclass(frozen=True, slots=True)
class Span:
    """One span as its process has sent it; `service` is its resource's ``service.name``, and
    `attributes` are those that are strings.
    """

    trace_id: bytes
    span_id: bytes
    parent_id: bytes
    service: str
    name: str
    peer: str
    user: str
    attributes: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.service}: {self.name}"


class Collector(TraceServiceServicer):
    """Keeps all spans that it is sent, each once.

    :ivar told: the secrets in them.
    """

    def __init__(self) -> None:
        self.spans: dict[bytes, Span] = {}
        self.told: list[str] = []

    async def Export(
        self, request: pb.ExportTraceServiceRequest, context: Any
    ) -> pb.ExportTraceServiceResponse:
        self.told += findings(request.SerializeToString(), "the spans")
        for span in _spans(request):
            self.spans[span.span_id] = span
        return pb.ExportTraceServiceResponse()

    def named(self, service: str, name: str) -> list[Span]:
        """The spans of a service whose name begins so."""
        return [
            span
            for span in self.spans.values()
            if span.service == service and span.name.startswith(name)
        ]

    def of_trace(self, trace_id: bytes) -> list[Span]:
        """All spans of one trace."""
        return [span for span in self.spans.values() if span.trace_id == trace_id]

    def edges(self, spans: list[Span]) -> set[tuple[str, str]]:
        """Which services called which: a span of one whose parent is a span of another."""
        return {
            (parent.service, span.service)
            for span in spans
            if (parent := self.spans.get(span.parent_id)) and parent.service != span.service
        }


@contextlib.asynccontextmanager
async def collecting() -> AsyncGenerator[tuple[Collector, str]]:
    """A collector and the endpoint where it takes spans.

    :raises SecretTold: at the end, when a span has told one.
    """
    collector = Collector()
    server = grpc.aio.server()
    add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield collector, f"http://127.0.0.1:{port}"
    finally:
        await server.stop(None)
    if collector.told:
        raise SecretTold("\n".join(collector.told))


def _spans(request: pb.ExportTraceServiceRequest) -> Iterator[Span]:
    for resource_spans in request.resource_spans:
        resource = {
            attribute.key: attribute.value.string_value
            for attribute in resource_spans.resource.attributes
        }
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                attributes = {
                    attribute.key: attribute.value.string_value for attribute in span.attributes
                }
                yield Span(
                    trace_id=span.trace_id,
                    span_id=span.span_id,
                    parent_id=span.parent_span_id,
                    service=resource["service.name"],
                    name=span.name,
                    peer=attributes.get("peer.service", ""),
                    user=attributes.get("user.id", ""),
                    attributes=attributes,
                )
