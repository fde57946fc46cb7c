"""A caller and a callee that speak HTTP and gRPC, to try what is between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import aiohttp
import grpc
import grpc.aio
from aiohttp import web
from yarl import URL

from services.common.calls.grpc_client import open_channel
from services.common.listening import LOOPBACK
from services.local.data import Process

HTTP_TARGET = "/things/a%2Fb?q=x%26y&q=%C3%BC"
RPC = "/test.Test/Try"

Metadata = Sequence[tuple[str, str | bytes]]
Refusal = tuple[grpc.StatusCode, str, Metadata]


class BadAnswerError(Exception):
    """The callee, or whoever answered for it, has a problem of its own."""


class Call(Protocol):
    """Makes one call and gives the answer's body.

    :raises BadAnswerError: the answer is an error, or broke off.
    :raises TimeoutError: none came in time.
    """

    async def __call__(self, body: bytes = b"", *, timeout_seconds: float = 5.0) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request as it arrived. Of a gRPC call, `headers` is the metadata."""

    method: str
    target: str
    headers: Metadata
    body: bytes
    seconds_left: float | None = None


async def _at_once() -> None:
    return


class ProxiedCallee(grpc.GenericRpcHandler):
    """Answers over both protocols, and keeps what it saw.

    :ivar work: what it does before it answers.
    :ivar refusal: how it refuses gRPC calls, if it does.
    :ivar given_up: how many calls were given up by their callers.
    """

    def __init__(self) -> None:
        self.seen: list[Arrival] = []
        self.given_up = 0
        self.work: Callable[[], Awaitable[object]] = _at_once
        self.refusal: Refusal | None = None

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[Process]:
        """Answers meanwhile. Gives where it is, as the runner would."""
        runner = web.ServerRunner(
            web.Server(self._serve_http, handler_cancellation=True, access_log=None),
            shutdown_timeout=0.1,
        )
        await runner.setup()
        await web.TCPSite(runner, LOOPBACK, 0).start()
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((self,))
        grpc_port = server.add_insecure_port(f"{LOOPBACK}:0")
        await server.start()
        url = f"http://{LOOPBACK}:{runner.addresses[0][1]}"
        try:
            yield Process(
                service="callee",
                instance="callee",
                pid=0,
                url=url,
                internal_url=url,
                grpc_port=grpc_port,
            )
        finally:
            await server.stop(None)
            await runner.cleanup()

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes]:
        """The handler of any method."""

        async def serve(body: bytes, caller: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            metadata = tuple(caller.invocation_metadata() or ())
            rpc = handler_call_details.method
            await self._serve(Arrival("", rpc, metadata, body, caller.time_remaining()))
            if self.refusal is not None:
                await caller.abort(*self.refusal)
            caller.set_trailing_metadata((("served-by", "callee"), ("facts-bin", b"\x00\xff")))
            return b"re: " + body

        return grpc.unary_unary_rpc_method_handler(serve)

    async def _serve_http(self, request: web.BaseRequest) -> web.Response:
        body = await request.content.read()
        headers = tuple(request.headers.items())
        await self._serve(Arrival(request.method, request.raw_path, headers, body))
        answer = web.Response(status=207, reason="Several", body=b"re: " + body)
        answer.headers.extend([("set-cookie", "a=1"), ("set-cookie", "b=2"), ("x-own", "1")])
        return answer

    async def _serve(self, seen: Arrival) -> None:
        self.seen.append(seen)
        try:
            await self.work()
        except asyncio.CancelledError:
            self.given_up += 1
            raise


@asynccontextmanager
async def http_caller(address: str) -> AsyncGenerator[Call]:
    """Calls over HTTP."""
    async with aiohttp.ClientSession() as session:

        async def call(body: bytes = b"", *, timeout_seconds: float = 5.0) -> bytes:
            async with asyncio.timeout(timeout_seconds):
                try:
                    async with session.post(
                        URL(f"http://{address}{HTTP_TARGET}", encoded=True), data=body
                    ) as answer:
                        received = await answer.read()
                except aiohttp.ClientError as error:
                    raise BadAnswerError("broken") from error
            if answer.status >= 500:
                raise BadAnswerError(str(answer.status))
            return received

        yield call


@asynccontextmanager
async def grpc_caller(address: str) -> AsyncGenerator[Call]:
    """Calls over gRPC."""
    async with open_channel([address]) as channel:
        rpc: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(RPC)

        async def call(body: bytes = b"", *, timeout_seconds: float = 5.0) -> bytes:
            try:
                return await rpc(body, timeout=timeout_seconds)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                    raise TimeoutError from error
                raise BadAnswerError(error.code().name) from error

        yield call
