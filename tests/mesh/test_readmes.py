"""Every README.md of a mesh's scenarios, and that of its first hour, does what it says: its
commands are run as they stand there, and print what people are told that they should see.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
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


@pytest.fixture(scope="module")
def second_terminal() -> Generator[Callable[[Readme], None]]:
    """Runs what goes on in a second terminal, each once for all."""
    with ExitStack() as open_ports:

        def forward(readme: Readme) -> None:
            for command, port in readme.forwards:
                if not _is_open(port):
                    open_ports.enter_context(_going_on(command, port))

        yield forward


def test_the_first_hour(in_a_mesh: Mesh, second_terminal: Callable[[Readme], None]) -> None:
    """Before the base is there; the way in and the proxies are."""
    in_a_mesh.open()
    in_a_mesh.delete(in_a_mesh.base() / "calls.yaml")
    try:
        follow(in_a_mesh, in_a_mesh.base().parent / "start", second_terminal)
    finally:
        in_a_mesh.close()


def test_a_scenario(
    in_a_mesh: Mesh, folder: Path, second_terminal: Callable[[Readme], None]
) -> None:
    assert in_a_mesh.scenarios() in folder.parents
    follow(in_a_mesh, folder, second_terminal)


def follow(mesh: Mesh, folder: Path, second_terminal: Callable[[Readme], None]) -> None:
    """Does what the README.md in a folder says, from top to bottom."""
    readme = read(folder / "README.md")
    second_terminal(readme)
    before = _configuration(mesh)
    for commands in readme.prepare:
        _must_run(commands)
    try:
        for change, look, sees in readme.rounds:
            _must_run(change)
            print(f"$ {change.strip()}")
            _sees(look, sees)
    finally:
        _must_run(readme.take_back)
    assert _configuration(mesh) == before, "it is taken back"


def _sees(look: str, sees: Sequence[str]) -> None:
    """Looks until it is what people should see: proxies take a moment to know of a change."""
    seen = ""

    def agrees() -> bool:
        nonlocal seen
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


@contextmanager
def _going_on(command: str, port: int) -> Generator[None]:
    """A command that forwards a port until it is ended."""
    process = subprocess.Popen(command.split(), stdout=subprocess.DEVNULL, cwd=ROOT)
    try:
        wait_until(lambda: _is_open(port), f"port {port} of this machine is open")
        yield
    finally:
        process.terminate()
        process.wait()
