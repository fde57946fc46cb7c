"""Passes gRPC calls on as they are: bytes, metadata, deadline, status and its details."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import grpc
import grpc.aio

from services.common.calls.grpc_client import open_channel
from tests.chaos.proxies.faults import FaultInjector, InjectedError, ReplyLostError
from tests.chaos.proxies.relay import LOOPBACK

_OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_metadata_size", 32 * 1024),
)
# For callers that set no deadline: nothing may be under way for ever.
_LONGEST_SECONDS = 30.0
_OF_THIS_HOP = frozenset({"user-agent"})
_ERRORS = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL)


class _GrpcAnswer(NamedTuple):
    message: bytes
    trailing_metadata: grpc.aio.Metadata


class GrpcProxy(grpc.GenericRpcHandler):
    """A gRPC server that knows no service, in front of all instances of one."""

    def __init__(self, injector: FaultInjector) -> None:
        self._injector = injector
        self._server = grpc.aio.server(options=_OPTIONS)
        self._server.add_generic_rpc_handlers((self,))
        self._handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {}
        self._channels: list[grpc.aio.Channel] = []
        self._methods: dict[str, grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = {}

    async def start(self) -> int:
        """Begins to listen; gives the port."""
        port = self._server.add_insecure_port(f"{LOOPBACK}:0")
        await self._server.start()
        return port

    async def close(self) -> None:
        """Ends all calls and listens no more."""
        await self._server.stop(None)
        for channel in self._channels:
            await channel.close()

    def point_at(self, addresses: Sequence[str]) -> None:
        """Tells where the instances are, now that they have started, all of them anew perhaps."""
        self._channels.append(open_channel(addresses))
        self._methods.clear()

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes]:
        """The handler of any method."""
        method = handler_call_details.method
        if method not in self._handlers:
            self._handlers[method] = grpc.unary_unary_rpc_method_handler(
                partial(self._serve, method)
            )
        return self._handlers[method]

    async def _serve(
        self, method: str, request: bytes, caller: grpc.aio.ServicerContext[bytes, bytes]
    ) -> bytes:
        timeout_seconds = caller.time_remaining() or _LONGEST_SECONDS
        metadata = grpc.aio.Metadata(
            *(item for item in caller.invocation_metadata() or () if item[0] not in _OF_THIS_HOP)
        )
        if not self._channels:
            await caller.abort(grpc.StatusCode.UNAVAILABLE, "The callee has not started yet.")
        if method not in self._methods:
            self._methods[method] = self._channels[-1].unary_unary(method)
        callee = self._methods[method]

        async def forward() -> _GrpcAnswer | grpc.aio.AioRpcError:
            call = callee(request, timeout=timeout_seconds, metadata=metadata)
            try:
                return _GrpcAnswer(await call, await call.trailing_metadata())
            except grpc.aio.AioRpcError as error:
                return error

        try:
            answer = await self._injector.send(forward)
        except InjectedError:
            code = self._injector.dice.choice(_ERRORS)
            await caller.abort(code, "The proxy refuses this request.")
        except ReplyLostError:
            await caller.abort(grpc.StatusCode.UNAVAILABLE, "The proxy has lost the answer.")
        if isinstance(answer, grpc.aio.AioRpcError):
            await caller.abort(
                answer.code(), answer.details() or "", tuple(answer.trailing_metadata() or ())
            )
        caller.set_trailing_metadata(answer.trailing_metadata)
        return answer.message
