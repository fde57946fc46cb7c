"""Runs a service within the test's own process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from services.common.serving.host import Wire, serve
from services.common.settings import ProcessSettings
from services.common.topology import Topology


@asynccontextmanager
async def running_service(
    name: str, wire: Wire, topology: Topology, process: ProcessSettings
) -> AsyncGenerator[asyncio.Event]:
    """Runs a service as its process would, and yields what stops it; raises what its start
    raises.
    """
    ready, stop = asyncio.Event(), asyncio.Event()
    service = asyncio.create_task(
        serve(name, wire, topology=topology, process=process, announce=ready.set, stop=stop)
    )
    service.add_done_callback(lambda _: ready.set())
    await ready.wait()
    try:
        if not service.done():
            yield stop
    finally:
        stop.set()
        await service
