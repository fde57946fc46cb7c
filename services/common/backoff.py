"""Pauses before the next attempt, after failures."""

from __future__ import annotations

import random
from dataclasses import dataclass

_MAX_DOUBLINGS = 64  # beyond them a float is no longer exact, and every pause is at its longest


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses that double with each failure in a row, from the first to the longest."""

    first_seconds: float
    longest_seconds: float

    def pause_seconds(self, failures: int, jitter: float = 0.0) -> float:
        """Returns how long to wait.

        :param failures: how many there were in a row, at least one.
        :param jitter: 0 to 1, takes up to half of the pause away; see :func:`any_jitter`.
        """
        doublings = min(failures - 1, _MAX_DOUBLINGS)
        pause_seconds = min(self.longest_seconds, self.first_seconds * 2**doublings)
        return _jittered(pause_seconds, jitter)

    def pause_ms(self, failures: int, jitter: float = 0.0) -> int:
        """Returns the same in milliseconds."""
        return round(1000 * self.pause_seconds(failures, jitter))

    @property
    def longest_ms(self) -> int:
        """The longest pause in milliseconds."""
        return round(1000 * self.longest_seconds)


def spread(seconds: float) -> float:
    """Returns a pause less up to half of it, by chance."""
    return _jittered(seconds, any_jitter())


def any_jitter() -> float:
    """Returns a number from 0 to 1 by chance, so that those that failed together do not try again
    together.
    """
    return random.random()  # noqa: S311  not for secrets


def _jittered(seconds: float, jitter: float) -> float:
    return seconds * (1 - jitter / 2)
