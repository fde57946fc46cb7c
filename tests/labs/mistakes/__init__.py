"""What students try that is wrong, for each lab and mesh, and what the check must say of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field


class _Told(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Mistake(_Told):
    """Commands, typed in the lab's first state.

    :ivar told: a regular expression that one of the wrong lines fits.
    """

    commands: str
    told: str


class Case(_Told):
    """What a lab's check must tell: of the first state, and of mistakes."""

    first: str
    mistakes: Sequence[Mistake] = Field(min_length=2)


def case_of(lab: str, mesh: str) -> Case:
    """What the check of a lab must tell in a mesh: see LAB.yaml in this folder."""
    file = Path(__file__).parent / f"{lab}.yaml"
    return Case.model_validate(yaml.safe_load(file.read_text(encoding="utf-8"))[mesh])
