"""Every README.md of a mesh's scenarios, and that of its first hour, does what it says: its
commands are run as they stand there, and print what people are told that they should see.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.mesh.configuration import configuration
from tests.mesh.meshed import Mesh
from tests.mesh.readme import read, says_there_is_none
from tests.mesh.shops import chosen
from tests.mesh.terminal import SecondTerminal, must_run, must_see


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
    before = configuration(mesh)
    for commands in readme.prepare:
        must_run(commands)
    try:
        for change, look, sees in readme.rounds:
            must_run(change)
            print(f"$ {change.strip()}")
            must_see(look, sees, lambda: second_terminal.run(readme.forwards))
    finally:
        must_run(readme.take_back)
    assert configuration(mesh) == before, "it is taken back"
