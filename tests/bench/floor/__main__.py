"""The floor: one process for each service of a plan, until this one is ended.

``python -m tests.bench.floor PLAN STATE`` writes to STATE where the services are, once all listen.
"""

from __future__ import annotations

import argparse
import multiprocessing
import signal
import socket
from multiprocessing.context import ForkProcess
from pathlib import Path

from tests.bench.floor.floor import FloorState
from tests.bench.floor.plan import Plan
from tests.bench.floor.server import FloorPorts, run
from tests.testkit.ports import free_port


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plan", type=Path)
    parser.add_argument("state", type=Path)
    arguments = parser.parse_args()
    plan = Plan.model_validate_json(arguments.plan.read_bytes())
    listeners = {service: _listener() for service in plan.services()}
    ports = FloorPorts(
        http={service: found.getsockname()[1] for service, found in listeners.items()},
        grpc={service: free_port() for service in listeners},
    )
    fork = multiprocessing.get_context("fork")  # quick; nothing runs yet that a fork would break
    pids: dict[str, int] = {}
    children: list[ForkProcess] = []
    for service, listener in listeners.items():
        store = arguments.state.parent / f"{service}.db"
        child = fork.Process(target=_run, args=(service, plan, ports, listener, store))
        child.start()
        children.append(child)
        assert child.pid is not None, "it has been started"
        pids[service] = child.pid
    state = FloorState(pids=pids, http_ports=dict(ports.http), grpc_ports=dict(ports.grpc))
    arguments.state.write_text(state.model_dump_json(), encoding="utf-8")
    for child in children:
        child.join()
    return 1  # none ends before this process


def _run(service: str, plan: Plan, ports: FloorPorts, listener: socket.socket, store: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's end is told by its pipe
    parent = multiprocessing.parent_process()
    assert parent is not None, "this is a child"
    run(service, plan, ports, listener, store, parent.sentinel)


def _listener() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    listener.setblocking(False)
    return listener


if __name__ == "__main__":
    raise SystemExit(main())
