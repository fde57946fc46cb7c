"""Which program each name on the command line stands for."""

from __future__ import annotations

import importlib

from services.common.serving.process import run_process, run_service

SANDBOX = "stripe_sandbox"

_MODULES = {
    SANDBOX: "stand_ins.stripe.__main__",
    "frontend": "services.local.gateway",  # is in front of it where the cluster has none
}


def module_of(name: str) -> str:
    """The module that a program begins with: mostly a service's ``main.py``."""
    return _MODULES.get(name, f"services.{name}.main")


def run_program(name: str) -> int:
    """Runs a service of the topology, or the Stripe sandbox, until SIGTERM or SIGINT. Returns the
    exit status.

    Nothing but its own module is loaded: in a service's process there is no stand-in.
    """
    if name == SANDBOX:
        return run_process(name, importlib.import_module(module_of(name)).serve)
    return run_service(name, module_of(name))
