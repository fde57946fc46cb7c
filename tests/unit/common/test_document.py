"""A document's fields change only as they are declared to."""

from __future__ import annotations

from typing import Self, TypedDict, Unpack

import pytest
from pydantic import Field

from services.common.documents import Document


class CounterChanges(TypedDict, total=False):
    count: int
    marks: tuple[str, ...]


class Counter(Document):
    id: str
    count: int = Field(default=0, ge=0)
    marks: tuple[str, ...] = ()

    def changed(self, **to: Unpack[CounterChanges]) -> Self:
        return self._changed(to)


def test_a_change_makes_another_document() -> None:
    before = Counter(id="a", marks=("x",))
    assert before.changed(count=2) == Counter(id="a", count=2, marks=("x",))
    assert before == Counter(id="a", marks=("x",))
    assert before.changed() == before


def test_a_field_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="Counter has no field cuont"):
        Counter(id="a").changed(cuont=2)  # pyright: ignore[reportCallIssue]  what is tested


@pytest.mark.parametrize("wrong", ["2", None, 2.0, True])
def test_a_value_of_another_type_is_refused(wrong: int) -> None:
    with pytest.raises(ValueError, match="count"):
        Counter(id="a").changed(count=wrong)


def test_a_value_beyond_its_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Counter\.count: Input should be greater than or equal"):
        Counter(id="a").changed(count=-1)
