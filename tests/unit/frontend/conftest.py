"""One set of fake services and one frontend per variant, for all tests of the frontend."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio

from services.common.listening import LOOPBACK
from services.common.settings import ProcessSettings
from services.common.topology import Topology, load_topology
from services.local.gateway import wire
from tests.testkit.ports import free_port
from tests.testkit.visitor import Visitor
from tests.unit.frontend.fakes import (
    SECRET,
    BackendAddresses,
    Backends,
    running_backends,
)
from tests.unit.serving import running_service

StartFrontend = Callable[..., Awaitable[str]]


@pytest.fixture(scope="session")
def topology() -> Topology:
    """The shop's own."""
    return load_topology()


@pytest.fixture(scope="session")
def all_backends() -> Backends:
    return Backends()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def addresses(all_backends: Backends, topology: Topology) -> AsyncGenerator[BackendAddresses]:
    async with running_backends(all_backends, topology) as found:
        yield found


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def start_frontend(
    addresses: BackendAddresses, topology: Topology
) -> AsyncGenerator[StartFrontend]:
    """Starts a frontend with these settings and gives its URL; stops it after the tests."""
    async with AsyncExitStack() as stack:

        async def start(
            *,
            secure: bool = False,
            variant: str | None = None,
            elsewhere: Mapping[str, tuple[str, ...]] | None = None,
            request_seconds: float = 15.0,
            internal_port: int | None = None,
            shop_url: str = "",
            **settings: Any,
        ) -> str:
            port = free_port()
            process = ProcessSettings(
                host=LOOPBACK,
                http_port=port,
                internal_port=internal_port or free_port(),
                http_addresses={**addresses.http, **(elsewhere or {})},
                grpc_addresses=addresses.grpc,
                instance="frontend-1",
                variant=variant,
                request_timeout_seconds=request_seconds,
                drain_seconds=0,
                **settings,
            )
            with pytest.MonkeyPatch.context() as environment:
                environment.setenv("FRONTEND_SECRET", SECRET)
                environment.setenv("SECURE_COOKIES", str(secure))
                environment.setenv("SERVE_API", "true")
                environment.setenv("SHOP_URL", shop_url)
                await stack.enter_async_context(
                    running_service("frontend", wire, topology, process)
                )
            return f"http://{LOOPBACK}:{port}"

        yield start


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def base_url(start_frontend: StartFrontend) -> str:
    """The stable variant."""
    return await start_frontend()


@pytest.fixture
def backends(all_backends: Backends) -> Backends:
    """The other services, as new."""
    all_backends.reset()
    return all_backends


@pytest_asyncio.fixture(loop_scope="session")
async def new_visitor(backends: Backends) -> AsyncGenerator[Callable[[str], Visitor]]:
    """Visitors without any cookies."""
    async with AsyncExitStack() as stack:

        def new(base_url: str) -> Visitor:
            visitor = Visitor(base_url)
            stack.push_async_callback(visitor.close)
            return visitor

        yield new


@pytest_asyncio.fixture(loop_scope="session")
async def visitor(base_url: str, new_visitor: Callable[[str], Visitor]) -> Visitor:
    """A guest at the stable variant."""
    return new_visitor(base_url)
