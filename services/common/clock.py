"""Wall-clock time, in the form that documents store."""

from __future__ import annotations

import time


class _Skew:
    """How far this process's wall clock is off, on purpose."""

    milliseconds = 0


def set_skew(seconds: float) -> None:
    """Puts the clock of this process's documents forward, or back; once, at its start."""
    _Skew.milliseconds = round(seconds * 1000)


def now_ms() -> int:
    """The Unix time in milliseconds, by the clock of this process's documents."""
    return unix_ms() + _Skew.milliseconds


def unix_ms() -> int:
    """The Unix time in milliseconds, never skewed: for tokens, which others check by their own
    clocks.
    """
    return time.time_ns() // 1_000_000
