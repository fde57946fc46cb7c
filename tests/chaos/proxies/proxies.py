"""A fault proxy on every edge of the shop."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Self

from yarl import URL

from services.common.listening import LOOPBACK
from services.common.topology import Topology
from services.local.data import Process
from services.local.programs import SANDBOX
from tests.chaos.proxies.edge import Edge
from tests.chaos.proxies.http_proxy import open_session

PEOPLE = "people"
FRONTEND = "frontend"
STRIPE = "stripe"


class Proxies:
    """Stands between each caller and each callee that the topology declares, between `payment` and
    Stripe, and between people and the frontend.

    ::

        async with Proxies(load_topology(), seed="1") as proxies:
            async with Shop(folder, own_environment=proxies.environment()) as shop:
                proxies.point_at(shop.processes())
                proxies.edge("order", "payment").faults = Faults(lost_reply=0.1)

    Until they are pointed at the processes every call is answered with UNAVAILABLE.

    :param seed: decides which requests meet which faults.
    """

    def __init__(self, topology: Topology, *, seed: str) -> None:
        self._http = frozenset(_http_edges(topology))
        self._grpc = frozenset(_grpc_edges(topology))
        self._edges = {
            (caller, callee): Edge(caller, callee, seed)
            for caller, callee in sorted(self._http | self._grpc)
        }
        self._resources = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as resources:
            session = await resources.enter_async_context(open_session())
            for pair, edge in self._edges.items():
                resources.push_async_callback(edge.close)
                if pair in self._http:
                    await edge.serve_http(session)
                if pair in self._grpc:
                    await edge.serve_grpc()
            self._resources = resources.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._resources.aclose()

    def environment(self) -> Mapping[str, Mapping[str, str]]:
        """What ``--environment`` is to tell the callers, so that they call the proxies."""
        environment: dict[str, dict[str, str]] = {}
        for caller in {edge.caller for edge in self.edges} - {PEOPLE}:
            own = [edge for edge in self.edges if edge.caller == caller]
            http = {edge.callee: [edge.http_address] for edge in own if edge.http_address}
            grpc = {edge.callee: [edge.grpc_address] for edge in own if edge.grpc_address}
            environment[caller] = {
                "HTTP_ADDRESSES": json.dumps(http),
                "GRPC_ADDRESSES": json.dumps(grpc),
            }
            if STRIPE in http:
                environment[caller]["STRIPE_API_BASE"] = f"http://{http[STRIPE][0]}"
        return environment

    def point_at(self, processes: Sequence[Process]) -> None:
        """Tells where the callees are. They may die and come back: their addresses stay."""
        http: dict[str, list[str]] = {}
        grpc: dict[str, list[str]] = {}
        for process in processes:
            callee = STRIPE if process.service == SANDBOX else process.service
            http.setdefault(callee, []).append(URL(process.url).authority)
            if process.grpc_port is not None:
                grpc.setdefault(callee, []).append(f"{LOOPBACK}:{process.grpc_port}")
        for edge in self.edges:
            if edge.http is not None and edge.callee in http:
                edge.http.point_at(http[edge.callee])
            if edge.grpc is not None and edge.callee in grpc:
                edge.grpc.point_at(grpc[edge.callee])

    @property
    def edges(self) -> Sequence[Edge]:
        """All edges, ordered by their names."""
        return tuple(self._edges.values())

    def edge(self, caller: str, callee: str) -> Edge:
        """One edge."""
        return self._edges[caller, callee]

    @property
    def url(self) -> str:
        """Where people find the shop."""
        return f"http://{self.edge(PEOPLE, FRONTEND).http_address}"

    @property
    def counts(self) -> Counter[str]:
        """What has happened on all edges together."""
        return sum((edge.counts for edge in self.edges), Counter[str]())

    def heal(self) -> None:
        """Ends all faults and lets go at once what is being held."""
        for edge in self.edges:
            edge.heal()

    async def drained(self) -> None:
        """Returns when no request is held and no copy is under way."""
        await asyncio.gather(*(edge.drained() for edge in self.edges))


def _http_edges(topology: Topology) -> Iterator[tuple[str, str]]:
    """Who calls whom over HTTP. The frontend is the gateway of all public routes as well."""
    yield PEOPLE, FRONTEND
    for name, service in topology.services.items():
        if service.public and name != FRONTEND:
            yield FRONTEND, name
        for edge in service.calls:
            if edge.http:
                yield name, edge.callee
        for external in service.external:
            yield name, external.name


def _grpc_edges(topology: Topology) -> Iterator[tuple[str, str]]:
    for name, service in topology.services.items():
        for edge in service.calls:
            if edge.grpc:
                yield name, edge.callee
