"""One service as a process: what a container runs, and what each child of the local runner runs."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import sys
from collections.abc import Callable

import uvloop

from services.common.clock import set_skew
from services.common.errors import ConfigurationError, ShopError
from services.common.observing.logs import configure_logging
from services.common.serving.host import serve
from services.common.settings import ProcessSettings, read_settings
from services.common.topology import load_topology
from services.stripe_sandbox.__main__ import serve as serve_sandbox

# sysexits.h: EX_CONFIG. A supervisor need not start such a process again.
EXIT_CONFIGURATION = 78

READY_FD = "MESHMART_READY_FD"
PARENT_FD = "MESHMART_PARENT_FD"
SANDBOX = "stripe_sandbox"


def run_service(name: str) -> int:
    """Runs a service of the topology, or the Stripe sandbox, until SIGTERM or SIGINT. Gives the
    exit status.
    """
    # The event loop shares the interpreter with the store's threads: at Python's 5 ms a busy loop
    # makes each hand-over wait that long.
    sys.setswitchinterval(0.001)
    run = _run_sandbox if name == SANDBOX else _run_declared
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(name))
    except ConfigurationError as error:
        print(f"{name}: {error}", file=sys.stderr, flush=True)
        return EXIT_CONFIGURATION
    except ShopError as error:  # what it needs at its start is away; whoever started it may retry
        print(f"{name}: {error.detail} ({error.__cause__})", file=sys.stderr, flush=True)
        return 1
    return 0


async def _run_declared(name: str) -> None:
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
    main = importlib.import_module(f"services.{name}.main")
    await serve(
        name, main.wire, topology=topology, process=process, announce=_announce, stop=_stop_event()
    )


async def _run_sandbox(_: str) -> None:
    await serve_sandbox(announce=_announce, stop=_stop_event())


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
