"""docs/teaching.md: its plans add up, take the labs' own minutes, and leave no lab or item out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest

from labs.lab import LABS, all_labs

DOCS = LABS.parent / "docs"
GUIDE = (DOCS / "teaching.md").read_text(encoding="utf-8")
MINUTES = {lab.name: lab.readme.minutes for lab in all_labs()}

_LAB = re.compile(r"\]\(\.\./labs/(\d\d-[^/]+)/README\.md\)")


def sections() -> dict[str, str]:
    """The text under each heading."""
    parts = re.split(r"^## ", GUIDE, flags=re.MULTILINE)[1:]
    return {title: body for title, _, body in (part.partition("\n") for part in parts)}


PLANS = {title: body for title, body in sections().items() if "| at | minutes |" in body}


def rows(text: str) -> Iterator[Sequence[str]]:
    """The cells of each row of the tables, without their first two lines."""
    for table in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        for line in table.splitlines()[2:]:
            yield [cell.strip() for cell in line.strip().strip("|").split(" | ")]


def minutes_of_day(clock: str) -> int:
    hours, minutes = clock.split(":")
    return 60 * int(hours) + int(minutes)


@pytest.mark.parametrize("title", PLANS)
def test_a_plan_adds_up(title: str) -> None:
    plan = [(minutes_of_day(at), int(minutes)) for at, minutes, _ in rows(PLANS[title])]
    for (at, minutes), (then, _) in pairwise(plan):
        assert at + minutes == then
    said = re.search(r"(\d+) minutes", PLANS[title])
    assert said is not None
    assert sum(minutes for _, minutes in plan) == int(said[1])


@pytest.mark.parametrize("title", PLANS)
def test_a_plan_takes_the_labs_minutes(title: str) -> None:
    planned = {
        lab[1]: int(minutes)
        for _, minutes, what in rows(PLANS[title])
        if (lab := _LAB.search(what)) is not None
    }
    assert planned
    assert planned == {name: MINUTES[name] for name in planned}


def test_two_days_hold_every_lab_once() -> None:
    assert len(PLANS) == 3
    taught = [lab for title, body in PLANS.items() if "Two days" in title for lab in labs_in(body)]
    assert sorted(taught) == sorted(MINUTES)


def labs_in(text: str) -> list[str]:
    return [lab for cells in rows(text) for lab in _LAB.findall(cells[-1])]


def test_each_item_of_the_lesson_is_mapped_to_the_test_that_the_lesson_names() -> None:
    (mapping,) = (body for body in sections().values() if "| lesson item | lab |" in body)
    mapped = [(item, test) for item, _, _, test in rows(mapping)]
    lesson = (DOCS / "lesson.md").read_text(encoding="utf-8")

    assert mapped == [(cells[0], cells[-1]) for cells in rows(lesson)]
    assert set(_LAB.findall(mapping)) == set(MINUTES)
