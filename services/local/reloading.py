"""One service that starts again whenever its code changes, for development in a container."""

from __future__ import annotations

from pathlib import Path

from watchfiles import PythonFilter, run_process

from services.local.child import run_service

_SERVICES = Path(__file__).resolve().parent.parent
# What every service is made of, beside its own folder.
_SHARED = ("common", "pb", "local", "topology.yaml")
_DATA = (".yaml", ".html", ".css", ".js", ".svg")


def code_of(service: str) -> tuple[Path, ...]:
    """The folders and files that a service is made of."""
    return tuple(_SERVICES / part for part in (service, *_SHARED))


def run_reloading(service: str) -> None:
    """Runs a service until SIGTERM or SIGINT, and starts it again when its code has changed.

    One that ends by itself, because of a mistake in its code say, waits for the next change.
    """
    run_process(
        *code_of(service),
        target=run_service,
        args=(service,),
        watch_filter=PythonFilter(extra_extensions=_DATA),
    )
