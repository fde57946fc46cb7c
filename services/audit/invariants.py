"""What must be true across the stores of all services and Stripe, order by order."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from services.audit.snapshot import Snapshot
from services.inventory.model import Reservation, Stock
from services.inventory.model import State as ReservationState
from services.order.model import Order
from services.order.model import State as OrderState
from services.payment.model import CANCELLED, Payment
from services.payment.model import State as PaymentState
from services.shipping.model import Shipment
from services.shipping.model import State as ShipmentState

_GIVEN_BACK = frozenset(
    {ReservationState.REFUSED, ReservationState.RELEASED, ReservationState.RETURNED}
)
_ON_ITS_WAY = frozenset(ShipmentState) - {ShipmentState.PREPARED, ShipmentState.CANCELLED}

# By then an order is settled, whatever was out; one that is not waits for a person.
_LATE_MS = 3_600_000

# The message about each stage that the parcel has reached.
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


def disagreements(snapshot: Snapshot, now_ms: int) -> Iterator[Violation]:
    """Yields all that must not be in a shop that may be running: of orders that are settled, of
    those that should be by now, and of stock that does not change just now.
    """
    for order in snapshot.orders.values():
        if order.is_settled:
            yield from violations_of_order(order, snapshot)
        elif now_ms - _last_ms(order) > _LATE_MS:
            yield Violation(order.id, f"it is still {order.state} at step {order.step}")
    yield from _stock_violations(snapshot)
    yield from violations_without_order(snapshot)


def violations_of_order(order: Order, snapshot: Snapshot) -> Iterator[Violation]:
    """Yields what disagrees with an order that is settled."""
    check = _confirmed if order.state is OrderState.CONFIRMED else _cancelled
    history = ", ".join(moment.what for moment in order.history)
    if snapshot.user_ids is not None and order.user_id not in snapshot.user_ids:
        yield Violation(order.id, f"its customer, {order.user_id}, has no account")
    for what in check(order, snapshot):
        yield Violation(order.id, f"({order.state}; {history}) {what}")


def violations_without_order(snapshot: Snapshot) -> Iterator[Violation]:
    """Yields what is there for an order that is not."""
    there: defaultdict[str, list[str]] = defaultdict(list)
    for name, ids in {
        "a reservation": snapshot.reservations,
        "a payment": snapshot.payments,
        "a payment intent": snapshot.ledger.intents,
        "a shipment": snapshot.shipments,
        "a message": snapshot.message_ids,
    }.items():
        for order_id in ids.keys() - snapshot.orders.keys():
            there[order_id].append(name)
    for order_id, names in sorted(there.items()):
        yield Violation(order_id, f"there is {_words(names)}, but no such order")


def _last_ms(order: Order) -> int:
    return order.history[-1].at_ms if order.history else order.created_ms


def _stock_violations(snapshot: Snapshot) -> Iterator[Violation]:
    """The stock against the reservations, both of `inventory`: what one of them has lost."""
    sold: Counter[str] = Counter()
    for reservation in snapshot.reservations.values():
        for line in reservation.lines:
            shelf = snapshot.stock.get(line.product_id)
            if shelf is None:
                yield Violation(line.product_id, f"it has no stock, but {reservation.id} has some")
            elif _is_sold(reservation, shelf):
                sold[line.product_id] += line.quantity
    for shelf in snapshot.stock.values():
        if shelf.id in snapshot.moving:
            continue
        if min(shelf.available, shelf.reserved, shelf.sold) < 0:
            yield Violation(shelf.id, f"less than nothing is there: {shelf}")
        held = sum(
            ticket.quantity for tickets in shelf.holds.values() for ticket in tickets.values()
        )
        if shelf.reserved != held:
            yield Violation(shelf.id, f"{shelf.reserved} reserved, but orders hold {held}")
        if shelf.sold != sold[shelf.id]:
            yield Violation(shelf.id, f"{shelf.sold} sold, but orders have bought {sold[shelf.id]}")


def _is_sold(reservation: Reservation, shelf: Stock) -> bool:
    """Whether the order's pieces count as sold in the product's stock: see the tickets in
    :mod:`services.inventory.model`.
    """
    match reservation.state:
        case ReservationState.SOLD | ReservationState.RETURNING:
            return True
        case ReservationState.COMMITTING:
            return reservation.id not in shelf.holds
        case ReservationState.RESTOCKING:
            return reservation.id in shelf.returns
        case _:
            return False


def _confirmed(order: Order, snapshot: Snapshot) -> Iterator[str]:
    reservation = snapshot.reservations.get(order.id)
    if reservation is None or reservation.state is not ReservationState.SOLD:
        yield f"its reservation is {_state(reservation)}"
    payment = snapshot.payments.get(order.id)
    if payment is None or payment.state is not PaymentState.CAPTURED:
        yield f"its payment is {_state(payment)}"
    if snapshot.ledger.charges(order.id) != [order.total_cents]:
        yield f"charged {snapshot.ledger.charges(order.id)} cents, not once {order.total_cents}"
    if snapshot.ledger.refunded(order.id):
        yield f"{snapshot.ledger.refunded(order.id)} cents were refunded"
    yield from _authorizations(order, snapshot)
    shipment = snapshot.shipments.get(order.id)
    if shipment is None or shipment.state not in _ON_ITS_WAY:
        yield f"its shipment is {_state(shipment)}"
    yield from _messages(order, snapshot, Counter({"order-confirmed": 1}), shipment)


def _cancelled(order: Order, snapshot: Snapshot) -> Iterator[str]:
    reservation = snapshot.reservations.get(order.id)
    if reservation is None or reservation.state not in _GIVEN_BACK:
        yield f"its reservation is {_state(reservation)}"
    payment = snapshot.payments.get(order.id)
    if payment is not None and payment.state not in CANCELLED:
        yield f"its payment is {_state(payment)}"
    yield from _paid_back(order, payment, snapshot)
    if len(snapshot.ledger.charges(order.id)) > 1:
        yield f"charged {snapshot.ledger.charges(order.id)} cents, not once"
    yield from _authorizations(order, snapshot)
    shipment = snapshot.shipments.get(order.id)
    if shipment is not None and shipment.state is not ShipmentState.CANCELLED:
        yield f"its shipment is {shipment.state}"
    yield from _messages(order, snapshot, _due_when_cancelled(order, snapshot), shipment)


def _paid_back(order: Order, payment: Payment | None, snapshot: Snapshot) -> Iterator[str]:
    """Whatever was charged is the customer's again, or a person is at it."""
    charged = sum(snapshot.ledger.charges(order.id))
    refunded = snapshot.ledger.refunded(order.id)
    state = payment.state if payment else None
    if charged != refunded and state is PaymentState.REFUND_FAILED:
        if not snapshot.ledger.is_paid_back(order.id):
            yield f"its refund failed: {charged - refunded} cents are to be paid back another way"
    # The bank itself returns a disputed charge to the customer.
    elif charged != refunded and state is not PaymentState.DISPUTED:
        yield f"{charged} cents charged, {refunded} refunded"
    is_told = order.refund_failed or order.refund_look_ms is not None
    if state is PaymentState.REFUND_FAILED and not is_told:
        yield "its customer does not know that the refund failed"


