"""A retry budget: failing retries stay a small share of the calls, however many clients retry, so
that retries do not prolong an outage.

A token bucket as in https://finagle.github.io/blog/2016/02/08/retry-budgets/, with one difference:
a retry that succeeds costs nothing, because catching up after an outage does no harm.
"""

from __future__ import annotations

import time
from collections.abc import Callable

_DEPOSIT = 0.2
_REFILL_PER_SECOND = 1.0  # for a process that does nothing but catch up
_LARGEST_BALANCE = 20.0


class RetryBudget:
    """Pays for the retries at one callee. Starts full.

    :param clock: seconds that only ever go forward.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._balance = _LARGEST_BALANCE
        self._refilled_at = clock()

    @property
    def share_left(self) -> float:
        """How full it is: 1 when nothing is spent, 0 when no retry is paid for."""
        refilled = (self._clock() - self._refilled_at) * _REFILL_PER_SECOND
        return min(1.0, (self._balance + refilled) / _LARGEST_BALANCE)

    def deposit(self) -> None:
        """Earns a share of a retry, for a first attempt."""
        self._add(_DEPOSIT)

    def withdraw(self) -> bool:
        """Pays for one retry. False when the budget is spent: it must not be made."""
        now = self._clock()
        self._add((now - self._refilled_at) * _REFILL_PER_SECOND)
        self._refilled_at = now
        if self._balance < 1:
            return False
        self._balance -= 1
        return True

    def give_back(self) -> None:
        """Returns what was paid for a retry, which succeeded."""
        self._add(1)

    def fill(self) -> None:
        """Forgives all that was spent: the outage is over."""
        self._balance = _LARGEST_BALANCE

    def _add(self, amount: float) -> None:
        self._balance = min(_LARGEST_BALANCE, self._balance + amount)
