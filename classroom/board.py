"""The teacher's board: each student's lab, and what their last check said.

What it shows of a lab is the report of the student's runner: text that students may write
themselves. It is shown, and never executed: neither as HTML nor as a terminal's control characters.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from classroom.cluster import Cluster
from classroom.students import Student
from labs.errors import LabError
from labs.lab import Lab, lab_named
from labs.membership import CLASS_LABEL
from labs.meshed import is_ready
from labs.report import CONFIG_MAP, Report, report_of
from tools.mesh.render import Object

_HEADINGS = ("student", "shop", "lab", "minutes", "checks", "hints", "last check", "passed")
_COLUMN_CHARACTERS = 60
_NAME_LABEL = "app.kubernetes.io/part-of"


@dataclass(frozen=True, slots=True)
class Row:
    """One student.

    :ivar ready: how many of the shop's pods are ready, and how many there are.
    :ivar report: None before the first lab.
    :ivar is_unreadable: the report's ConfigMap holds no report.
    :ivar title: the lab's number and title; empty for a lab of another release.
    :ivar now_ms: when the board was made, in Unix milliseconds.
    """

    student: Student
    ready: tuple[int, int]
    report: Report | None = None
    is_unreadable: bool = False
    title: str = ""
    now_ms: int = 0

    @property
    def is_open(self) -> bool:
        """Whether the shop has pods, and all of them are ready."""
        ready, wanted = self.ready
        return 0 < wanted == ready

    @property
    def lab(self) -> str:
        """The lab under way; empty when there is none."""
        if self.is_unreadable:
            return "its report cannot be read"
        if self.report is None or not self.report.lab:
            return ""
        return self.title or self.report.lab

    @property
    def minutes(self) -> int | None:
        """How many minutes ago the lab was started; None when there is none."""
        if self.report is None or not self.report.lab:
            return None
        return _minutes(self.now_ms - self.report.started_ms)

    @property
    def verdict(self) -> str:
        """What the last check found, in a few words; empty before the first."""
        if self.report is None or self.report.checked_ms is None:
            return "solved for them" if self.report and self.report.was_solved else ""
        said = f"{len(self.wrong)} wrong" if self.wrong else "all right"
        return f"{said}, {_minutes(self.now_ms - self.report.checked_ms)} min ago"

    @property
    def wrong(self) -> Sequence[str]:
        """The wrong lines of the last check."""
        return [each.what for each in self.report.lines if not each.is_right] if self.report else []

    @property
    def is_right(self) -> bool:
        """Whether the last check found everything right."""
        return self.report is not None and bool(self.report.lines) and not self.wrong

    @property
    def passed(self) -> Sequence[str]:
        """The numbers of the passed labs, in order."""
        names = self.report.passed if self.report else ()
        return sorted({name.partition("-")[0][:20] for name in names})


def _minutes(milliseconds: int) -> int:
    return max(0, milliseconds // 60_000)


async def rows(cluster: Cluster, labs: Sequence[Lab], now_ms: int) -> list[Row]:
    """Returns the students of the class, by name.

    :raises LabError: there is no class, or the cluster does not answer.
    """
    students = await cluster.students()
    selector = ("--all-namespaces", "--selector")
    reports = {
        each["metadata"]["namespace"]: each
        for each in await cluster.items("get", "configmaps", *selector, CLASS_LABEL)
        if each["metadata"]["name"] == CONFIG_MAP
    }
    pods = await cluster.items("get", "pods", *selector, f"{_NAME_LABEL}=meshmart")
    ready = _ready(pods)
    return [
        _row(each, ready.get(each.name, (0, 0)), reports.get(each.name), labs, now_ms)
        for each in students
    ]


def _row(
    student: Student,
    ready: tuple[int, int],
    config_map: Object | None,
    labs: Sequence[Lab],
    now_ms: int,
) -> Row:
    if config_map is None:
        return Row(student, ready, now_ms=now_ms)
    try:
        report = report_of(config_map)
    except ValueError:
        return Row(student, ready, is_unreadable=True, now_ms=now_ms)
    return Row(student, ready, report, title=_title(report.lab, labs), now_ms=now_ms)


def _title(name: str, labs: Sequence[Lab]) -> str:
    try:
        lab = lab_named(labs, name)
    except LabError:  # of another release than the teacher's, or made up
        return ""
    return f"{lab.number} {lab.readme.title}"


def _ready(pods: Sequence[Object]) -> Mapping[str, tuple[int, int]]:
    """Returns by namespace how many pods are ready, of how many that do not end."""
    found: defaultdict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for pod in pods:
        metadata = pod["metadata"]
        if pod["status"].get("phase") == "Succeeded" or "deletionTimestamp" in metadata:
            continue
        ready, wanted = found[metadata["namespace"]]
        found[metadata["namespace"]] = (ready + is_ready(pod), wanted + 1)
    return found


def table(board: Sequence[Row]) -> str:
    """Returns the board as a table for a terminal, without a line end."""
    lines = [_HEADINGS, *(tuple(_cells(row)) for row in board)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADINGS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _cells(row: Row) -> Iterator[str]:
    report = row.report or Report()
    yield row.student.name
    yield f"{row.ready[0]}/{row.ready[1]}"
    yield _plain(row.lab)
    yield "" if row.minutes is None else str(row.minutes)
    yield str(report.checks)
    yield str(report.hints)
    first = f": {row.wrong[0]}" if row.wrong else ""
    yield _plain(f"{row.verdict}{first}")
    yield _plain(" ".join(row.passed))


def _plain(text: str) -> str:
    """Returns text of a student without control characters, and not too long."""
    shown = "".join(each if each.isprintable() else "·" for each in text)
    is_long = len(shown) > _COLUMN_CHARACTERS
    return f"{shown[: _COLUMN_CHARACTERS - 1]}…" if is_long else shown
