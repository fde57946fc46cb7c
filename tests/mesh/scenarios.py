"""What a scenario's test declares: which scenario it shows, and on which mesh there is none."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.mesh.meshed import Mesh

Test = Callable[..., Awaitable[None]]


def shows(*, no_equivalent_on: Sequence[str] = ()) -> Callable[[Test], Test]:
    """For a test that takes `mesh` and `scenario`, a scenario's name. On a mesh that has no
    equivalent it shows instead that the scenario's folder says so, and pretends nothing.
    """

    def decorate(test: Test) -> Test:
        @functools.wraps(test)
        async def shown(*, mesh: Mesh, scenario: str, **fixtures: Any) -> None:
            if mesh.name == "none":
                pytest.skip("a scenario changes a mesh, and here is none")
            if mesh.name in no_equivalent_on:
                says_what_to_do_instead(mesh.scenarios() / scenario)
            else:
                await test(mesh=mesh, scenario=scenario, **fixtures)

        return shown

    return decorate


def says_what_to_do_instead(folder: Path) -> None:
    """There is no manifest in a scenario's folder, but a text."""
    (text,) = (path for path in folder.rglob("*") if path.is_file())
    assert text.name == "README.md"
    said = text.read_text(encoding="utf-8")
    assert said.startswith("# No equivalent in ")
    assert "\nWhat to do instead: " in said
