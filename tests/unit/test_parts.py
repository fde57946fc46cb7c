"""The parts that `make test-labs PART=2/8` and `make test-long PART=1/2` name are all of the tests
marked in_turn, each once.
"""

from __future__ import annotations

import argparse

import pytest

from tests.testkit.parts import Part, part

LABS = [f"{number:02}" for number in range(1, 18)]


def test_a_part_is_every_eighth_test() -> None:
    assert part("1/8").of(LABS) == ["01", "09", "17"]
    assert part("8/8").of(LABS) == ["08", "16"]


@pytest.mark.parametrize("count", [1, 2, 8, 17, 20])
def test_the_parts_together_are_all_tests(count: int) -> None:
    parts = [Part(number, count).of(LABS) for number in range(1, count + 1)]
    assert sorted(lab for each in parts for lab in each) == LABS
    sizes = [len(each) for each in parts]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("text", ["", "2", "0/8", "9/8", "0/0", "-1/8", "1/8/2", "even"])
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no part; the second of eight is 2/8"):
        part(text)
