"""What chance may do to a count, and how long a lab looks at one that still changes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from labs.chance import is_about
from labs.errors import LabError
from labs.waiting import at_rest
from tests.unit.labs.skipping_loop import run


@pytest.mark.parametrize(
    ("count", "is_so"), [(20, True), (4, True), (36, True), (3, False), (37, False)]
)
def test_four_standard_deviations_are_about_it(count: int, is_so: bool) -> None:
    # Of 200 draws with a tenth each: 20, and a deviation of 4.24.
    assert is_about(count, 0.1, of=200) is is_so


def test_a_count_is_at_rest_when_it_is_seen_twice() -> None:
    counts = iter([1, 5, 9, 9, 10])

    async def look() -> int:
        return next(counts)

    assert run(at_rest(look, "the count", within_seconds=60, pause_seconds=1)) == 9


def test_one_that_goes_on_is_given_up() -> None:
    def more() -> Iterator[int]:
        yield from range(1_000_000)

    counts = more()

    async def look() -> int:
        return next(counts)

    with pytest.raises(LabError, match="the count is at rest"):
        run(at_rest(look, "the count", within_seconds=0, pause_seconds=0.1))
