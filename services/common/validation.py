"""pydantic's validation errors as sentences for people."""

from __future__ import annotations

from typing import NamedTuple

from pydantic import ValidationError


class Wrong(NamedTuple):
    """One thing that is wrong.

    :ivar path: the names and numbers that lead to it; empty when it is the whole.
    :ivar reason: what is wrong, without a full stop.
    """

    path: tuple[str, ...]
    reason: str
    is_missing: bool

    def place(self, whole: str) -> str:
        """Returns the path with dots, or the name of the whole."""
        return ".".join(self.path) or whole


def first_wrong(error: ValidationError) -> Wrong:
    """Returns the first thing that is wrong."""
    first = error.errors(include_url=False, include_input=False)[0]
    return Wrong(
        tuple(str(part) for part in first["loc"]),
        first["msg"].removeprefix("Value error, "),
        first["type"] == "missing",
    )


def lower_first(sentence: str) -> str:
    """Returns a sentence to go on with behind a colon."""
    return sentence[0].lower() + sentence[1:]
