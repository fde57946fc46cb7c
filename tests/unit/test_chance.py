"""The tests' binomial bounds, against exact ones."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import pytest

from tests.testkit.chance import UNLIKELY, is_chance


def exact_bounds(draws: int, share: Fraction) -> tuple[int, int]:
    """The least and the greatest count that is let through."""
    chances = [comb(draws, n) * share**n * (1 - share) ** (draws - n) for n in range(draws + 1)]
    limit = Fraction(UNLIKELY) / 2

    def first(found: list[Fraction]) -> int:
        total = Fraction(0)
        for count, chance in enumerate(found):
            total += chance
            if total >= limit:
                return count
        raise AssertionError("the chances add up to 1")

    return first(chances), draws - first(chances[::-1])


@pytest.mark.parametrize("share", [Fraction(1, 10), Fraction(1, 2), Fraction(4, 5)])
def test_the_bounds_are_exact(share: Fraction) -> None:
    draws = 300
    least, most = exact_bounds(draws, share)
    allowed = {found for found in range(draws + 1) if is_chance(found, draws, float(share))}
    assert allowed == set(range(least, most + 1))


def test_they_hold_for_many_draws() -> None:
    assert is_chance(50_000, 100_000, 0.5)
    assert not is_chance(51_000, 100_000, 0.5)


@pytest.mark.parametrize(("share", "only"), [(0.0, 0), (1.0, 1_000)])
def test_what_is_certain_is_no_chance(share: float, only: int) -> None:
    assert [found for found in range(1_001) if is_chance(found, 1_000, share)] == [only]


@pytest.mark.parametrize("found", [-1, 11])
def test_more_than_there_are_is_none(found: int) -> None:
    assert not is_chance(found, 10, 0.5)
