"""What must be true across the stores of all services and Stripe, order by order."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from services.audit.snapshot import Snapshot
from services.inventory.model import Reservation, ReservationState, Stock
from services.order.model import Order, OrderState
from services.payment.model import CANCELLED, Payment, PaymentState
from services.shipping.model import Shipment, ShipmentState

_GIVEN_BACK = frozenset(
    {ReservationState.REFUSED, ReservationState.RELEASED, ReservationState.RETURNED}
)
_ON_ITS_WAY = frozenset(ShipmentState) - {ShipmentState.PREPARED, ShipmentState.CANCELLED}

# By then an order is settled, whatever was out; one that is not waits for a person.
_LATE_MS = 3_600_000

# What a person has to do.
NO_ORDER = "no such order: find out whether anything was sent, then pay it back at Stripe"
_COUNT = "count what is there"
_OPEN = "open the shop, which goes on with it; when it does not, the log of order says why"
_ACCOUNT_LOST = "no other store knows the account: restore all stores together"
_CHARGE_LOST = (
    "look for the payment at Stripe; for the sandbox, restore its file, stripe_sandbox.db"
)
_PAY_BACK = (
    "ask the customer for a bank account, pay there, and note it at Stripe: docs/checkout.md"
)
_LOOK_AGAIN = "open the shop, which asks Stripe again, after 12 hours at the latest"
_WHO_PAID_BACK = "find out at Stripe who paid it back, then ask the customer"
_WRITE = "write to the customer"

# The message about each stage that the parcel has reached.
_TOLD = {
    ShipmentState.IN_TRANSIT: "shipment-dispatched",
    ShipmentState.DELIVERED: "shipment-delivered",
}


class Violation(NamedTuple):
    """Something that must not be.

    :ivar subject: the id of the order or the product.
    :ivar by_hand: what a person has to do, where nothing can be repeated that mends it.
    """

    subject: str
    what: str
    by_hand: str = ""

    def __str__(self) -> str:
        return f"{self.subject}: {self.what}"


class _Finding(NamedTuple):
    """A violation of an order whose id is added later."""

    what: str
    by_hand: str = ""


def disagreements(snapshot: Snapshot, now_ms: int) -> Iterator[Violation]:
    """Yields all that must not be in a shop that may be running: of orders that are settled, of
    those that should be by now, and of stock that does not change just now.
    """
    for order in snapshot.orders.values():
        if order.is_settled:
            yield from violations_of_order(order, snapshot)
        elif now_ms - _last_ms(order) > _LATE_MS:
            yield Violation(order.id, f"it is still {order.state} at step {order.step}", _OPEN)
    yield from _stock_violations(snapshot)
    yield from violations_without_order(snapshot)


def violations_of_order(order: Order, snapshot: Snapshot) -> Iterator[Violation]:
    """Yields what disagrees with an order that is settled."""
    check = _confirmed if order.state is OrderState.CONFIRMED else _cancelled
    history = ", ".join(moment.what for moment in order.history)
    if snapshot.user_ids is not None and order.user_id not in snapshot.user_ids:
        yield Violation(order.id, f"its customer, {order.user_id}, has no account", _ACCOUNT_LOST)
    for what, by_hand in (*check(order, snapshot), *_intent_lost(order, snapshot)):
        yield Violation(order.id, f"({order.state}; {history}) {what}", by_hand)


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
        yield Violation(order_id, f"there is {_words(names)}, but no such order", NO_ORDER)


def notes(snapshot: Snapshot) -> Iterator[str]:
    """Yields what waits for a person though nothing disagrees: charges whose dispute is not decided
    at Stripe, and those of cancelled orders that the bank has left with the shop.
    """
    ledger = snapshot.ledger
    for order_id, intent in (
        (order_id, intent) for order_id, intents in ledger.intents.items() for intent in intents
    ):
        for dispute in ledger.disputes.get(intent.id, ()):
            disputed = f"{order_id}: {dispute.amount} cents are disputed ({dispute.id})"
            order = snapshot.orders.get(order_id)
            is_cancelled = order is not None and order.state is OrderState.CANCELLED
            is_paid_back = intent.is_paid_back or bool(ledger.refunds.get(intent.id))
            if dispute.is_open:
                yield f"{disputed}: answer the dispute at Stripe; the bank decides who gets them"
            elif dispute.is_charge_kept and is_cancelled and not is_paid_back:
                yield f"{disputed}, and the bank has left them with the shop: pay them back"


def _last_ms(order: Order) -> int:
    return order.history[-1].at_ms if order.history else order.created_ms


def _stock_violations(snapshot: Snapshot) -> Iterator[Violation]:
    """The stock against the reservations, both of `inventory`: what one of them has lost."""
    sold: Counter[str] = Counter()
    for reservation in snapshot.reservations.values():
        for line in reservation.lines:
            shelf = snapshot.stock.get(line.product_id)
            if shelf is None:
                yield Violation(
                    line.product_id, f"it has no stock, but {reservation.id} has some", _COUNT
                )
            elif _is_sold(reservation, shelf):
                sold[line.product_id] += line.quantity
    for shelf in snapshot.stock.values():
        if shelf.id in snapshot.moving:
            continue
        if min(shelf.available, shelf.reserved, shelf.sold) < 0:
            yield Violation(shelf.id, f"less than nothing is there: {shelf}", _COUNT)
        held = sum(
            ticket.quantity for tickets in shelf.holds.values() for ticket in tickets.values()
        )
        if shelf.reserved != held:
            yield Violation(shelf.id, f"{shelf.reserved} reserved, but orders hold {held}", _COUNT)
        if shelf.sold != sold[shelf.id]:
            yield Violation(
                shelf.id, f"{shelf.sold} sold, but orders have bought {sold[shelf.id]}", _COUNT
            )


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


def _confirmed(order: Order, snapshot: Snapshot) -> Iterator[_Finding]:
    reservation = snapshot.reservations.get(order.id)
    if reservation is None or reservation.state is not ReservationState.SOLD:
        yield _Finding(f"its reservation is {_state(reservation)}")
    payment = snapshot.payments.get(order.id)
    if payment is None or payment.state is not PaymentState.CAPTURED:
        yield _Finding(f"its payment is {_state(payment)}")
    charges = snapshot.ledger.charges(order.id)
    if charges != [order.total_cents]:
        is_lost = not charges and payment is not None and payment.state is PaymentState.CAPTURED
        yield _Finding(
            f"{_charged(charges)}, not once {order.total_cents} cents",
            _CHARGE_LOST if is_lost else "",
        )
    if snapshot.ledger.refunded(order.id):
        yield _Finding(f"{snapshot.ledger.refunded(order.id)} cents were refunded", _WHO_PAID_BACK)
    yield from _authorizations(order, snapshot)
    shipment = snapshot.shipments.get(order.id)
    if shipment is None or shipment.state not in _ON_ITS_WAY:
        yield _Finding(f"its shipment is {_state(shipment)}")
    yield from _messages(order, snapshot, Counter({"order-confirmed": 1}), shipment)


def _cancelled(order: Order, snapshot: Snapshot) -> Iterator[_Finding]:
    reservation = snapshot.reservations.get(order.id)
    if reservation is None or reservation.state not in _GIVEN_BACK:
        yield _Finding(f"its reservation is {_state(reservation)}")
    payment = snapshot.payments.get(order.id)
    if payment is not None and payment.state not in CANCELLED:
        yield _Finding(f"its payment is {_state(payment)}")
    yield from _paid_back(order, payment, snapshot)
    charges = snapshot.ledger.charges(order.id)
    if len(charges) > 1:
        yield _Finding(f"{_charged(charges)}, not once")
    yield from _authorizations(order, snapshot)
    shipment = snapshot.shipments.get(order.id)
    if shipment is not None and shipment.state is not ShipmentState.CANCELLED:
        yield _Finding(f"its shipment is {shipment.state}")
    yield from _messages(order, snapshot, _due_when_cancelled(order, snapshot), shipment)


def _paid_back(order: Order, payment: Payment | None, snapshot: Snapshot) -> Iterator[_Finding]:
    """Whatever was charged is the customer's again, or a person has paid it back."""
    charged = sum(snapshot.ledger.charges(order.id))
    refunded = snapshot.ledger.refunded(order.id)
    state = payment.state if payment else None
    if charged != refunded and state is PaymentState.REFUND_FAILED:
        if not snapshot.ledger.is_paid_back(order.id):
            charges = snapshot.ledger.intents.get(order.id, ())
            ids = _words([intent.id for intent in charges if intent.amount_received])
            yield _Finding(
                f"its refund failed: {charged - refunded} cents are to be paid back another way "
                f"({ids})",
                _PAY_BACK,
            )
    # Of a disputed charge the bank decides who gets it: see `notes`.
    elif charged != refunded and state is not PaymentState.DISPUTED:
        is_watched = payment is not None and payment.refund_look_ms is not None
        yield _Finding(
            f"{charged} cents charged, {refunded} refunded", _LOOK_AGAIN if is_watched else ""
        )
    is_told = order.refund_failed or order.refund_look_ms is not None
    if state is PaymentState.REFUND_FAILED and not is_told:
        yield _Finding("its customer does not know that the refund failed", _WRITE)


