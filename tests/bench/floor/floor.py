"""Starts the floor of a plan, and ends it."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Generator
from pathlib import Path

import psutil
from pydantic import BaseModel

from tests.bench.floor.plan import GATEWAY, Plan
from tests.testkit.process import ServerProcess

_STOP_SECONDS = 20.0


class FloorState(BaseModel):
    """Where the floor's processes are, by service."""

    pids: dict[str, int]
    http_ports: dict[str, int]
    grpc_ports: dict[str, int]

    @property
    def url(self) -> str:
        """The base URL of the frontend."""
        return f"http://127.0.0.1:{self.http_ports[GATEWAY]}"


@contextlib.contextmanager
def running_floor(plan: Plan, folder: Path) -> Generator[FloorState]:
    """Runs a process for each service of a plan.

    :param folder: for their stores and their output.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plan_file, state_file = folder / "plan.json", folder / "state.json"
    plan_file.write_text(plan.model_dump_json(indent=1), encoding="utf-8")
    state_file.unlink(missing_ok=True)
    process = ServerProcess("the floor", folder / "output")
    command = [sys.executable, "-m", "tests.bench.floor", plan_file, state_file]
    process.start(command, lambda: _is_open(state_file))
    state = FloorState.model_validate_json(state_file.read_bytes())
    services = [psutil.Process(pid) for pid in state.pids.values()]
    try:
        yield state
    finally:
        process.stop()
        _, left = psutil.wait_procs(services, _STOP_SECONDS)  # they notice the parent's end
        for each in left:
            each.kill()
        assert not left, f"the floor left processes behind: {left}"


def _is_open(state_file: Path) -> bool:
    try:
        state = FloorState.model_validate_json(state_file.read_bytes())
        for port in state.grpc_ports.values():  # those for HTTP listen from the start
            socket.create_connection(("127.0.0.1", port)).close()
    except (OSError, ValueError):
        return False
    return True
