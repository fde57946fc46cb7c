"""The shop without a mesh, for comparison."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, ClassVar

import aiohttp

from tests.cluster.conftest import BASE_URL
from tests.mesh.meshed import Mesh, Namespaced, Outcome, SickPod
from tests.testkit.customer import Client
from tests.testkit.matrix import Operation

_NO_MESH = "there is no mesh to ask this of"


class NoMesh(Mesh):
    """Everybody may ask everybody for everything."""

    name = "none"
    proxy = ""
    way_in = Namespaced("ecommerce", "frontend")
    entry = ()
    verifies_users = False
    egress_is_by_workload = False
    refuses_silently = "the network"
    catalogue_routes = ()
    partner: ClassVar[Mapping[str, Any]] = {}
    first_span = "gateway"  # the frontend's

    @classmethod
    def is_installed(cls) -> bool:
        return True

    def close(self) -> None:
        """Nothing can be."""

    def open(self) -> None:
        """It is."""

    def remove(self) -> None:
        """Nothing is there."""

    def allows(self, caller: str, operation: Operation, *, user: bool) -> bool:
        return True

    def answer_to_outsiders(self, operation: Operation) -> Outcome:
        return "answered"

    @contextmanager
    def callees_judge_alone(self) -> Generator[None]:
        yield

    @contextmanager
    def nobody_asks_for_stock(self) -> Generator[None]:
        raise NotImplementedError(_NO_MESH)

    @contextmanager
    def sick_payment_pod(self) -> Generator[SickPod]:
        raise NotImplementedError(_NO_MESH)

    def counts_answers(self) -> bool:
        return False

    def lead_to_echo(self) -> None:
        raise NotImplementedError(_NO_MESH)

    def span_service(self, workload: str) -> str:
        raise NotImplementedError(_NO_MESH)

    def words_of_a_refusal(self, workload: str, path: str) -> Iterator[str]:
        raise NotImplementedError(_NO_MESH)

    @asynccontextmanager
    async def gateway(
        self, *, port: str = "https", host: str = "", service: Namespaced | None = None
    ) -> AsyncGenerator[Client]:
        """The frontend itself, in plain HTTP."""
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            yield Client(session, BASE_URL)