def _intent_lost(order: Order, snapshot: Snapshot) -> Iterator[_Finding]:
    """Stripe knows what the shop has from it, a voided authorization too."""
    payment = snapshot.payments.get(order.id)
    known = {intent.id for intent in snapshot.ledger.intents.get(order.id, ())}
    if payment is not None and payment.intent_id is not None and payment.intent_id not in known:
        yield _Finding(f"Stripe does not know its payment intent {payment.intent_id}", _CHARGE_LOST)


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


def _authorizations(order: Order, snapshot: Snapshot) -> Iterator[_Finding]:
    """Nothing is left set aside."""
    for intent in snapshot.ledger.intents.get(order.id, ()):
        if intent.status == "requires_capture":
            yield _Finding(f"{intent.id} still holds {intent.amount_capturable} cents")


def _messages(
    order: Order, snapshot: Snapshot, due: Counter[str], shipment: Shipment | None
) -> Iterator[_Finding]:
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
        yield _Finding(f"its messages are {_counted(told)}, not {_counted(due)}")


def _charged(charges_cents: Sequence[int]) -> str:
    if not charges_cents:
        return "nothing was charged"
    return f"charged {_words([str(cents) for cents in charges_cents])} cents"


def _counted(messages: Counter[str]) -> str:
    return _words(
        [kind if count == 1 else f"{count} {kind}" for kind, count in sorted(messages.items())]
    )


def _words(names: Sequence[str]) -> str:
    *others, last = names or ["none"]
    return f"{', '.join(others)} and {last}" if others else last
