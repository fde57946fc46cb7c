"""Stands in a service's place and fails, or takes its time and then sends the request on.

Linkerd makes no faults; a route that leads a share of the requests here does. HTTP and gRPC are
taken as they come, whatever they ask for. Each request is a line of the log.

DELAY_SECONDS  how long a gRPC request is held before it is sent on; without it, gRPC requests fail
FORWARD_TO     the host of the service itself, which is asked on ports 3000 and 9000; every
               second HTTP request is sent on to it, and without it all fail
/tmp/well      as long as this file is there, gRPC requests are sent on at once
"""

import asyncio
import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc.aio
from aiohttp import ClientSession, web

DELAY_SECONDS = float(os.environ.get("DELAY_SECONDS", "0"))
FORWARD_TO = os.environ.get("FORWARD_TO", "")
WELL = Path("/tmp/well")  # noqa: S108  of a container of its own

# Of one connection, not of the request: RFC 9110, section 7.6.1.
_OF_A_HOP = frozenset({"connection", "content-length", "host", "keep-alive", "transfer-encoding"})

Context = grpc.aio.ServicerContext[bytes, bytes]


class Faulty(grpc.GenericRpcHandler):
    """Every RPC of every service."""

    def __init__(self, service_itself: grpc.aio.Channel) -> None:
        self._service_itself = service_itself

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The handler of one RPC."""
        rpc = handler_call_details.method

        async def answer(request: bytes, context: Context) -> bytes:
            is_well = await asyncio.to_thread(WELL.exists)
            if not is_well and not DELAY_SECONDS:
                print("failed", rpc, flush=True)
                await context.abort(grpc.StatusCode.UNAVAILABLE, "This pod is sick.")
            if not is_well:
                await asyncio.sleep(DELAY_SECONDS)
            print("sent on", rpc, flush=True)
            return await self._sent_on(rpc, request, context)

        return grpc.unary_unary_rpc_method_handler(answer)  # pyright: ignore[reportUnknownVariableType]  grpc is untyped

    async def _sent_on(self, rpc: str, request: bytes, context: Context) -> bytes:
        metadata = tuple(
            (name, value)
            for name, value in context.invocation_metadata() or ()
            if not name.startswith(("grpc-", ":")) and name not in {"user-agent", "te"}
        )
        method: Any = self._service_itself.unary_unary(rpc)  # pyright: ignore[reportUnknownVariableType]  grpc is untyped
        call = method(request, metadata=metadata, timeout=context.time_remaining())
        try:
            reply: bytes = await call
        except grpc.aio.AioRpcError as error:
            await context.abort(
                error.code(), error.details() or "", tuple(error.trailing_metadata() or ())
            )
        context.set_trailing_metadata(tuple(await call.trailing_metadata()))
        return reply


class FaultyPages:
    """Every HTTP request, but those about this pod itself."""

    def __init__(self, session: ClientSession) -> None:
        self._session = session
        self._fails = itertools.cycle([True, False] if FORWARD_TO else [True])

    async def answer(self, request: web.Request) -> web.Response:
        """503, or the answer of the service itself."""
        if request.path in {"/livez", "/readyz"}:
            return web.Response()
        if next(self._fails):
            print("failed", request.method, request.path, flush=True)
            return web.Response(status=503)
        print("sent on", request.method, request.path, flush=True)
        url = f"http://{FORWARD_TO}:3000{request.path_qs}"
        headers = _end_to_end(request.headers)
        body = await request.read()
        async with self._session.request(request.method, url, headers=headers, data=body) as answer:
            body = await answer.read()
            return web.Response(
                status=answer.status, headers=_end_to_end(answer.headers), body=body
            )


def _end_to_end(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _OF_A_HOP}


async def main() -> None:
    """Serves until the pod ends."""
    async with (
        grpc.aio.insecure_channel(f"{FORWARD_TO}:9000") as service_itself,
        ClientSession(auto_decompress=False) as session,
    ):
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", FaultyPages(session).answer)
        runner = web.AppRunner(application)
        await runner.setup()
        await web.TCPSite(runner, port=3000).start()
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((Faulty(service_itself),))
        server.add_insecure_port("0.0.0.0:9000")
        await server.start()
        await server.wait_for_termination()


asyncio.run(main())
