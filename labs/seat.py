"""A student of a class (classroom/): what their kubeconfig file says of their shop, and what the
teacher's board is told.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel

from labs.commands import Commands
from labs.finding import Finding

# What bears it is the teacher's, and is left alone. A namespace with it is a student's.
CLASS_LABEL = "meshmart/class"
# The ConfigMap in a student's namespace that the board reads, and its key.
REPORT = "meshmart-lab"
_REPORT_KEY = "report.json"
# The name of the extension of a kubeconfig's context.
EXTENSION = "meshmart"
_LINE_CHARACTERS = 300


class Seat(BaseModel):
    """Where a student's shop is.

    :ivar options: those of ``tools.mesh render`` that describe it.
    :ivar gateway_address: where students reach the gateway; empty where they forward a port.
    """

    mesh: Literal["istio", "linkerd"]
    options: Sequence[str]
    gateway_address: str = ""


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
    """What a student does, as their runner tells it.

    :ivar lab: the one under way; empty when there is none.
    :ivar checked_ms: when the last check ended, in Unix milliseconds; None before the first.
    :ivar passed: by the lab and the place.
    """

    lab: str = ""
    place: str = ""
    started_ms: int = 0
    checks: int = 0
    hints: int = 0
    was_solved: bool = False
    checked_ms: int | None = None
    lines: Sequence[CheckLine] = ()
    passed: Mapping[str, Passed] = {}

    def manifest(self) -> dict[str, Any]:
        """The ConfigMap that holds it."""
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": REPORT, "labels": {CLASS_LABEL: "report"}},
            "data": {_REPORT_KEY: self.model_dump_json()},
        }


def line_of(finding: Finding) -> CheckLine:
    """As much of a finding as a table can show."""
    what = finding.what
    is_long = len(what) > _LINE_CHARACTERS
    return CheckLine(
        is_right=finding.is_right, what=f"{what[:_LINE_CHARACTERS]} …" if is_long else what
    )


def report_of(config_map: Mapping[str, Any]) -> Report:
    """What a ConfigMap holds.

    :raises ValueError: it holds no report; students may write there.
    """
    data: Mapping[str, str] = config_map.get("data") or {}
    return Report.model_validate_json(data.get(_REPORT_KEY, ""))


async def tell(commands: Commands, namespace: str, report: Report) -> None:
    """Leaves a report where the board reads it.

    :raises CommandFailed: it cannot be written.
    """
    manifest = json.dumps(report.manifest())
    await commands.run("kubectl", "-n", namespace, "apply", "-f", "-", given=manifest)


async def seat_of(commands: Commands) -> Seat | None:
    """What the kubeconfig's current context says; None for everybody who is in no class.

    :raises CommandFailed: there is a kubeconfig, and it cannot be read.
    """
    if shutil.which("kubectl") is None:
        return None
    config = json.loads(await commands.run("kubectl", "config", "view", "-o", "json"))
    for each in config["contexts"] or ():
        if each["name"] == config["current-context"]:
            for extension in each["context"].get("extensions") or ():
                if extension["name"] == EXTENSION:
                    return Seat.model_validate(extension["extension"])
    return None
