"""An OTLP receiver for a pod: prints every span as one line of JSON."""

import base64
import json
import sys
from concurrent import futures
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,  # pyright: ignore[reportUnknownVariableType]  untyped
)


class Printer(TraceServiceServicer):
    """Keeps nothing."""

    def Export(self, request: pb.ExportTraceServiceRequest, context: Any) -> Any:
        for resource_spans in request.resource_spans:
            resource = {a.key: a.value.string_value for a in resource_spans.resource.attributes}
            for scope_spans in resource_spans.scope_spans:
                for span in scope_spans.spans:
                    line = {
                        "trace": base64.b16encode(span.trace_id).decode().lower(),
                        "span": base64.b16encode(span.span_id).decode().lower(),
                        "parent": base64.b16encode(span.parent_span_id).decode().lower(),
                        "service": resource.get("service.name", ""),
                        "name": span.name,
                        # The services are written in Python, and neither mesh's proxies are.
                        "by_proxy": resource.get("telemetry.sdk.language") != "python",
                    }
                    # In one piece, since several threads write.
                    sys.stdout.write(json.dumps(line) + "\n")
                    sys.stdout.flush()
        return pb.ExportTraceServiceResponse()


server = grpc.server(futures.ThreadPoolExecutor(4))
add_TraceServiceServicer_to_server(Printer(), server)
server.add_insecure_port("0.0.0.0:4317")
server.start()
server.wait_for_termination()
