"""What must be true of a shop in which every order is settled and nothing moves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping

from services.audit.invariants import Violation, violations_of_order, violations_without_order
from services.audit.snapshot import Snapshot
from services.order.model import Order, OrderState

# The states of an intent that holds or has held money; a declined one has another.
_HELD_MONEY = frozenset({"requires_capture", "succeeded", "canceled"})


def violations_of(
    snapshot: Snapshot,
    initial_stock: Mapping[str, int],
    restored: Collection[str] = (),
) -> Iterator[Violation]:
    """All that must not be.

    :param restored: the services whose stores were put back to an older copy.
    """
    sold: Counter[str] = Counter()
    for order in snapshot.orders.values():
        if order.state is OrderState.CONFIRMED:
            for line in order.lines:
                sold[line.product_id] += line.quantity
        if order.is_settled and order.state in {OrderState.CONFIRMED, OrderState.CANCELLED}:
            yield from violations_of_order(order, snapshot)
            yield from _wrongly_told(order, snapshot)
            if "payment" not in restored:  # which has lost how often it asked
                yield from _authorizations(order, snapshot)
        else:
            yield Violation(order.id, f"ended {order.state} at step {order.step}")
    yield from _stock_violations(snapshot, initial_stock, sold)
    yield from violations_without_order(snapshot)


def _authorizations(order: Order, snapshot: Snapshot) -> Iterator[Violation]:
    """Nothing was set aside twice under one key."""
    intents = snapshot.ledger.intents.get(order.id, ())
    held = [intent.id for intent in intents if intent.status in _HELD_MONEY]
    payment = snapshot.payments.get(order.id)
    attempts = payment.attempt if payment is not None else 0
    if len(held) > attempts:
        yield Violation(order.id, f"authorized by {held}, but asked for only {attempts} times")


def _wrongly_told(order: Order, snapshot: Snapshot) -> Iterator[Violation]:
    """An attempt is told as an order by earlier versions only, of which there are none here."""
    kinds = {message.kind for message in snapshot.messages_of(order.id)}
    if order.is_attempt and "order-cancelled" in kinds:
        yield Violation(order.id, f"it was never confirmed, but told as an order: {kinds}")


def _stock_violations(
    snapshot: Snapshot, initial_stock: Mapping[str, int], sold: Mapping[str, int]
) -> Iterator[Violation]:
    for stock in snapshot.stock.values():
        total = stock.available + stock.reserved + stock.sold
        began = initial_stock[stock.id]
        if min(stock.available, stock.reserved, stock.sold) < 0:
            yield Violation(stock.id, f"less than nothing is there: {stock}")
        if total != began:
            yield Violation(stock.id, f"there are {total}, but it began with {began}")
        if stock.reserved or stock.holds or stock.returns:
            yield Violation(
                stock.id, f"{stock.reserved} reserved, {stock.holds=}, {stock.returns=}"
            )
        if stock.sold != sold.get(stock.id, 0):
            yield Violation(
                stock.id, f"{stock.sold} sold, but confirmed orders have {sold.get(stock.id, 0)}"
            )
    for product_id in initial_stock.keys() - snapshot.stock.keys():
        yield Violation(product_id, "its stock is gone")
