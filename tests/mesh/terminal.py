"""Commands of a README.md, typed as they stand there."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence

from tests.mesh.meshed import SETTLE_SECONDS
from tests.mesh.readme import disagreement
from tests.testkit.cluster import ROOT, run
from tests.testkit.waiting import wait_until

_LOOK_SECONDS = 120.0


class SecondTerminal:
    """Where commands go on that forward a port: each once for all, and again when one has ended, as
    kubectl's do after a connection to a port at which nobody listens yet.
    """

    def __init__(self) -> None:
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def run(self, forwards: Iterable[tuple[str, int]]) -> None:
        """Sees to it that the ports are open that these commands forward."""
        for command, port in forwards:
            process = self._running.get(command)
            if process is None and _is_open(port):  # `make up` has opened it
                continue
            if process is None or process.poll() is not None:
                self._running[command] = _forwarding(command)

    def close(self) -> None:
        """Ends them all."""
        for process in self._running.values():
            process.terminate()
            process.wait()


def must_run(commands: str) -> None:
    run("bash", "-euo", "pipefail", "-c", commands)


def printed(commands: str) -> str:
    """What a terminal shows."""
    done = subprocess.run(
        ["bash", "-c", commands],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_LOOK_SECONDS,
        cwd=ROOT,
        check=False,
    )
    return done.stdout


def must_see(commands: str, sees: Sequence[str], prepare: Callable[[], None]) -> None:
    """Types commands until they print what people should see: proxies take a moment to know of a
    change. Prints what was seen last.

    :param prepare: what to do before each time.
    """
    seen = ""

    def agrees() -> bool:
        nonlocal seen
        prepare()
        said = printed(commands)
        found = disagreement(sees, said)
        seen = f"$ {commands}{said}\n{found}"
        return not found

    try:
        wait_until(agrees, f"it is what people should see after {commands}", SETTLE_SECONDS)
    finally:
        print(seen)


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _forwarding(command: str) -> subprocess.Popen[bytes]:
    """Starts a command that forwards a port, and waits until it says so."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command.split(), stdout=said, stderr=subprocess.STDOUT, cwd=ROOT)

        def is_ready() -> bool:
            text = os.pread(said.fileno(), 1000, 0)
            assert process.poll() is None, f"{command} has ended: {text!r}"
            return b"Forwarding from" in text

        wait_until(is_ready, f"{command} says that it does")
    return process