def _due_when_cancelled(order: Order, snapshot: Snapshot) -> Counter[str]:
    """What its customer is told of a cancelled order. Of one that was never confirmed it is either
    the answer to the request that placed it, or a message.
    """
    due = Counter(["order-refund-failed"] if order.refund_failed else [])
    if not order.is_attempt:
        due.update({"order-cancelled": 1, "order-confirmed": 1})
    elif not order.was_answered:
        # Earlier versions knew no attempts.
        told = {event.kind for event in (*order.events, *snapshot.messages_of(order.id))}
        due.update({"order-cancelled" if "order-cancelled" in told else "order-not-placed": 1})
    return due


def _state(document: Reservation | Payment | Shipment | None) -> str:
    return "missing" if document is None else document.state.value


def _authorizations(order: Order, snapshot: Snapshot) -> Iterator[str]:
    """Nothing is left set aside."""
    for intent in snapshot.ledger.intents.get(order.id, ()):
        if intent.status == "requires_capture":
            yield f"{intent.id} still holds {intent.amount_capturable} cents"


def _messages(
    order: Order, snapshot: Snapshot, due: Counter[str], shipment: Shipment | None
) -> Iterator[str]:
    for moment in shipment.history if shipment else ():
        if moment.state in _TOLD:
            due[_TOLD[moment.state]] += 1
    told = Counter(message.kind for message in snapshot.messages_of(order.id))
    # Events that wait for `notification`, which may have taken them already.
    waiting = Counter(
        event.kind for event in (*order.events, *(shipment.events if shipment else ()))
    )
    if shipment is not None and shipment.moves_ms is not None:
        # A parcel that was put back goes its way once more, of which the customer knows already.
        waiting += Counter(kind for kind in _TOLD.values() if not due[kind])
    if told - due - waiting or due - told - waiting:
        yield f"its messages are {_counted(told)}, not {_counted(due)}"


def _counted(messages: Counter[str]) -> str:
    return _words(
        [kind if count == 1 else f"{count} {kind}" for kind, count in sorted(messages.items())]
    )


def _words(names: Sequence[str]) -> str:
    *others, last = names or ["none"]
    return f"{', '.join(others)} and {last}" if others else last
