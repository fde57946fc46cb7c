"""The gRPC side of a service: one interceptor for context, tracing, errors and the call record;
health; reflection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf import descriptor_pool
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer

from services.common import call_record, context, error_codes
from services.common.errors import GRPC_STATUS, ConfigurationError, Kind, ShopError
from services.common.observing.logs import get_logger, log_cause
from services.common.observing.metrics import Metrics
from services.common.observing.telemetry import extract_trace, kept_trace_id, within
from services.common.protocols.grpc_errors import Metadatum, error_metadata
from services.common.serving.fault_injection import InjectedFaults
from services.common.settings import ProcessSettings

log = get_logger(__name__)

_OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", 256 * 1024),
    ("grpc.max_metadata_size", 32 * 1024),
)
_INFRASTRUCTURE = ("/grpc.health.", "/grpc.reflection.")

RequestType = TypeVar("RequestType")
ResponseType = TypeVar("ResponseType")
Handler = Callable[[Any, Any], Any]


class GrpcServer:
    """A gRPC server with standard health checking and reflection."""

    def __init__(
        self,
        *,
        service: str,
        settings: ProcessSettings,
        tracer: Tracer,
        metrics: Metrics,
        faults: InjectedFaults | None = None,
    ) -> None:
        interceptor = _RequestInterceptor(service, settings, tracer, metrics, faults)
        self.server = grpc.aio.server(interceptors=(interceptor,), options=_OPTIONS)
        self._health = health.aio.HealthServicer()
        self._names: list[str] = []

    def offer(self, name: str) -> None:
        """Announces a service that was added to the server, by its full name."""
        self._names.append(name)

    def operations(self) -> Iterator[str]:
        """What was announced, by the names of the metrics."""
        for name in self._names:
            declared = descriptor_pool.Default().FindServiceByName(name)
            for method in declared.methods:
                yield _operation(f"{name}/{method.name}")

    async def start(self, address: str) -> None:
        """Listens and says that it serves.

        :raises ConfigurationError: the address is not available.
        """
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self.server)
        offered: Sequence[str] = (
            *self._names,
            health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
            reflection.SERVICE_NAME,
        )
        reflection.enable_server_reflection(offered, self.server)
        try:
            self.server.add_insecure_port(address)
        except RuntimeError as error:
            raise ConfigurationError(
                f"The gRPC address {address} cannot be used: "
                "choose another port or stop what listens there."
            ) from error
        await self.server.start()
        for name in ("", *self._names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def drain(self) -> None:
        """Says that it no longer serves; calls under way and new ones are still answered."""
        await self._health.enter_graceful_shutdown()

    async def stop(self, grace_seconds: float) -> None:
        """Refuses new calls and waits for those under way."""
        await self.server.stop(grace_seconds)


class _RequestInterceptor(grpc.aio.ServerInterceptor):
    def __init__(
        self,
        service: str,
        settings: ProcessSettings,
        tracer: Tracer,
        metrics: Metrics,
        faults: InjectedFaults | None,
    ) -> None:
        self._faults = faults
        self._service = service
        self._settings = settings
        self._tracer = tracer
        self._metrics = metrics
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails],
            Awaitable[grpc.RpcMethodHandler[RequestType, ResponseType] | None],
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[RequestType, ResponseType] | None:
        method = handler_call_details.method
        known = self._handlers.get(method)
        if known is not None:
            return known
        handler = await continuation(handler_call_details)
        if handler is None or method.startswith(_INFRASTRUCTURE):
            return handler
        assert handler.unary_unary is not None, "the shop's RPCs are all unary"
        self._handlers[method] = grpc.unary_unary_rpc_method_handler(
            self._wrapped(method, handler.unary_unary),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
        return self._handlers[method]

    def _wrapped(self, method: str, behaviour: Handler) -> Handler:
        operation = _operation(method)
        if self._faults is not None:
            behaviour = _struck(behaviour, self._faults, operation)

        async def serve(message: Any, call: grpc.aio.ServicerContext[Any, Any]) -> Any:
            started = time.perf_counter()
            headers = {
                key: value
                for key, value in call.invocation_metadata() or ()
                if isinstance(value, str)
            }
            request = context.from_headers(headers, self._settings.request_timeout_seconds)
            failure: ShopError | None = None
            answer: Any = None
            with (
                within(
                    self._tracer.start_span(
                        operation,
                        context=extract_trace(headers),
                        kind=SpanKind.SERVER,
                        attributes={"rpc.system": "grpc", "rpc.method": operation},
                    )
                ) as span,
                context.serving(request),
            ):
                try:
                    async with asyncio.timeout(request.seconds_left):
                        answer = await behaviour(message, call)
                except ShopError as error:
                    log_cause(log, error)
                    failure = error
                except TimeoutError:
                    failure = ShopError(
                        Kind.TIMEOUT, error_codes.DEADLINE_PASSED, "The answer took too long."
                    )
                except asyncio.CancelledError:  # the caller has given up, yet it was a request
                    seconds = time.perf_counter() - started
                    self._metrics.request(
                        "grpc", operation, "cancelled", seconds, kept_trace_id(span)
                    )
                    raise
                except Exception:
                    log.exception("grpc.failed", operation=operation)
                    failure = ShopError(
                        Kind.INTERNAL, error_codes.INTERNAL, "Something went wrong on our side."
                    )
                if failure is not None and failure.kind in {Kind.INTERNAL, Kind.UNAVAILABLE}:
                    span.set_status(Status(StatusCode.ERROR, failure.detail))
                seconds = time.perf_counter() - started
                status = failure.kind.value if failure else "ok"
                self._metrics.request("grpc", operation, status, seconds, kept_trace_id(span))
                log.info(
                    "grpc.served", operation=operation, status=status, ms=round(seconds * 1000, 1)
                )
            trailing: tuple[Metadatum, ...] = (
                (call_record.HEADER, call_record.encode(self._served(request, seconds))),
            )
            if failure is None:
                call.set_trailing_metadata(trailing)
                return answer
            return await call.abort(
                GRPC_STATUS[failure.kind],
                failure.detail,
                (*trailing, *error_metadata(failure)),
            )

        return serve

    def _served(self, request: context.RequestContext, seconds: float) -> call_record.Served:
        return call_record.Served(
            service=self._service,
            version=self._settings.version,
            instance=self._settings.instance,
            milliseconds=seconds * 1000,
            calls=tuple(request.log.calls),
            dropped=request.log.dropped,
        )


def _operation(method: str) -> str:
    """What the metrics call a method: ``…/meshmart.inventory.v1.InventoryService/Reserve`` without
    the package.
    """
    service, _, name = method.rpartition("/")
    return f"{service.rpartition('.')[2]}/{name}"


def _struck(behaviour: Handler, faults: InjectedFaults, operation: str) -> Handler:
    async def serve(message: Any, call: Any) -> Any:
        await faults.strike(operation)
        return await behaviour(message, call)

    return serve
