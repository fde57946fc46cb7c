"""The model of an order as its customer sees it: what an answer says of where the order stands, and
where it may go from there.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

from services.order.model import BY_CUSTOMER, Order, OrderState
from tests.chaos.checkout import Checkout
from tests.chaos.history import UNDECIDED, Action, CheckoutHistory, Op

_UNDER_WAY = "shipment-under-way"


class Standing(NamedTuple):
    """Where an order stands. `reason` is why it is (being) cancelled."""

    state: OrderState
    reason: str | None = None


def standing_of(op: Op) -> Standing | None:
    """What an answer says; None when it does not tell."""
    if op.state is not None:
        return Standing(OrderState(op.state), op.reason)
    if op.order_id is not None:
        return Standing(OrderState.CANCELLED, op.reason)
    if op.action is Action.CANCEL and op.status == 409:
        if op.reason == _UNDER_WAY:
            return Standing(OrderState.CONFIRMED)
        if op.reason == "order-in-progress":
            return Standing(OrderState.WORKING)
    return None


def may_end_as(standing: Standing, op: Op, order: Order) -> bool:
    """Whether the order may have gone on from there, where the answer has put it, to its end."""
    if op.reason == _UNDER_WAY and order.state is not OrderState.CONFIRMED:
        return False
    reason = order.reason.code if order.reason else None
    match standing.state:
        case OrderState.WORKING:
            return True
        case OrderState.CONFIRMED:
            return order.state is OrderState.CONFIRMED or (
                order.state is OrderState.CANCELLED
                and reason == BY_CUSTOMER
                and order.was_confirmed
            )
        case OrderState.CANCELLING if order.state is OrderState.CONFIRMED:
            return standing.reason == BY_CUSTOMER  # it was on its way already
        case _:
            return order.state is OrderState.CANCELLED and reason == standing.reason


def is_fair_refusal(op: Op, checkout: Checkout) -> bool:
    """Whether an answer that tells nothing about the order may be given."""
    if op.status in UNDECIDED:
        return True
    if op.action is Action.PLACE_OTHER:
        return (op.status, op.reason) == (422, "idempotency-key-reused")
    is_unknown = (op.status, op.reason) == (422, "unknown-product")
    return op.action is Action.PLACE and is_unknown and not checkout.is_possible


def steps_back(one: CheckoutHistory) -> Iterator[tuple[Op, Op]]:
    """Of operations that did not overlap, the pairs whose later one shows an earlier state."""
    told = [(op, standing.state) for op in one.ops if (standing := standing_of(op))]
    in_order = sorted(told, key=lambda each: each[0].sent_seconds)
    for (former, before), (later, after) in combinations(in_order, 2):
        if former.answered_seconds > later.sent_seconds:
            continue
        if after is OrderState.WORKING is not before or after is not OrderState.CANCELLED is before:
            yield former, later
