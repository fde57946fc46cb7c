"""Lab 17 with each of its faults: customers are lost, `solve` repairs it, and the score says so."""

from __future__ import annotations

import re
import sys

import pytest

from labs.lab import all_labs, lab_named
from labs.runner import NOT_PASSED
from tests.labs.test_labs import Student, student
from tests.mesh.configuration import configuration
from tests.mesh.shops import chosen

# pytest finds fixtures here by their names.
__all__ = ["student"]

LAB = lab_named(all_labs(), "17")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        faults = sys.modules[type(LAB.meshed).__module__].FAULTS
        metafunc.parametrize("seed", range(len(faults[chosen(metafunc.config).name])))


async def test_each_fault_is_noticed_and_solved(student: Student, seed: int) -> None:
    options = student.options.model_copy(update={"seed": seed})
    await student.runner.start(LAB.number, student.place, options)
    status, said = await student.check_what_is_wrong()
    assert status == NOT_PASSED
    going_on = r"the incident goes on, and the score is down to \d+ of 100: \d+ of \d+"
    assert re.search(going_on, said), said
    assert f"seed {seed}" not in said, "the check names the fault only after the repair"

    await student.runner.solve(None)
    status, said = await student.check()

    assert status == 0, said
    assert re.search(r"score \d+ of 100: [1-9]\d* of \d+ customers were lost", said), said
    assert f"(seed {seed})" in said
    await student.reset()
    assert configuration(student.mesh) == student.base
