"""Keeps secrets out of what the system tells of a process.

What a process is started with can be read in /proc/PID/environ as long as it lives, whatever it
does to its environment, and a fork's says the same as its parent's. What a process sets itself is
not told there.
"""

from __future__ import annotations

import json
import os
import sys

from services.local.plan import SECRETS

_SECRETS_FD = "MESHMART_SECRETS_FD"


def hide_secrets() -> None:
    """Makes sure that this process, and so each of its forks, was started without the secrets.

    Where it was started with some, it starts itself anew and hands them over in memory.
    """
    if sys.platform != "linux":
        return  # there is no such file, and no fork
    descriptor = os.environ.pop(_SECRETS_FD, None)
    if descriptor is not None:
        with open(int(descriptor), "rb") as handed_over:  # noqa: PTH123  no path
            os.environ.update(json.load(handed_over))
        return
    secrets = {name: os.environ.pop(name) for name in SECRETS if name in os.environ}
    if not secrets:
        return
    memory = os.memfd_create("secrets", 0)
    os.write(memory, json.dumps(secrets).encode())
    os.lseek(memory, 0, os.SEEK_SET)
    environment = {**os.environ, _SECRETS_FD: str(memory)}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606  ourselves
