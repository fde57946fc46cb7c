"""What an audit tells a person of disputes, of which the shop's stores know only that there are."""

from __future__ import annotations

import pytest

from services.audit.invariants import notes
from services.audit.snapshot import Ledger, LedgerDispute, LedgerIntent, LedgerRefund, Snapshot
from services.order.model import OrderState
from tests.unit.order.examples import an_order


def noted(state: OrderState, status: str, *, is_refunded: bool = False) -> list[str]:
    """The notes about one order whose charge was disputed."""
    order = an_order(state=state, step=None)
    ledger = Ledger(
        {order.id: [LedgerIntent("pi_1", "succeeded", 8685, 0, 8685)]},
        {"pi_1": [LedgerRefund("re_1", 8685)]} if is_refunded else {},
        {"pi_1": [LedgerDispute("dp_1", 8685, status)]},
    )
    return list(notes(Snapshot({order.id: order}, {}, {}, {}, {}, {}, ledger)))


@pytest.mark.parametrize("state", [OrderState.CONFIRMED, OrderState.CANCELLED])
@pytest.mark.parametrize("status", ["needs_response", "under_review", "warning_needs_response"])
def test_one_that_is_not_decided_is_to_be_answered(state: OrderState, status: str) -> None:
    (note,) = noted(state, status)
    assert "8685 cents are disputed (dp_1): answer the dispute at Stripe" in note


@pytest.mark.parametrize("state", [OrderState.CONFIRMED, OrderState.CANCELLED])
def test_one_that_is_lost_has_returned_the_money(state: OrderState) -> None:
    assert noted(state, "lost") == []


def test_one_that_is_won_leaves_the_shop_with_the_money_of_a_cancelled_order() -> None:
    assert noted(OrderState.CONFIRMED, "won") == []
    (note,) = noted(OrderState.CANCELLED, "won")
    assert note.endswith("the bank has left them with the shop: pay them back")
    assert noted(OrderState.CANCELLED, "won", is_refunded=True) == []
