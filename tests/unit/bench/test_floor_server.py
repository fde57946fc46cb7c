"""The floor's processes do what their plan says."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
from collections.abc import AsyncGenerator
from pathlib import Path

import aiohttp
import psutil

from tests.bench.floor.floor import running_floor
from tests.bench.floor.plan import Hop, Plan
from tests.bench.floor.server import BareService, FloorPorts, serving
from tests.testkit.ports import free_port
from tests.testkit.waiting import eventually


def hop(number: int, service: str, protocol: str = "grpc", **more: object) -> Hop:
    return Hop.model_validate(
        {
            "id": f"order.{number}",
            "service": service,
            "protocol": protocol,
            "operation": "",
            "request_bytes": 10,
            "answer_bytes": 100 + number,
            **more,
        }
    )


PLAN = Plan(
    journeys={
        "order": hop(
            0,
            "frontend",
            "http",
            stages=((hop(1, "order", "http", writes=(50, 60), afterwards=(hop(5, "notification"),),
                stages=((hop(2, "user"), hop(3, "product")), (hop(4, "user"),))),),),
        )
    }
)  # fmt: skip


@contextlib.asynccontextmanager
async def floor_here(folder: Path) -> AsyncGenerator[tuple[str, dict[str, list[str]]]]:
    """All services within this process, and what each has performed."""
    performed: dict[str, list[str]] = {}

    class Watched(BareService):
        async def perform(self, hop: Hop) -> bytes:
            performed.setdefault(hop.service, []).append(hop.id)
            return await super().perform(hop)

    listeners = {name: socket.create_server(("127.0.0.1", 0)) for name in PLAN.services()}
    ports = FloorPorts(
        http={name: found.getsockname()[1] for name, found in listeners.items()},
        grpc={name: free_port() for name in listeners},
    )
    async with contextlib.AsyncExitStack() as stack:
        for name, listener in listeners.items():
            app = Watched(name, PLAN, ports, folder / f"{name}.db")
            await stack.enter_async_context(serving(app, listener, ports.grpc[name]))
        yield f"http://127.0.0.1:{ports.http['frontend']}", performed


async def test_every_hop_is_performed_with_its_messages_and_writes(tmp_path: Path) -> None:
    async with floor_here(tmp_path) as (url, performed), aiohttp.ClientSession() as session:
        async with session.post(f"{url}/order.0", data=b"x" * 200) as answer:
            assert len(await answer.read()) == 100

        async def is_notified() -> bool:
            return performed.get("notification") == ["order.5"]

        await eventually(is_notified, "what is done afterwards is done")
        assert performed["frontend"] == ["order.0"]
        assert performed["order"] == ["order.1"]
        assert performed["product"] == ["order.3"]
        assert performed["user"] == ["order.2", "order.4"]
        with contextlib.closing(sqlite3.connect(tmp_path / "order.db")) as connection:
            rows = connection.execute("SELECT length(body) FROM written ORDER BY id").fetchall()
        assert rows == [(50,), (60,)]


async def test_the_floor_runs_a_process_for_each_service(tmp_path: Path) -> None:
    with running_floor(PLAN, tmp_path) as floor:
        assert sorted(floor.pids) == PLAN.services()
        assert len(set(floor.pids.values())) == len(floor.pids)
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{floor.url}/order.0") as answer,
        ):
            assert answer.status == 200
            assert len(await answer.read()) == 100
    assert not any(map(psutil.pid_exists, floor.pids.values()))
