"""Wrong solutions that students try, for each lab and mesh, and what the check finds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Mistake(_Strict):
    """A wrong solution.

    :ivar commands: of a shell, run in the lab's first state.
    :ivar finding: a regular expression that matches one of the check's wrong lines.
    """

    commands: str
    finding: str


class Case(_Strict):
    """What a lab's check finds.

    :ivar first: a regular expression that matches a wrong line in the first state.
    """

    first: str
    mistakes: Sequence[Mistake] = Field(min_length=2)


def case_of(lab: str, mesh: str) -> Case:
    """Returns the case of a lab in a mesh, from this folder's file LAB.yaml."""
    file = Path(__file__).parent / f"{lab}.yaml"
    return Case.model_validate(yaml.safe_load(file.read_text(encoding="utf-8"))[mesh])
