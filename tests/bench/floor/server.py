"""One service of the floor: a bare ASGI app and bare gRPC handlers that follow a plan.

Servers and clients are those of the shop, with the same settings: uvicorn with httptools and
uvloop, grpc.aio, aiohttp with connections kept alive, and SQLite with one flush to disk for all
writes that wait. The settings stand here again, since the floor must not run the shop's own code.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import sqlite3
import sys
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import grpc
import grpc.aio
import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send

from services.common.calls.grpc_client import open_channel
from services.common.documents.sqlite_thread import ConnectionThread
from tests.bench.floor.plan import Hop, Plan

_GRPC_SERVICE = "floor"
_KEEP_ALIVE_SECONDS = 75
_SWITCH_SECONDS = 0.001


@dataclass(frozen=True, slots=True)
class FloorPorts:
    """Where the floor's services listen on the loopback interface, by service."""

    http: Mapping[str, int]
    grpc: Mapping[str, int]


class BareService:
    """Does a service's hops: makes their calls and writes, and answers with as many bytes.

    As an ASGI app it answers ``/ID`` of a hop; its gRPC methods are called ``floor/ID``.
    """

    def __init__(self, service: str, plan: Plan, ports: FloorPorts, store: Path) -> None:
        self.hops = {hop.id: hop for hop in plan.hops() if hop.service == service}
        self._ports = ports
        self._answers = {hop.id: bytes(hop.answer_bytes) for hop in self.hops.values()}
        self._writer = ConnectionThread("writer", lambda: _open(store), "BEGIN IMMEDIATE")
        self._keys = itertools.count()
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._session: aiohttp.ClientSession | None = None
        self._afterwards: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hop = self.hops[scope["path"][1:]]
        while (await receive()).get("more_body", False):
            pass
        answer = await self.perform(hop)
        headers = [
            (b"content-type", b"application/octet-stream"),
            (b"content-length", b"%d" % len(answer)),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    def handlers(self) -> grpc.GenericRpcHandler:
        """Returns the gRPC methods."""
        return grpc.method_handlers_generic_handler(
            _GRPC_SERVICE,
            {hop.id: self._handler(hop) for hop in self.hops.values() if hop.protocol == "grpc"},
        )

    def _handler(self, hop: Hop) -> grpc.RpcMethodHandler[bytes, bytes]:
        async def serve(_: bytes, __: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            return await self.perform(hop)

        return grpc.unary_unary_rpc_method_handler(serve)

    async def perform(self, hop: Hop) -> bytes:
        """Makes a hop's calls and writes, and returns its answer."""
        for stage in hop.stages:
            if len(stage) == 1:
                await self._call(stage[0])
            else:
                await asyncio.gather(*map(self._call, stage))
        for size_bytes in hop.writes:
            await self._write(size_bytes)
        if hop.afterwards:
            task = asyncio.create_task(self._call_in_turn(hop.afterwards))
            self._afterwards.add(task)
            task.add_done_callback(self._afterwards.discard)
        return self._answers[hop.id]

    async def close(self) -> None:
        """Closes connections and store, when what is still to be done is done."""
        await asyncio.gather(*self._afterwards)
        if self._session is not None:
            await self._session.close()
        for channel in self._channels.values():
            await channel.close()
        await self._writer.close()

    async def _call_in_turn(self, hops: Sequence[Hop]) -> None:
        for hop in hops:
            await self._call(hop)

    async def _call(self, hop: Hop) -> None:
        request = bytes(hop.request_bytes)
        if hop.protocol == "grpc":
            await self._channel(hop.service).unary_unary(f"/{_GRPC_SERVICE}/{hop.id}")(request)
            return
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0, limit_per_host=100, keepalive_timeout=_KEEP_ALIVE_SECONDS - 15
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        url = f"http://127.0.0.1:{self._ports.http[hop.service]}/{hop.id}"
        method = "POST" if request else "GET"
        async with self._session.request(method, url, data=request or None) as answer:
            await answer.read()

    def _channel(self, service: str) -> grpc.aio.Channel:
        if service not in self._channels:
            self._channels[service] = open_channel([f"127.0.0.1:{self._ports.grpc[service]}"])
        return self._channels[service]

    async def _write(self, size_bytes: int) -> None:
        row = (f"{next(self._keys)}", "x" * size_bytes)
        await self._writer.run(
            lambda connection: connection.execute("INSERT INTO written VALUES (?, ?)", row)
        )


def _open(store: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(store, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE IF NOT EXISTS written (id TEXT PRIMARY KEY, body TEXT)")
    return connection


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


@contextlib.asynccontextmanager
async def serving(
    app: BareService, listener: socket.socket, grpc_port: int
) -> AsyncGenerator[None]:
    """Serves HTTP on a socket that listens, and gRPC on a port."""
    server = _Server(
        uvicorn.Config(
            app,
            http="httptools",
            loop="none",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        )
    )
    rpc_server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    rpc_server.add_generic_rpc_handlers((app.handlers(),))
    rpc_server.add_insecure_port(f"127.0.0.1:{grpc_port}")
    await rpc_server.start()
    http_serving = asyncio.create_task(server.serve([listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await http_serving
        await rpc_server.stop(None)
        await app.close()


def run(
    service: str, plan: Plan, ports: FloorPorts, listener: socket.socket, store: Path, parent: int
) -> None:
    """Serves until the parent has ended.

    :param parent: a descriptor that becomes readable then.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)

    async def serve() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_reader(parent, stop.set)
        app = BareService(service, plan, ports, store)
        async with serving(app, listener, ports.grpc[service]):
            await stop.wait()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
