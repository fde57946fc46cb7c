"""A lab: a folder ``NN-name`` with a README.md, and a lab.py whose LAB says what the runner does.

A place is where a lab is done: on this machine, or in a cluster with one of the meshes. What is
done there is an :class:`Exercise`; that of a cluster mostly needs nothing but a check, since its
start and its solution are manifests in the folders ``start/MESH`` and ``solution/MESH``.
"""

from __future__ import annotations

import importlib.util
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

from labs.errors import LabError
from labs.finding import Finding
from labs.local import LocalShop
from labs.meshed import MeshedShop
from labs.readme import Readme, read

LABS = Path(__file__).parent

Place = Literal["local", "istio", "linkerd"]
PLACES: Sequence[Place] = ("local", "istio", "linkerd")
# The same everywhere, or by place.
Words = str | Mapping[Place, str]

Shop = TypeVar("Shop")


class Exercise(ABC, Generic[Shop]):
    """What a lab does in one place. Any part may raise :class:`LabError`.

    :cvar settle_seconds: for how long a check that finds something wrong looks again, because a
        change takes a while to reach all processes.
    """

    settle_seconds: ClassVar[float] = 0.0

    @abstractmethod
    async def start(self, shop: Shop) -> None:
        """Brings the shop into the lab's first state, from any other."""

    @abstractmethod
    async def solve(self, shop: Shop) -> None:
        """Does what the lab asks for."""

    @abstractmethod
    def check(self, shop: Shop) -> AsyncIterator[Finding]:
        """Yields what is right and what is wrong. In the lab's first state something is wrong."""


class LocalExercise(Exercise[LocalShop]):
    """A lab with a shop on this machine.

    :cvar arguments: those of ``python -m services`` that the lab starts the shop with; without any,
        a shop that runs already will do.
    """

    arguments: ClassVar[Sequence[str]] = ()

    async def start(self, shop: LocalShop) -> None:
        await shop.start(*self.arguments)


class MeshedExercise(Exercise[MeshedShop]):
    """A lab with a shop in a mesh.

    :cvar values: of the chart, which the lab adds to those of the base.
    :param folder: the lab's own, with the manifests of start and solution.
    """

    # A control plane takes a moment to send a change, and a proxy to apply it.
    settle_seconds = 20.0
    values: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def start(self, shop: MeshedShop) -> None:
        await shop.restore(self.values)
        await shop.apply(self._folder / "start" / shop.mesh)

    async def solve(self, shop: MeshedShop) -> None:
        await shop.apply(self._folder / "solution" / shop.mesh)


class ChartExercise(MeshedExercise):
    """A lab whose first state is the base with other values of the chart, and nothing else."""

    async def start(self, shop: MeshedShop) -> None:
        await shop.restore(self.values)

    async def solve(self, shop: MeshedShop) -> None:
        await shop.restore()


@dataclass(frozen=True)
class Lab:
    """A lab. Its title and its minutes stand in its README.md.

    :ivar hints: from a nudge to nearly the solution.
    :ivar not_in: why it cannot be done in a place.
    :ivar changes_the_gateway: which the students of a class share, and may not change.
    """

    folder: Path
    hints: Sequence[Words]
    local: LocalExercise | None = None
    meshed: MeshedExercise | None = None
    not_in: Mapping[Place, str] = field(default_factory=dict[Place, str])
    changes_the_gateway: bool = False

    @property
    def number(self) -> str:
        """``06``."""
        return self.folder.name.partition("-")[0]

    @property
    def name(self) -> str:
        """``06-canary``."""
        return self.folder.name

    @cached_property
    def readme(self) -> Readme:
        """What its README.md says."""
        return read(self.folder / "README.md")

    @property
    def places(self) -> Sequence[Place]:
        """Where it can be done."""
        return [place for place in PLACES if place not in self.not_in and self._exercise(place)]

    def why_not(self, place: Place) -> str:
        """Returns why it cannot be done in a place."""
        return self.not_in.get(place, "it needs a mesh" if place == "local" else "it needs none")

    def hints_in(self, place: Place) -> Sequence[str]:
        """Returns its hints for a place."""
        return [words if isinstance(words, str) else words[place] for words in self.hints]

    def _exercise(self, place: Place) -> LocalExercise | MeshedExercise | None:
        return self.local if place == "local" else self.meshed


def all_labs(folder: Path = LABS) -> list[Lab]:
    """Returns all labs, ordered by number."""
    return [_loaded(path) for path in sorted(folder.glob("[0-9][0-9]-*/lab.py"))]


def lab_named(labs: Sequence[Lab], given: str) -> Lab:
    """Returns the lab that a user names: ``06``, ``6``, ``canary`` or ``06-canary``.

    :raises LabError: there is none, or more than one.
    """
    number = given.zfill(2) if given.isdecimal() else given
    found = [lab for lab in labs if number in {lab.number, lab.name, lab.name.partition("-")[2]}]
    if len(found) != 1:
        numbers = ", ".join(lab.number for lab in labs)
        raise LabError(
            f"There is no lab {given!r}; there are {numbers}: .venv/bin/python -m labs list"
        )
    return found[0]


def _loaded(path: Path) -> Lab:
    """The LAB of a lab.py: a folder whose name begins with a number is no package."""
    spec = importlib.util.spec_from_file_location(f"labs.lab_{path.parent.name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for their module there
    spec.loader.exec_module(module)
    lab = module.LAB
    if not isinstance(lab, Lab):
        raise TypeError(f"{path}: LAB is no Lab")
    return lab
