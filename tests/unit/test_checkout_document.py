"""The documents say of the checkout what its list declares, and name only tests that there are."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from unittest.mock import AsyncMock

import pytest

from services.order import checkout
from services.order.checkout import BACKWARD, CHECKOUT, FORWARD, Callees
from services.order.model import Step
from tests.unit.order.examples import an_order

_ROOT = Path(__file__).parents[2]
_TEXT = (_ROOT / "docs" / "checkout.md").read_text(encoding="utf-8")
_ARCHITECTURE = (_ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

UNDO = {each.step: each.undo for each in CHECKOUT}


def rows(text: str, header: str) -> list[list[str]]:
    """The cells of the table with that header, row by row."""
    _, table = text.split(header, 1)
    lines = itertools.takewhile(lambda line: line.startswith("|"), table.splitlines()[2:])
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


STEPS = {
    step.strip("`"): [effect, undo]
    for step, effect, undo, *_ in rows(_TEXT, "| step | effect, and why it is safe")
    if step.startswith("`")
}


def test_the_steps_stand_in_the_table_in_their_order() -> None:
    assert [*STEPS] == [*FORWARD, *BACKWARD] == [*map(str, STEPS)]
    assert set(STEPS) == set(Step)


@pytest.mark.parametrize("step", Step)
async def test_a_row_names_the_callee_and_the_undo(step: Step) -> None:
    callees = {"inventory": AsyncMock(), "payment": AsyncMock(), "shipping": AsyncMock()}
    await checkout.do(step, Callees(*callees.values()), an_order())
    (asked,) = (name for name, callee in callees.items() if callee.mock_calls)
    effect, undo = STEPS[step]
    assert f"`{asked}`" in effect
    assert undo.startswith(f"`{UNDO[step]}`") if step in UNDO else undo == ""


def test_the_diagram_shows_where_each_step_leads() -> None:
    edges = {
        *(f"{one} --> {other}" for one, other in itertools.pairwise(FORWARD)),
        *(f"{one} --> {other}" for one, other in itertools.pairwise(BACKWARD)),
        f"{FORWARD[-1]} --> confirmed",
        f"{BACKWARD[-1]} --> cancelled",
        f"{Step.RECALL} --> confirmed: on its way already",
    }
    for each in CHECKOUT:
        back = checkout.way_back_from(each.step)
        if each.begins_again_at is None:
            edges.add(f"{each.step} --> {back}: refused")
        else:
            edges.add(f"{each.step} --> {each.begins_again_at}: refused the first time")
            edges.add(f"{each.step} --> {back}: refused again")
    shown = re.findall(rf"^ +((?:{'|'.join(Step)}) --> .*)$", _TEXT, re.MULTILINE)
    assert sorted(shown) == sorted(edges)


def test_the_overview_has_the_same_steps_and_undos() -> None:
    found = [(step, undo.split(" ")[0]) for step, _, undo in rows(_ARCHITECTURE, "| step | does |")]
    assert found == [("price", ""), *UNDO.items(), ("confirm", "")]


def test_every_test_that_it_names_exists() -> None:
    tests = "\n".join(path.read_text(encoding="utf-8") for path in _ROOT.glob("tests/**/test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", _TEXT))
    assert {name for name in named if f"def {name}(" not in tests} == set()


def test_every_file_that_it_links_to_exists() -> None:
    links = re.findall(r"\]\((?!https?://)([^)#]+)\)", _TEXT)
    assert [link for link in links if not (_ROOT / "docs" / link).exists()] == []
