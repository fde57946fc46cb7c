"""Whether a count is what chance makes of a share."""

from __future__ import annotations

import math

# A test that is right fails so rarely.
UNLIKELY = 1e-6


def is_chance(found: int, draws: int, share: float, unlikely: float = UNLIKELY) -> bool:
    """Whether `found` of `draws` is what a share gives: as few, and as many, come with a
    chance of at least half of `unlikely`, by the binomial distribution.

    :param share: of 0 to 1, both included.
    """
    if not 0 <= found <= draws:
        return False
    if share in {0, 1}:
        return found == share * draws
    fewer = math.fsum(chance_of(count, draws, share) for count in range(found + 1))
    more = math.fsum(chance_of(count, draws, share) for count in range(found, draws + 1))
    return min(fewer, more) >= unlikely / 2


def chance_of(count: int, draws: int, share: float) -> float:
    """The chance of exactly this count, for a share between 0 and 1.

    By logarithms: the coefficients of some thousand draws are beyond what a float can hold.
    """
    ways = math.lgamma(draws + 1) - math.lgamma(count + 1) - math.lgamma(draws - count + 1)
    return math.exp(ways + count * math.log(share) + (draws - count) * math.log1p(-share))
