"""Counts that chance decides: what they may be, and what they may not."""

from __future__ import annotations

import math

# Once in 30,000 times chance alone is further away.
_STANDARD_DEVIATIONS = 4


def is_about(count: int, share: float, *, of: int) -> bool:
    """Whether a count may come of so many independent draws, each of which counts with a
    probability of `share`: at most four standard deviations of the binomial distribution away.
    """
    expected = of * share
    deviation = math.sqrt(expected * (1 - share))
    return abs(count - expected) <= _STANDARD_DEVIATIONS * deviation
