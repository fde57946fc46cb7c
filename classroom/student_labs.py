"""Checks, solves and resets students' labs, with the teacher's rights."""

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
from labs.report import CONFIG_MAP, Report, report_of
from labs.runner import Runner


@dataclass(frozen=True, slots=True)
class StudentLabs:
    """The labs of a class's students. The runner does what the student's own would do."""

    cluster: Cluster
    say: Callable[[str], None]

    async def reset(self, student: Student, address: str) -> None:
        """Restores a student's base, from any state.

        :param address: the gateway's: ``192.0.2.7:443``.
        :raises LabError: the base cannot be restored, or the student's report cannot be read.
        """
        report = await self.report(student) or Report()
        with self._runner(student, report, address) as runner:
            await runner.reset(student.mesh, _attempt(student, report, address))

    async def solve(self, student: Student, address: str) -> None:
        """Solves the lab that a student has under way; says so if there is none.

        :param address: the gateway's: ``192.0.2.7:443``.
        :raises LabError: it cannot be solved, or the student's report cannot be read.
        """
        report = await self._under_way(student)
        if report is not None:
            with self._runner(student, report, address) as runner:
                await runner.solve(None)

    async def check(self, student: Student, address: str) -> None:
        """Says what the check finds in the lab that a student has under way, or that there is none.

        :param address: the gateway's: ``192.0.2.7:443``.
        :raises LabError: the check stops, or the student's report cannot be read.
        """
        report = await self._under_way(student)
        if report is not None:
            with self._runner(student, report, address) as runner:
                await runner.check(None)

    async def _under_way(self, student: Student) -> Report | None:
        """Returns the report of a lab in the cluster; says so if none is under way."""
        report = await self.report(student)
        if report is None or not report.lab:
            self.say(f"{student.name} has no lab under way.")
            return None
        if report.place == "local":
            self.say(f"{student.name}: lab {report.lab} is on their own machine.")
            return None
        return report

    async def report(self, student: Student) -> Report | None:
        """Returns the last report of a student's runner; None before the first.

        :raises LabError: the ConfigMap, which students may write, holds no report.
        """
        get = ("get", "configmap", CONFIG_MAP, "--ignore-not-found", "-o", "json")
        said = await self.cluster.kubectl(student.name, *get)
        if not said.strip():
            return None
        try:
            return report_of(json.loads(said))
        except ValueError as error:
            raise LabError(
                f"The report of {student.name} cannot be read; it is written again after "
                f"kubectl -n {student.name} delete configmap {CONFIG_MAP}"
            ) from error

    @contextmanager
    def _runner(self, student: Student, report: Report, address: str) -> Generator[Runner]:
        """A runner in the state that a student's report describes."""
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
    """Returns the attempt that a student's report describes."""
    return Attempt.model_validate(
        {
            "lab": report.lab,
            "place": report.place or student.mesh,
            "started_ms": report.started_ms,
            "mesh_options": student.membership(address).options,
            "gateway_address": address,
            "is_in_class": True,
            "seed": report.seed,
            "hints": report.hints,
            "checks": report.checks,
            "was_solved": report.was_solved,
        }
    )
