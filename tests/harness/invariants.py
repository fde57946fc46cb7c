"""What must be true across the books of all services, order by order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from services.inventory.model import State as ReservationState
from services.order.model import Order
from services.order.model import State as OrderState
from services.payment.model import State as PaymentState
from services.shipping.model import Shipment
from services.shipping.model import State as ShipmentState
from tests.harness.snapshot import Snapshot

_GIVEN_BACK = frozenset(
    {ReservationState.REFUSED, ReservationState.RELEASED, ReservationState.RETURNED}
)
# The states of an intent that holds or has held money; a declined one has another.
_HELD_MONEY = frozenset({"requires_capture", "succeeded", "canceled"})
_ON_ITS_WAY = frozenset(ShipmentState) - {ShipmentState.PREPARED, ShipmentState.CANCELLED}

# What the customer is told about, once the parcel has been there.
_TOLD = {
    ShipmentState.IN_TRANSIT: "shipment-dispatched",
    ShipmentState.DELIVERED: "shipment-delivered",
}


class Violation(NamedTuple):
    """Something that must not be. `subject` is the id of the order or the product."""

    subject: str
    what: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.what}"


def violations_of(snapshot: Snapshot, initial_stock: Mapping[str, int]) -> Iterator[Violation]:
    """All that must not be, in a shop where every order is settled."""
    sold: Counter[str] = Counter()
    for order in snapshot.orders.values():
        if order.state is OrderState.CONFIRMED:
            for line in order.lines:
                sold[line.product_id] += line.quantity
        check = _CHECKS.get(order.state)
        if check is None or not order.is_settled:
            yield Violation(order.id, f"ended {order.state} at step {order.step}")
            continue
        history = ", ".join(moment.what for moment in order.history)
        for what in check(order, snapshot):
            yield Violation(order.id, f"({order.state}; {history}) {what}")
    yield from _stock_violations(snapshot, initial_stock, sold)
    for name, ids in {
        "reservation": snapshot.reservations,
        "payment": snapshot.payments,
        "payment intent": snapshot.ledger.intents,
        "shipment": snapshot.shipments,
        "message": snapshot.message_ids,
    }.items():
        for order_id in ids.keys() - snapshot.orders.keys():
            yield Violation(order_id, f"there is a {name}, but no such order")


def was_confirmed(order: Order) -> bool:
    """Whether the order has been confirmed at some time."""
    return any(moment.what == OrderState.CONFIRMED for moment in order.history)


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


def _confirmed(order: Order, snapshot: Snapshot) -> Iterator[str]:
    reservation = snapshot.reservations.get(order.id)
    if reservation is None or reservation.state is not ReservationState.SOLD:
        yield f"its reservation is {reservation}"
    payment = snapshot.payments.get(order.id)
    if payment is None or payment.state is not PaymentState.CAPTURED:
        yield f"its payment is {payment}"
    if snapshot.ledger.charges(order.id) != [order.total_cents]:
        yield f"charged {snapshot.ledger.charges(order.id)} cents, not once {order.total_cents}"
    if snapshot.ledger.refunded(order.id):
        yield f"{snapshot.ledger.refunded(order.id)} cents were refunded"
    yield from _authorizations(order, snapshot)
    shipment = snapshot.shipments.get(order.id)
    if shipment is None or shipment.state not in _ON_ITS_WAY:
        yield f"its shipment is {shipment}"
    yield from _messages(order, snapshot, Counter({"order-confirmed": 1}), shipment)


def _cancelled(order: Order, snapshot: Snapshot) -> Iterator[str]:
    reservation = snapshot.reservations.get(order.id)
    if reservation is None or reservation.state not in _GIVEN_BACK:
        yield f"its reservation is {reservation}"
    payment = snapshot.payments.get(order.id)
    if payment is not None and payment.state not in {PaymentState.VOIDED, PaymentState.REFUNDED}:
        yield f"its payment is {payment}"
    charged = sum(snapshot.ledger.charges(order.id))
    if charged != snapshot.ledger.refunded(order.id):
        yield f"{charged} cents charged, {snapshot.ledger.refunded(order.id)} refunded"
    if len(snapshot.ledger.charges(order.id)) > 1:
        yield f"charged {snapshot.ledger.charges(order.id)} cents, not once"
    yield from _authorizations(order, snapshot)
    shipment = snapshot.shipments.get(order.id)
    if shipment is not None and shipment.state is not ShipmentState.CANCELLED:
        yield f"its shipment is {shipment.state}"
    due = Counter({"order-cancelled": 1})
    if was_confirmed(order):
        due["order-confirmed"] = 1
    yield from _messages(order, snapshot, due, shipment)


def _authorizations(order: Order, snapshot: Snapshot) -> Iterator[str]:
    """Nothing is left set aside, and nothing was set aside twice under one key."""
    intents = snapshot.ledger.intents.get(order.id, ())
    for intent in intents:
        if intent.status == "requires_capture":
            yield f"{intent.id} still holds {intent.amount_capturable} cents"
    held = [intent.id for intent in intents if intent.status in _HELD_MONEY]
    payment = snapshot.payments.get(order.id)
    attempts = payment.attempt if payment is not None else 0
    if len(held) > attempts:
        yield f"authorized by {held}, but asked for only {attempts} times"


def _messages(
    order: Order, snapshot: Snapshot, due: Counter[str], shipment: Shipment | None
) -> Iterator[str]:
    for moment in shipment.history if shipment else ():
        if moment.state in _TOLD:
            due[_TOLD[moment.state]] += 1
    told = Counter(message.kind for message in snapshot.messages_of(order.id))
    if told != due:
        yield f"its messages are {dict(told)}, not {dict(due)}"


_CHECKS: Mapping[OrderState, Callable[[Order, Snapshot], Iterator[str]]] = {
    OrderState.CONFIRMED: _confirmed,
    OrderState.CANCELLED: _cancelled,
}
