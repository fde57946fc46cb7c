"""Limits the label values that others choose: few, and plain text, whatever is sent."""

from __future__ import annotations

import re

OTHER = "other"

_PLAIN = re.compile(r"[A-Za-z0-9._-]{1,64}")


class LabelValues:
    """The first values of a label, up to a number, as they are; all further ones are ``other``, and
    so is what has another form than a version or a code has. An empty value stays empty.
    """

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._known: set[str] = set()

    def bounded(self, value: str) -> str:
        """The value as what it is counted under."""
        if value in self._known or not value:
            return value
        if len(self._known) >= self._at_most or not _PLAIN.fullmatch(value):
            return OTHER
        self._known.add(value)
        return value
