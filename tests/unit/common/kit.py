"""A shop of two services for the tests of the shared library: `caller` calls `callee`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.sdk.trace import TracerProvider

from services.common.calls.outgoing import CallTools
from services.common.observing.metrics import Metrics
from services.common.observing.telemetry import make_tracer_provider
from services.common.serving.host import Host, Wire, hosting
from services.common.settings import ProcessSettings
from services.common.topology import Edge, Topology
from tests.testkit.ports import free_port
from tests.unit.serving import running_service

RESERVE = "meshmart.inventory.v1.InventoryService/Reserve"
COMMIT = "meshmart.inventory.v1.InventoryService/Commit"

TOPOLOGY = Topology.model_validate(
    {
        "namespace": "test",
        "services": {
            "caller": {
                "workload": "caller-service",
                "about": "Calls.",
                "http": {"port": 3000, "service_port": 80},
                "trace_sampling_ratio": 1.0,
                "calls": [
                    {
                        "callee": "callee",
                        "http": [
                            {"method": "GET", "path": "/things/{thing}", "timeout_ms": 2000},
                            {"method": "POST", "path": "/things", "timeout_ms": 200},
                            {
                                "method": "GET",
                                "path": "/flaky",
                                "timeout_ms": 2000,
                                "idempotent": True,
                                "client_retries": 2,
                            },
                        ],
                        "grpc": [
                            {"rpc": RESERVE, "timeout_ms": 2000},
                            {
                                "rpc": COMMIT,
                                "timeout_ms": 200,
                                "idempotent": True,
                                "client_retries": 2,
                            },
                        ],
                    }
                ],
            },
            "callee": {
                "workload": "callee-service",
                "about": "Is called.",
                "http": {"port": 3000, "service_port": 3000},
                "grpc": {"port": 9000, "service_port": 9000},
                "trace_sampling_ratio": 1.0,
                "variants": ["plain", "fancy"],
            },
        },
    }
)
EDGE: Edge = TOPOLOGY.edge("caller", "callee")


class ManualClock:
    """A monotonic clock that moves when the test says so."""

    def __init__(self) -> None:
        self.now_seconds = 1000.0

    def __call__(self) -> float:
        return self.now_seconds

    def advance(self, seconds: float) -> None:
        """Lets time pass."""
        self.now_seconds += seconds


def call_tools(clock: Callable[[], float] = time.monotonic) -> CallTools:
    """What a client needs, all of it real."""
    return CallTools(
        caller="caller",
        tracer=TracerProvider().get_tracer("test"),
        metrics=Metrics(),
        clock=clock,
    )


def tracer_provider(sampling_ratio: float = 1.0, **changes: Any) -> TracerProvider:
    """Makes traces as a process of order does, as the outermost service unless it is changed."""
    settings: dict[str, Any] = {
        "service": "order-service",
        "version": "v1",
        "instance": "order-1",
        "namespace": "test",
        "is_outermost": True,
        "otlp_endpoint": None,
        **changes,
    }
    return make_tracer_provider(sampling_ratio=sampling_ratio, **settings)


@dataclass(frozen=True, slots=True)
class Running:
    """A service that answers."""

    process: ProcessSettings
    host: Host
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        """Where its HTTP side is."""
        return f"http://127.0.0.1:{self.process.http_port}"

    @property
    def grpc_address(self) -> str:
        """Where its gRPC side is."""
        return f"127.0.0.1:{self.process.grpc_port}"


def process_settings(**changes: Any) -> ProcessSettings:
    """Settings of a process on free ports."""
    settings: dict[str, Any] = {
        "host": "127.0.0.1",
        "http_port": free_port(),
        "grpc_port": free_port(),
        "version": "v1",
        "instance": "callee-1",
        "drain_seconds": 1.0,
    }
    return ProcessSettings(**{**settings, **changes})


@asynccontextmanager
async def serving_grpc(wire: Wire, **settings: Any) -> AsyncGenerator[Running]:
    """Runs the gRPC side of `callee` only, which is quicker than all of it."""
    process = process_settings(**settings)
    async with (
        hosting("callee", wire, topology=TOPOLOGY, process=process) as host,
        host.running(),
    ):
        yield Running(process, host)


@asynccontextmanager
async def serving(wire: Wire, **settings: Any) -> AsyncGenerator[Running]:
    """Runs `callee` as a process would, on free ports; raises what its start raises."""
    process = process_settings(**settings)
    hosts: list[Host] = []

    async def wire_and_keep(host: Host) -> None:
        hosts.append(host)
        await wire(host)

    async with running_service("callee", wire_and_keep, TOPOLOGY, process) as stop:
        yield Running(process, hosts[0], stop)


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Returns once the condition holds.

    :raises TimeoutError: it does not in that time.
    """
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  nothing tells when any condition changes
            await asyncio.sleep(0.005)
