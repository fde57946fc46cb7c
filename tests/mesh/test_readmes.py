"""Every README.md of a mesh's scenarios, and that of its first hour, does what it says: its
commands are run as they stand there, and print what people are told that they should see.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.harness.cluster import ROOT, run
from tests.harness.waiting import wait_until
from tests.mesh.conftest import chosen
from tests.mesh.meshed import SETTLE_SECONDS, Mesh
from tests.mesh.readme import Readme, disagreement, read, says_there_is_none

# What a scenario may change, and has to put back.
_MAY_CHANGE = re.compile(
    r".*\.(istio|linkerd|gateway\.networking\.k8s|argoproj)\.io"
    r"|networkpolicies\..*|services|deployments\..*"
)
_LOOK_SECONDS = 120.0


def folders(mesh: type[Mesh]) -> list[Path]:
    """Those with a README.md to run."""
    found = [path.parent for path in sorted(mesh.scenarios().rglob("README.md"))]
    return [folder for folder in found if not says_there_is_none(folder / "README.md")]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "folder" in metafunc.fixturenames:
        metafunc.parametrize(
            "folder",
            [
                pytest.param(
                    folder,
                    id=folder.name,
                    marks=[pytest.mark.argo_rollouts] if folder.name.startswith("19-") else [],
                )
                for folder in folders(chosen(metafunc.config))
            ],
        )


class SecondTerminal:
    """Where commands go on that forward a port: each once for all, and again when one has ended, as
    kubectl's do after a connection to a port at which nobody listens yet.
    """

    def __init__(self) -> None:
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def run(self, readme: Readme) -> None:
        """Sees to it that the ports of a README.md are open."""
        for command, port in readme.forwards:
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


@pytest.fixture(scope="module")
def second_terminal() -> Generator[SecondTerminal]:
    terminal = SecondTerminal()
    yield terminal
    terminal.close()


def test_the_first_hour(in_a_mesh: Mesh, second_terminal: SecondTerminal) -> None:
    """Where pods have proxies, and nothing of the base is there."""
    in_a_mesh.open()
    in_a_mesh.delete(in_a_mesh.base())
    try:
        follow(in_a_mesh, in_a_mesh.base().parent / "start", second_terminal)
    finally:
        in_a_mesh.apply(*in_a_mesh.entry)
        in_a_mesh.close()


def test_a_scenario(in_a_mesh: Mesh, folder: Path, second_terminal: SecondTerminal) -> None:
    assert in_a_mesh.scenarios() in folder.parents
    follow(in_a_mesh, folder, second_terminal)


def follow(mesh: Mesh, folder: Path, second_terminal: SecondTerminal) -> None:
    """Does what the README.md in a folder says, from top to bottom."""
    readme = read(folder / "README.md")
    before = _configuration(mesh)
    for commands in readme.prepare:
        _must_run(commands)
    try:
        for change, look, sees in readme.rounds:
            _must_run(change)
            print(f"$ {change.strip()}")
            _sees(look, sees, lambda: second_terminal.run(readme))
    finally:
        _must_run(readme.take_back)
    assert _configuration(mesh) == before, "it is taken back"


def _sees(look: str, sees: Sequence[str], prepare: Callable[[], None]) -> None:
    """Looks until it is what people should see: proxies take a moment to know of a change."""
    seen = ""

    def agrees() -> bool:
        nonlocal seen
        prepare()
        printed = _printed(look)
        seen = f"{printed}\n{disagreement(sees, printed)}"
        return not disagreement(sees, printed)

    try:
        wait_until(agrees, "it is what people should see", SETTLE_SECONDS)
    finally:
        print(seen)


def _must_run(commands: str) -> None:
    run("bash", "-euo", "pipefail", "-c", commands)


def _printed(commands: str) -> str:
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


@cache
def _kinds() -> str:
    """Those of which a scenario may change an object."""
    names = run("kubectl", "api-resources", "--namespaced", "--verbs=list,delete", "-o", "name")
    return ",".join(name for name in names.split() if _MAY_CHANGE.fullmatch(name))


def _configuration(mesh: Mesh) -> Mapping[str, Any]:
    """All that a scenario may have changed, and how many pods each workload is to have."""
    there = json.loads(run("kubectl", "get", _kinds(), "-A", "-o", "json"))["items"]
    namespaces = {mesh.namespace.name, mesh.release.stripe.name, mesh.way_in.namespace}
    return {
        "/".join((each["metadata"]["namespace"], each["kind"], each["metadata"]["name"])): (
            each["metadata"].get("labels", {}),
            each["spec"]["replicas"] if each["kind"] == "Deployment" else each.get("spec"),
        )
        for each in there
        if each["metadata"]["namespace"] in namespaces
    }


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
