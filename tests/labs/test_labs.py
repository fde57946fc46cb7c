"""Each lab in a mesh, from its start to its reset, with the mistakes that students make."""

from __future__ import annotations

import re
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from labs.__main__ import described_shop
from labs.commands import Programs
from labs.lab import Lab, Place, all_labs
from labs.progress import Attempt
from labs.runner import NOT_PASSED, Runner
from tests.labs.mistakes import case_of
from tests.mesh.configuration import configuration
from tests.mesh.meshed import Mesh
from tests.mesh.readme import forwarded_by
from tests.mesh.shops import chosen
from tests.mesh.terminal import SecondTerminal, must_run, must_see

_RESET_SECONDS = 60.0
_CHANGE_SECONDS = 6.0


@dataclass(frozen=True, slots=True)
class Student:
    """A student with a shop in the mesh, and administrator's rights.

    :ivar said: what the runner has said, by line.
    :ivar base: all that a lab may change, as it is in the base.
    """

    mesh: Mesh
    runner: Runner
    said: list[str]
    base: Mapping[str, Any]

    @property
    def place(self) -> Place:
        assert self.mesh.name != "none"
        return self.mesh.name

    async def start(self, lab: Lab) -> None:
        await self.runner.start(lab.number, self.place, self.options)

    async def check(self, settle_seconds: float | None = None) -> tuple[int, str]:
        """Checks the lab. Returns the exit status, and all that the check says.

        :param settle_seconds: for how long a check that finds something wrong repeats; None for the
            lab's own time.
        """
        self.said.clear()
        status = await replace(self.runner, settle_seconds=settle_seconds).check(None)
        text = "\n".join(self.said)
        print(text)
        return status, text

    async def check_what_is_wrong(self) -> tuple[int, str]:
        """The same for a state that stays wrong: repeats only for as long as a change usually takes
        to reach the proxies.
        """
        return await self.check(_CHANGE_SECONDS)

    async def reset(self) -> float:
        """Restores the base. Returns how many seconds that took."""
        began = time.monotonic()
        await self.runner.reset(None, self.options)
        return time.monotonic() - began

    @property
    def options(self) -> Attempt:
        options = ["--mesh", self.mesh.name]
        return Attempt(lab="", place=self.place, started_ms=0, mesh_options=options)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "lab" in metafunc.fixturenames:
        place = chosen(metafunc.config).name
        here = [lab for lab in all_labs() if place in lab.places]
        metafunc.parametrize("lab", here, ids=lambda lab: lab.name)


@pytest.fixture
async def student(mesh: Mesh, tmp_path: Path) -> Student:
    said: list[str] = []
    runner = Runner(all_labs(), tmp_path / "labs.json", Programs(), described_shop, said.append)
    student = Student(mesh, runner, said, {})
    # What the tests of the mesh have put beside the shop is no part of the base.
    await runner.reset(student.place, student.options)
    return Student(mesh, runner, said, configuration(mesh))


@pytest.fixture
def second_terminal() -> Generator[SecondTerminal]:
    terminal = SecondTerminal()
    yield terminal
    terminal.close()


@pytest.mark.in_turn
async def test_from_start_to_reset(
    lab: Lab, student: Student, second_terminal: SecondTerminal
) -> None:
    case = case_of(lab.name, student.place)
    await student.start(lab)
    status, said = await student.check_what_is_wrong()
    assert status == NOT_PASSED
    assert _is_wrong(case.first, said), said
    _follow(lab, student.place, second_terminal)

    await student.runner.solve(None)
    status, said = await student.check()
    assert status == 0, said

    seconds = await student.reset()
    assert configuration(student.mesh) == student.base
    print(f"{lab.name}: reset after {seconds:.0f} s")
    assert seconds <= _RESET_SECONDS


async def test_the_check_finds_mistakes(lab: Lab, student: Student) -> None:
    case = case_of(lab.name, student.place)
    for mistake in case.mistakes:
        await student.start(lab)
        must_run(mistake.commands)
        status, said = await student.check_what_is_wrong()
        assert status == NOT_PASSED, mistake.commands
        assert _is_wrong(mistake.finding, said), f"{mistake.commands}\n{said}"
    await student.reset()
    assert configuration(student.mesh) == student.base


def _is_wrong(finding: str, said: str) -> bool:
    """Returns whether a regular expression matches one of the wrong lines."""
    lines = [line for line in said.splitlines() if "WRONG" in line]
    return any(re.search(finding, line) for line in lines)


def _follow(lab: Lab, place: Place, terminal: SecondTerminal) -> None:
    """Runs the README.md's commands after the start, and compares what they print."""
    steps = [step for step in lab.readme.steps(place) if "labs start" not in step.commands]
    forwards = [found for step in steps if (found := forwarded_by(step.commands))]
    for commands, sees in steps:
        if forwarded_by(commands):
            continue
        if sees is None:
            must_run(commands)
        else:
            must_see(commands, sees, lambda: terminal.run(forwards))
