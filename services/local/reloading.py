"""One service that starts again whenever its code changes, for development in a container.

A program of its own, ``python -m services.local.reloading SERVICE``, which imports nothing of the
services: what watches is to take next to no memory beside what is watched.

With ``DEBUG_PORT`` the service runs under debugpy, to which an editor attaches at that port of the
container. It does not wait for one.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from watchfiles import PythonFilter, run_process

_SERVICES = Path(__file__).resolve().parent.parent
# What every service is made of, beside its own folder.
_SHARED = ("common", "pb", "local", "topology.yaml")
_DATA = (".yaml", ".html", ".css", ".js", ".json", ".svg")
# `skaffold dev` copies files of these kinds.
WATCHED = (".py", *_DATA)
# More than a service needs to finish what it is doing.
_STOP_SECONDS = 20


def code_of(service: str) -> tuple[Path, ...]:
    """The folders and files that a service is made of."""
    return tuple(_SERVICES / part for part in (service, *_SHARED))


def command_of(service: str) -> tuple[str, ...]:
    """How a service is started: by itself, or under the debugger."""
    port = os.environ.get("DEBUG_PORT")
    if not port:
        return (sys.executable, "-m", "services", service)
    # Only a forwarded port leads to the loopback. Frozen modules would hide frames from it.
    debugger = ("-Xfrozen_modules=off", "-m", "debugpy", "--listen", f"127.0.0.1:{port}")
    return (sys.executable, *debugger, "-m", "services", service)


def run_reloading(service: str) -> None:
    """Runs a service until SIGTERM or SIGINT, and starts it again when its code has changed.

    One that ends by itself, because of a mistake in its code say, waits for the next change.
    """
    run_process(
        *code_of(service),
        target=shlex.join(command_of(service)),
        target_type="command",
        sigint_timeout=_STOP_SECONDS,
        watch_filter=PythonFilter(extra_extensions=_DATA),
    )


if __name__ == "__main__":
    run_reloading(sys.argv[1])
