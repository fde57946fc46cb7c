"""``python -m stand_ins.stripe``: runs the sandbox until SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable

from services.common.errors import ConfigurationError
from stand_ins.stripe.server import running
from stand_ins.stripe.settings import read_settings


async def serve(*, announce: Callable[[], None], stop: asyncio.Event) -> None:
    """Runs the sandbox for a parent that handles signals itself.

    :param announce: called once, when requests are answered.
    :param stop: set by whoever wants the sandbox to end.
    :raises ConfigurationError: the sandbox cannot start as configured.
    """
    async with running(read_settings()):
        announce()
        await stop.wait()


async def _run() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running(read_settings()) as url:
        sys.stdout.write(f"Stripe sandbox on {url}\n")
        sys.stdout.flush()
        await stop.wait()


def main() -> None:
    """Exits with 1 and one sentence when the sandbox cannot start."""
    try:
        asyncio.run(_run())
    except ConfigurationError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
