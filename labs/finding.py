"""The findings of a check: lines that are right or wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Finding(NamedTuple):
    """One line of a check.

    :ivar look: where to look when it is wrong: an object, a file or a command.
    """

    is_right: bool
    what: str
    look: str = ""

    def __str__(self) -> str:
        if self.is_right:
            return f"  right  {self.what}"
        end = "" if self.look.endswith("?") else "."
        return f"  WRONG  {self.what}. Look at {self.look}{end}"


def right(what: str) -> Finding:
    """Returns a right line."""
    return Finding(True, what)


def wrong(what: str, look: str) -> Finding:
    """Returns a wrong line.

    :param look: where to look: an object, a file or a command.
    """
    return Finding(False, what, look)


def judged(is_right: bool, what: str, otherwise: str, look: str) -> Finding:
    """Returns a right line that says `what`, or a wrong one that says `otherwise`."""
    return right(what) if is_right else wrong(otherwise, look)


def are_all_right(findings: Sequence[Finding]) -> bool:
    """Returns whether a lab is passed: a check without findings proves nothing."""
    return bool(findings) and all(each.is_right for each in findings)
