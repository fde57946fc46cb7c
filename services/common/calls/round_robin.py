"""The instances of one callee, and which of them is next."""

from __future__ import annotations

import itertools
from collections.abc import Sequence


class RoundRobin:
    """The addresses of one callee; they take turns.

    :param addresses: ``host:port`` of every instance. One that stands there several times has as
        many turns: a share of the requests by weight.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = tuple(addresses)
        self._turns = itertools.count()

    def in_turn(self) -> Sequence[str]:
        """Each address once, in the order to try them now."""
        first = next(self._turns) % len(self._addresses)
        return tuple(dict.fromkeys((*self._addresses[first:], *self._addresses[:first])))


def spread(weights: Sequence[int]) -> Sequence[int]:
    """Positions, each as often as its weight says and as evenly as that goes.

    The smooth weighted round-robin that nginx has had since its release 1.3.1.
    """
    total = sum(weights)
    balances = [0] * len(weights)
    chosen: list[int] = []
    for _ in range(total):
        balances = [balance + weight for balance, weight in zip(balances, weights, strict=True)]
        position = balances.index(max(balances))
        balances[position] -= total
        chosen.append(position)
    return chosen
