"""What a student's runner reports to the teacher's board, in a ConfigMap of their namespace."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from labs.commands import Commands
from labs.finding import Finding
from labs.membership import CLASS_LABEL

# The ConfigMap's name, and its key.
CONFIG_MAP = "meshmart-lab"
_KEY = "report.json"
_LINE_CHARACTERS = 300


class CheckLine(BaseModel):
    """One line of a check."""

    is_right: bool
    what: str


class Passed(BaseModel):
    """A lab that a check has found right.

    :ivar was_solved: by the runner.
    """

    minutes: float
    checks: int
    hints: int
    was_solved: bool


class Report(BaseModel):
    """What a student is doing, and has passed.

    :ivar lab: the one under way; empty when there is none.
    :ivar started_ms: when it was started, in Unix milliseconds.
    :ivar seed: what a lab that draws by lot has begun with.
    :ivar checked_ms: when the last check ended, in Unix milliseconds; None before the first.
    :ivar passed: by the lab and the place.
    """

    lab: str = ""
    place: str = ""
    started_ms: int = 0
    seed: int = 0
    checks: int = 0
    hints: int = 0
    was_solved: bool = False
    checked_ms: int | None = None
    lines: Sequence[CheckLine] = ()
    passed: Mapping[str, Passed] = {}

    def manifest(self) -> dict[str, Any]:
        """Returns the ConfigMap that holds it, without a namespace."""
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": CONFIG_MAP, "labels": {CLASS_LABEL: "report"}},
            "data": {_KEY: self.model_dump_json()},
        }


def line_of(finding: Finding) -> CheckLine:
    """Returns as much of a finding as a table can show."""
    what = finding.what
    is_long = len(what) > _LINE_CHARACTERS
    return CheckLine(
        is_right=finding.is_right, what=f"{what[:_LINE_CHARACTERS]} …" if is_long else what
    )


def report_of(config_map: Mapping[str, Any]) -> Report:
    """Returns the report that a ConfigMap holds.

    :raises ValueError: it holds no report; students may write there.
    """
    data: Mapping[str, str] = config_map.get("data") or {}
    return Report.model_validate_json(data.get(_KEY, ""))


async def publish(commands: Commands, namespace: str, report: Report) -> None:
    """Writes a report where the board reads it.

    :raises CommandFailed: it cannot be written.
    """
    manifest = json.dumps(report.manifest())
    await commands.run("kubectl", "-n", namespace, "apply", "-f", "-", given=manifest)
