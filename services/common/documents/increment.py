"""The guarded increment: an atomic change of a document that is made only if its guards hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from services.common.documents.values import (
    Body,
    Json,
    assign,
    check_int64,
    check_json,
    discard,
    lookup,
    segments,
)


@dataclass(frozen=True, slots=True)
class Increment:
    """What to change, and when. All keys are dotted paths that lead through objects.

    A counter is a 64-bit integer; a missing one counts as zero. Null is no counter, but the same to
    ``present`` and ``absent`` as missing.

    :param by: what to add to counters.
    :param at_least: the least that a counter may be *after* the change.
    :param present: paths where there must be a value.
    :param absent: paths where there must be none.
    :param put: values to set, whatever was there.
    :param remove: paths to remove, if they are there.
    """

    by: Mapping[str, int]
    at_least: Mapping[str, int]
    present: tuple[str, ...]
    absent: tuple[str, ...]
    put: Mapping[str, Json]
    remove: tuple[str, ...]

    def __post_init__(self) -> None:
        for path in (*self.at_least, *self.present, *self.absent):
            segments(path)
        targets = sorted(segments(path) for path in (*self.by, *self.put, *self.remove))
        if any(target[0] == "id" for target in targets):
            raise ValueError("the id of a document never changes")
        if any(second[: len(first)] == first for first, second in pairwise(targets)):
            raise ValueError("an increment changes the same path twice")
        for amount in self.by.values():
            check_int64(amount)
        for path in self.at_least:
            check_int64(self.threshold(path))
        for value in self.put.values():
            check_json(value)

    def threshold(self, path: str) -> int:
        """The least that the counter at a path of ``at_least`` must be *before* the change."""
        return self.at_least[path] - self.by.get(path, 0)

    def holds(self, body: Body) -> bool:
        """Whether all guards hold for the document as it is."""
        return (
            all(_counter(body, path) >= self.threshold(path) for path in self.at_least)
            and all(lookup(body, path) is not None for path in self.present)
            and all(lookup(body, path) is None for path in self.absent)
        )

    def apply(self, body: Body) -> None:
        """Makes the change, in place.

        :raises ValueError: it does not fit the document.
        """
        for path, amount in self.by.items():
            assign(body, path, check_int64(_counter(body, path) + amount))
        for path, value in self.put.items():
            assign(body, path, value)
        for path in self.remove:
            discard(body, path)


def _counter(body: Body, path: str) -> int:
    value = lookup(body, path, missing=0)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{path}: the counter is not an integer")
    return value
