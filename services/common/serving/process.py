"""The process of a service, as a container and the local runner run it."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Protocol

import uvloop

from services.common.clock import set_skew
from services.common.errors import ConfigurationError, ShopError
from services.common.observing.logs import configure_logging
from services.common.serving.host import Announce, serve
from services.common.settings import ProcessSettings, read_settings
from services.common.topology import load_topology

# sysexits.h: EX_CONFIG. A supervisor need not start such a process again.
EXIT_CONFIGURATION = 78

READY_FD = "MESHMART_READY_FD"
PARENT_FD = "MESHMART_PARENT_FD"


class Serve(Protocol):
    """Serves something until `stop` is set; calls `announce` once, when it is ready."""

    async def __call__(self, *, announce: Announce, stop: asyncio.Event) -> None: ...


def run_service(name: str, module: str) -> int:
    """Runs a service of the topology until SIGTERM or SIGINT. Returns the exit status.

    :param module: whose ``wire`` builds it.
    """

    async def serve_declared(*, announce: Announce, stop: asyncio.Event) -> None:
        topology = load_topology()
        declared = topology.service(name)
        process = read_settings(ProcessSettings)
        configure_logging(
            service=declared.workload,
            version=process.version,
            instance=process.instance,
            level=process.log_level,
            file=process.log_file,
        )
        set_skew(process.clock_skew_seconds)
        wire = importlib.import_module(module).wire
        await serve(name, wire, topology=topology, process=process, announce=announce, stop=stop)

    return run_process(name, serve_declared)


def run_process(name: str, serve: Serve) -> int:
    """Serves until SIGTERM or SIGINT. Returns the exit status."""
    # The event loop shares the interpreter with the store's threads: at Python's 5 ms a busy loop
    # makes each hand-over wait that long.
    sys.setswitchinterval(0.001)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(serve))
    except ConfigurationError as error:
        print(f"{name}: {error}", file=sys.stderr, flush=True)
        return EXIT_CONFIGURATION
    except ShopError as error:  # what it needs at its start is away; whoever started it may retry
        print(f"{name}: {error.detail} ({error.__cause__})", file=sys.stderr, flush=True)
        return 1
    return 0


async def _run(serve: Serve) -> None:
    await serve(announce=_announce, stop=_stop_event())


def _stop_event() -> asyncio.Event:
    """Set by SIGTERM, by SIGINT, and by the end of the parent, which closes the pipe that only it
    holds open.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    descriptor = _inherited(PARENT_FD)
    if descriptor is not None:
        loop.add_reader(descriptor, _parent_is_gone(loop, descriptor, stop))
    return stop


def _parent_is_gone(
    loop: asyncio.AbstractEventLoop, descriptor: int, stop: asyncio.Event
) -> Callable[[], None]:
    def on_end() -> None:
        loop.remove_reader(descriptor)
        stop.set()

    return on_end


def _announce() -> None:
    descriptor = _inherited(READY_FD)
    if descriptor is not None:
        os.write(descriptor, b"ready")
        os.close(descriptor)


def _inherited(name: str) -> int | None:
    """A file descriptor that the parent has handed down, named by an environment variable."""
    value = os.environ.pop(name, None)
    return int(value) if value is not None else None
