"""Wall-clock time, as documents keep it."""

from __future__ import annotations

import time


def now_ms() -> int:
    """The Unix time in milliseconds."""
    return time.time_ns() // 1_000_000
