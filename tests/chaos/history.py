"""The history of a run: every operation of its clients, with what the shop answered."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from services.order.model import order_id_for
from tests.chaos.checkout import Checkout

NO_ANSWER = 0
"""The status of a request that broke off."""

UNDECIDED = frozenset({NO_ANSWER, 401, 429, 500, 502, 503, 504})
"""The shop, or a proxy on the way, could not say: the same request again makes sense."""


class Action(StrEnum):
    """What a request was for."""

    PLACE = "place"
    PLACE_OTHER = "place-other"  # something else, under the same key
    LOOK = "look"
    CANCEL = "cancel"


class Op(NamedTuple):
    """One operation: a request and its answer. Times are seconds since the start of the run.

    :ivar order_id: the order that the answer names, if it names one.
    :ivar state: the order's, in an answer that shows it.
    :ivar reason: why the order was cancelled, in an answer that shows it; else a problem's code, or
        how the request broke off.
    :ivar total_cents: what the order costs, in an answer that shows it.
    """

    action: Action
    sent_seconds: float
    answered_seconds: float
    status: int
    order_id: str | None = None
    state: str | None = None
    reason: str | None = None
    total_cents: int | None = None

    @property
    def is_undecided(self) -> bool:
        """Whether the same request again makes sense. An answer that names the order is the shop's
        decision, also when that was to give up (503).
        """
        return self.status in UNDECIDED and self.order_id is None

    def __str__(self) -> str:
        facts = [self.state, self.reason, self.total_cents and f"{self.total_cents} cents"]
        return (
            f"{self.sent_seconds:9.3f} to {self.answered_seconds:9.3f} s  {self.action}: "
            f"{self.status or 'no answer'} {', '.join(str(fact) for fact in facts if fact)}"
        )


@dataclass(slots=True)
class CheckoutHistory:
    """All operations of one customer on one checkout."""

    number: int
    user_id: str
    order_id: str
    ops: list[Op] = field(default_factory=list[Op])

    @property
    def asked_to_cancel(self) -> bool:
        """Whether a cancellation was sent, whatever came of it."""
        return any(op.action is Action.CANCEL for op in self.ops)


class History:
    """The operations of one run, by order.

    :param seed: what its checkouts are made of.
    """

    def __init__(self, seed: str) -> None:
        self.seed = seed
        self.by_order: dict[str, CheckoutHistory] = {}
        self._began = time.monotonic()

    def __iter__(self) -> Iterator[CheckoutHistory]:
        return iter(self.by_order.values())

    def seconds(self) -> float:
        """How long the run has lasted."""
        return time.monotonic() - self._began

    def begin(self, checkout: Checkout, user_id: str) -> CheckoutHistory:
        """A checkout that a customer is about to place: from now on there may be its order."""
        order_id = order_id_for(user_id, checkout.key)
        begun = self.by_order[order_id] = CheckoutHistory(checkout.number, user_id, order_id)
        return begun

    def checkout_of(self, one: CheckoutHistory) -> Checkout:
        """What was asked for."""
        return Checkout.of(self.seed, one.number)

    def statuses(self) -> Counter[int]:
        """How often each status was answered."""
        return Counter(op.status for one in self for op in one.ops)
