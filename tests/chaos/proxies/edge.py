"""The proxies of one edge: for its HTTP calls, its gRPC calls, or both."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import AsyncExitStack

import aiohttp

from tests.chaos.proxies.faults import FaultInjector, Faults
from tests.chaos.proxies.grpc_proxy import GrpcProxy
from tests.chaos.proxies.http_proxy import HttpProxy
from tests.chaos.proxies.relay import LOOPBACK, Gate, Relay


class Edge:
    """All calls from one service to another, and what goes wrong with them.

    :ivar tcp: what goes wrong with its connections.
    :ivar counts: what has really happened, by Fault and TcpFault, and how many requests were
        FORWARDED.
    :ivar http: the proxy for HTTP calls, if the edge has any.
    :ivar http_address: ``host:port`` that the caller is to take for the callee's.
    """

    def __init__(self, caller: str, callee: str, seed: str) -> None:
        self.caller = caller
        self.callee = callee
        self.counts = Counter[str]()
        self.http: HttpProxy | None = None
        self.http_address: str | None = None
        self.grpc: GrpcProxy | None = None
        self.grpc_address: str | None = None
        self.tcp = Gate(self.counts)
        self._injector = FaultInjector(random.Random(f"{seed}:{caller}->{callee}"), self.counts)
        self._resources = AsyncExitStack()
        self._resources.push_async_callback(self._injector.close)

    async def serve_http(self, session: aiohttp.ClientSession) -> None:
        """Begins to listen for HTTP calls."""
        self.http = HttpProxy(self._injector, session)
        self._resources.push_async_callback(self.http.close)
        self.http_address = await self._relayed(await self.http.start())

    async def serve_grpc(self) -> None:
        """Begins to listen for gRPC calls."""
        self.grpc = GrpcProxy(self._injector)
        self._resources.push_async_callback(self.grpc.close)
        self.grpc_address = await self._relayed(await self.grpc.start())

    async def close(self) -> None:
        """Ends all calls and listens no more."""
        await self._resources.aclose()

    @property
    def faults(self) -> Faults:
        """What happens to requests from now on."""
        return self._injector.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._injector.faults = faults

    def heal(self) -> None:
        """Ends all faults and lets go at once what is being held."""
        self.tcp.heal()
        self._injector.heal()

    @property
    def held(self) -> int:
        """How many requests meet a fault just now, copies that are under way included."""
        return self._injector.held

    async def drained(self) -> None:
        """Returns when no request is held and no copy is under way."""
        await self._injector.drained()

    async def _relayed(self, port: int) -> str:
        relay = await Relay.start(self.tcp, port)
        self._resources.callback(self.tcp.close_connections)
        self._resources.callback(relay.close)
        return f"{LOOPBACK}:{relay.port}"
