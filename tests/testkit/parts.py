"""A part of the tests, so that several runs together run all of them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

Test = TypeVar("Test")


class Part(NamedTuple):
    """One of so many `parts`; its `number` begins with 1."""

    number: int
    parts: int

    def of(self, tests: Sequence[Test]) -> Sequence[Test]:
        """Returns this part's tests, dealt out in turn: part 1 gets the first one."""
        return tests[self.number - 1 :: self.parts]


def part(text: str) -> Part:
    """Returns the part that an option names: ``2/8``.

    :raises argparse.ArgumentTypeError: the text has another form, or there is no such part.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", text, re.ASCII)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is no part; the second of eight is 2/8")
    return Part(int(found[1]), int(found[2]))
