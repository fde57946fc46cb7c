"""Calls to other services over gRPC: only those that the topology declares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Generic, Protocol, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from services.common import call_record, context
from services.common.calls.outgoing import CallTools, observed, with_retries
from services.common.errors import ConfigurationError
from services.common.listening import with_port
from services.common.observing.telemetry import inject_trace
from services.common.protocols.grpc_errors import error_from_status
from services.common.topology import Edge, GrpcCall, undeclared

RequestType = TypeVar("RequestType", bound=Message)
ResponseType = TypeVar("ResponseType", bound=Message)
_Request_contra = TypeVar("_Request_contra", bound=Message, contravariant=True)
_Response_co = TypeVar("_Response_co", bound=Message, covariant=True)

# A callee that comes back is found again within a second; round_robin spreads calls over its
# instances. The "minimal reconnect backoff" is how long gRPC gives one attempt to connect
# (https://github.com/grpc/grpc/blob/master/doc/connection-backoff.md): a busy machine needs more
# than the moment that it takes at rest.
_CHANNEL_OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.service_config", '{"loadBalancingConfig":[{"round_robin":{}}]}'),
    ("grpc.enable_retries", 0),
    # Services reach each other directly, whatever `http_proxy` and its kin say.
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
)


class Rpc(Protocol[_Request_contra, _Response_co]):
    """One unary RPC: ``response = await rpc(request)``."""

    async def __call__(self, request: _Request_contra) -> _Response_co: ...


def open_channel(addresses: Sequence[str]) -> grpc.aio.Channel:
    """A channel to one callee: a DNS name in the cluster, or several instances as ``ip:port``.

    :raises ConfigurationError: one of several instances is no such address.
    """
    target = f"dns:///{addresses[0]}" if len(addresses) == 1 else _all_of(addresses)
    return grpc.aio.insecure_channel(target, options=_CHANNEL_OPTIONS)


def _all_of(addresses: Sequence[str]) -> str:
    """One target for several addresses. gRPC takes a list of one family only, so next to IPv6 an
    IPv4 address is written as an IPv6 one (RFC 4291 §2.5.5.2).
    """
    found = [_parsed(address) for address in addresses]
    if all(ip.version == 4 for ip, _ in found):
        return "ipv4:" + ",".join(addresses)
    mapped = (f"::ffff:{ip}" if ip.version == 4 else str(ip) for ip, _ in found)
    ports = (port for _, port in found)
    return "ipv6:" + ",".join(map(with_port, mapped, ports))


def _parsed(address: str) -> tuple[IPv4Address | IPv6Address, int]:
    host, _, port = address.rpartition(":")
    try:
        return ip_address(host.removeprefix("[").removesuffix("]")), int(port)
    except ValueError:
        raise ConfigurationError(
            f"The gRPC address {address!r} is wrong: of several instances each is an IP address "
            "with a port, like 10.0.0.5:9000 or [fd00::5]:9000."
        ) from None


class GrpcEdge:
    """All RPCs from this process to one callee."""

    def __init__(self, edge: Edge, channel: grpc.aio.Channel, tools: CallTools) -> None:
        self.edge = edge
        self.tools = tools
        self._channel = channel

    async def reached(self) -> None:
        """Returns once a connection to an instance is open; asks nothing."""
        await self._channel.channel_ready()

    def rpc(
        self, name: str, request: type[RequestType], response: type[ResponseType]
    ) -> Rpc[RequestType, ResponseType]:
        """Binds one declared RPC, named ``package.Service/Method``.

        :raises ConfigurationError: the topology does not declare it.
        """
        for call in self.edge.grpc:
            if call.rpc == name:
                return _BoundRpc(self, call, self._multicallable(name, request, response))
        raise undeclared(self.tools.caller, f"{self.edge.callee}'s {name}")

    def _multicallable(
        self, name: str, request: type[RequestType], response: type[ResponseType]
    ) -> grpc.aio.UnaryUnaryMultiCallable[RequestType, ResponseType]:
        serialize: Callable[[RequestType], bytes] = request.SerializeToString
        return self._channel.unary_unary(
            f"/{name}", request_serializer=serialize, response_deserializer=response.FromString
        )


class _BoundRpc(Generic[RequestType, ResponseType]):
    def __init__(
        self,
        edge: GrpcEdge,
        call: GrpcCall,
        multicallable: grpc.aio.UnaryUnaryMultiCallable[RequestType, ResponseType],
    ) -> None:
        self._edge = edge
        self._call = call
        self._multicallable = multicallable

    async def __call__(self, request: RequestType) -> ResponseType:
        edge = self._edge
        return await with_retries(
            edge.tools.guard(edge.edge.callee),
            self._call.client_retries,
            lambda is_retry: self._attempt(request, is_retry),
        )

    async def _attempt(self, request: RequestType, is_retry: bool) -> ResponseType:
        served_for = context.current()
        callee = self._edge.edge.callee
        timeout_seconds = self._call.timeout_ms / 1000
        allowance_seconds = served_for.allowance(timeout_seconds)
        with observed(
            self._edge.tools,
            callee=callee,
            operation=self._call.operation,
            protocol="grpc",
            is_retry=is_retry,
            is_cut_short=allowance_seconds < timeout_seconds,
        ) as outcome:
            metadata = served_for.headers(allowance_seconds)
            if served_for.token is not None:
                metadata["authorization"] = f"Bearer {served_for.token}"
            inject_trace(metadata)
            call = self._multicallable(
                request, timeout=allowance_seconds, metadata=grpc.aio.Metadata(*metadata.items())
            )
            try:
                response = await call
            except grpc.aio.AioRpcError as error:
                trailing = list(error.trailing_metadata() or ())
                outcome.served = call_record.decode(_text(trailing))
                raise error_from_status(
                    error.code(), error.details() or "", trailing, callee
                ) from error
            outcome.served = call_record.decode(_text(list(await call.trailing_metadata() or ())))
            outcome.status = "ok"
            return response


def _text(trailing: Sequence[tuple[str, str | bytes]]) -> str | None:
    for key, value in trailing:
        if key == call_record.HEADER and isinstance(value, str):
            return value
    return None
