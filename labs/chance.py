"""Counts of random events, and the bounds that chance alone rarely exceeds."""

from __future__ import annotations

import math

# Chance alone exceeds it once in 16,000 times, above or below.
_STANDARD_DEVIATIONS = 4


def is_about(count: int, share: float, *, of: int) -> bool:
    """Returns whether a count is plausible for `of` independent draws with probability `share`: at
    most four standard deviations of the binomial distribution from the mean.
    """
    expected = of * share
    deviation = math.sqrt(expected * (1 - share))
    return abs(count - expected) <= _STANDARD_DEVIATIONS * deviation
