"""Brings students back to the base, or does a lab for them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from classroom.cluster import Cluster
from classroom.students import Student
from labs.__main__ import described_shop
from labs.errors import LabError
from labs.lab import all_labs
from labs.progress import Attempt, Progress, write_progress
from labs.runner import Runner
from labs.seat import REPORT, Report, report_of


@dataclass(frozen=True, slots=True)
class Helping:
    """Does as a student's runner would, with the teacher's rights."""

    cluster: Cluster
    say: Callable[[str], None]

    async def reset(self, student: Student, address: str) -> None:
        """Brings a student's base back, whatever is there."""
        report = await self.report(student) or Report()
        with self._runner(student, report, address) as runner:
            await runner.reset(student.mesh, _attempt(student, report, address))

    async def solve(self, student: Student, address: str) -> None:
        """Does what the lab asks for that a student has under way."""
        report = await self.report(student)
        if report is None or not report.lab:
            self.say(f"{student.name} has no lab under way.")
            return
        if report.place == "local":
            self.say(f"{student.name}: lab {report.lab} is on their own machine.")
            return
        with self._runner(student, report, address) as runner:
            await runner.solve(None)

    async def report(self, student: Student) -> Report | None:
        """What a student's runner has told last; None before it has told anything.

        :raises LabError: somebody has written something else there.
        """
        get = ("get", "configmap", REPORT, "--ignore-not-found", "-o", "json")
        said = await self.cluster.kubectl(student.name, *get)
        if not said.strip():
            return None
        try:
            return report_of(json.loads(said))
        except ValueError as error:
            raise LabError(
                f"The report of {student.name} cannot be read; it is written again after "
                f"kubectl -n {student.name} delete configmap {REPORT}"
            ) from error

    @contextmanager
    def _runner(self, student: Student, report: Report, address: str) -> Generator[Runner]:
        """The labs as a student has them, by what their runner has told."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "labs.json"
            attempt = _attempt(student, report, address) if report.lab else None
            write_progress(file, Progress(under_way=attempt, passed={**report.passed}))
            yield Runner(
                all_labs(),
                file,
                self.cluster.commands,
                described_shop,
                lambda line: self.say(f"{student.name}: {line}"),
            )


def _attempt(student: Student, report: Report, address: str) -> Attempt:
    """What a student has under way."""
    return Attempt.model_validate(
        {
            "lab": report.lab,
            "place": report.place or student.mesh,
            "started_ms": report.started_ms,
            "mesh_options": student.seat(address).options,
            "gateway_address": address,
            "is_in_class": True,
            "hints": report.hints,
            "checks": report.checks,
            "was_solved": report.was_solved,
        }
    )
