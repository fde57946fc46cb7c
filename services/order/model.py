"""Orders: their documents, and their transitions as pure functions. :mod:`.checkout` decides which
transition follows a step.

`Order.step` is stored before the step's effect, so after a crash at any point the step is
repeated.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self, Unpack

import orjson
from pydantic import BaseModel

from services.common import error_codes
from services.common.background.rechecks import next_look_ms
from services.common.documents import Collection, Document, Event, Index, Outbox, OutboxChanges
from services.common.errors import Kind, ShopError
from services.common.fields import AddressFields
from services.common.notifying import Recipient

ORDERS = Collection(
    "orders",
    indexes=(
        Index("by_user", equal=("user_id",), order="created_ms"),
        Index("unfinished", order="open_since_ms"),
        Index("refunds", order="refund_look_ms"),
    ),
)


class OrderState(StrEnum):
    """Where an order stands, for its customer."""

    WORKING = "working"
    CONFIRMED = "confirmed"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


class Step(StrEnum):
    """The steps of the checkout; see :mod:`.checkout`."""

    RESERVE = "reserve"
    AUTHORIZE = "authorize"
    SHIP = "ship"
    CAPTURE = "capture"
    COMMIT = "commit"
    DISPATCH = "dispatch"
    RECALL = "recall"
    REFUND = "refund"
    RELEASE = "release"


class RefundStatus(StrEnum):
    """What is known of the money of an order that is cancelled."""

    NONE = "none"  # nothing was charged
    DISPUTED = "disputed"  # the bank decides who gets it, so the shop does not pay it back
    PAID = "paid"  # so far: the bank may send it back later
    FAILED = "failed"  # a person pays it back another way


BY_CUSTOMER = "cancelled-by-customer"
NOT_COMPLETED = "order-not-completed"

# A part of an order's number is looked for from this length on: what is shorter is rather the
# beginning of a word, and stands in many numbers by chance.
_MIN_NUMBER_LENGTH = 4

# What an attempt's history says when the request that placed it was answered with the refusal.
ANSWERED = "answered"
# What the customer is told of an attempt that was not answered so.
_NOT_PLACED = "not-placed"
# What the customer is told, after the rest, of money that was paid back and has not arrived.
_REFUND_FAILED = "refund-failed"
_MONEY_STAYED_AWAY = "refund failed"  # in the history, when that was found out later
EVENT_KINDS = tuple(
    f"order-{outcome}"
    for outcome in (
        OrderState.CONFIRMED.value,
        OrderState.CANCELLED.value,
        _NOT_PLACED,
        _REFUND_FAILED,
    )
)

# The entry of the history that a message is as old as, where it has another name.
_MOMENTS_OF: Mapping[str, tuple[str, ...]] = {
    _NOT_PLACED: (OrderState.CANCELLED.value,),
    _REFUND_FAILED: (OrderState.CANCELLED.value, _MONEY_STAYED_AWAY),
}


class Line(Document):
    """A quantity of one product at the price it was sold for."""

    product_id: str
    name: str
    quantity: int
    unit_price_cents: int
    weight_grams: int

    @property
    def total_cents(self) -> int:
        """The price of the line."""
        return self.quantity * self.unit_price_cents

    @property
    def total_grams(self) -> int:
        """The weight of the line."""
        return self.quantity * self.weight_grams


class Contact(Document):
    """How to reach the customer."""

    name: str
    email: str


class Reason(Document):
    """Why an order was cancelled: the error that refused it."""

    kind: Kind
    code: str
    detail: str
    fields: Mapping[str, str] = {}


class Moment(Document):
    """An entry of the order's history."""

    at_ms: int
    what: str


@dataclass(frozen=True, slots=True)
class PlaceOrder:
    """The command to place an order, or to find the one that its key already stands for.

    :ivar fingerprint: tells two requests under one key apart.
    :ivar quantities: by product id.
    :ivar expected_total_cents: what the customer was shown, if anything.
    """

    user_id: str
    idempotency_key: str
    fingerprint: str
    quantities: Mapping[str, int]
    address: AddressFields
    shipping_service: str
    payment_method: str
    expected_total_cents: int | None = None

    @property
    def order_id(self) -> str:
        """The id of the order that it stands for."""
        return order_id_for(self.user_id, self.idempotency_key)


class OrderChanges(OutboxChanges, total=False):
    """What changes of an order: never what was bought, by whom, or for how much."""

    state: OrderState
    step: Step | None
    reason: Reason | None
    owner: str
    begun_again: bool
    open_since_ms: int | None
    refund_look_ms: int | None
    refund_failed: bool
    refund_disputed: bool
    history: tuple[Moment, ...]


class Order(Outbox):
    """One order, with the state of its checkout. All times are Unix milliseconds.

    `owner` names the process that drives the order; nobody does while it is empty. Every change of
    the document renews the owner's lease (see :mod:`services.common.background.stall_detector`).

    `begun_again` says that the order was captured and then met a final refusal, since a store was
    restored from an older copy: it goes through earlier steps once more. A second refusal turns it
    back, with everything to undo, the charge included.

    `open_since_ms` is absent once the order is settled and its customer told, so that the index on
    it holds just the unfinished ones.

    `refund_look_ms` is when `payment` is asked again what has become of a refund; absent when it is
    not any more. `refund_failed` says that the money has not reached the customer,
    `refund_disputed` that the charge was disputed before it could be paid back.
    """

    id: str
    user_id: str
    fingerprint: str
    contact: Contact
    address: AddressFields
    lines: tuple[Line, ...]
    shipping_service: str
    shipping_cents: int
    currency: str
    payment_method: str
    created_ms: int
    state: OrderState = OrderState.WORKING
    step: Step | None = Step.RESERVE
    reason: Reason | None = None
    owner: str = ""
    begun_again: bool = False
    open_since_ms: int | None = None
    refund_look_ms: int | None = None
    refund_failed: bool = False
    refund_disputed: bool = False
    history: tuple[Moment, ...] = ()
    request_id: str = ""
    trace: Mapping[str, str] = {}

    @property
    def items_cents(self) -> int:
        """The price of all lines."""
        return sum(line.total_cents for line in self.lines)

    @property
    def total_cents(self) -> int:
        """What the customer pays."""
        return self.items_cents + self.shipping_cents

    @property
    def weight_grams(self) -> int:
        """The weight of the parcel's contents."""
        return sum(line.total_grams for line in self.lines)

    @property
    def is_settled(self) -> bool:
        """Whether the order has reached an end state."""
        return self.step is None

    @property
    def was_confirmed(self) -> bool:
        """Whether the order has been confirmed at some time."""
        return any(moment.what == OrderState.CONFIRMED for moment in self.history)

    @property
    def is_attempt(self) -> bool:
        """Whether it ended without ever having been confirmed: no order was placed. Nothing stays
        charged for it, though something may have been charged and paid back.
        """
        return self.state is OrderState.CANCELLED and not self.was_confirmed

    @property
    def was_answered(self) -> bool:
        """Whether the customer has the refusal of this attempt as an answer: no message is due."""
        return any(moment.what == ANSWERED for moment in self.history)

    @property
    def recipient(self) -> Recipient:
        """Whom to tell about the order."""
        return Recipient(user_id=self.user_id, name=self.contact.name, email=self.contact.email)

    def changed(self, **to: Unpack[OrderChanges]) -> Self:
        return self._changed(to)

    def and_then(self, what: str, at_ms: int) -> Self:
        """The order with one more entry in its history."""
        return self.changed(history=(*self.history, Moment(at_ms=at_ms, what=what)))


def order_id_for(user_id: str, idempotency_key: str) -> str:
    """The id of the order that a user's key stands for: the same key is the same document, in any
    process.
    """
    digest = hashlib.sha256(f"{user_id}\n{idempotency_key}".encode()).digest()
    return "ord_" + base64.b32encode(digest[:15]).decode().lower()


def fingerprint_of(body: BaseModel, *, without: frozenset[str] = frozenset()) -> str:
    """Tells two request bodies under one key apart.

    :param without: fields that say nothing of what is ordered.
    """
    ordered = body.model_dump(mode="json", exclude=set(without))
    return hashlib.sha256(orjson.dumps(ordered, option=orjson.OPT_SORT_KEYS)).hexdigest()


def check_total(order: Order, expected_total_cents: int | None) -> None:
    """Returns when the order costs no more than its customer was shown.

    :raises ShopError: CONFLICT, with both totals.
    """
    if expected_total_cents is None or order.total_cents <= expected_total_cents:
        return
    raise ShopError(
        Kind.CONFLICT,
        error_codes.TOTAL_CHANGED,
        "The order costs more than you were shown. Nothing was ordered.",
        fields={
            "expected_total_cents": str(expected_total_cents),
            "total_cents": str(order.total_cents),
            "currency": order.currency,
        },
    )


def placed(
    command: PlaceOrder,
    *,
    contact: Contact,
    lines: tuple[Line, ...],
    shipping_cents: int,
    currency: str,
    now_ms: int,
    request_id: str,
    trace: Mapping[str, str],
) -> Order:
    """A new order at the shop's prices."""
    return Order(
        id=command.order_id,
        user_id=command.user_id,
        fingerprint=command.fingerprint,
        contact=contact,
        address=command.address,
        lines=lines,
        shipping_service=command.shipping_service,
        shipping_cents=shipping_cents,
        currency=currency,
        payment_method=command.payment_method,
        created_ms=now_ms,
        open_since_ms=now_ms,
        history=(Moment(at_ms=now_ms, what="placed"),),
        request_id=request_id,
        trace=trace,
    )


def owned(order: Order, owner: str) -> Order:
    """The order in the hands of one process; in nobody's for an empty name."""
    return order.changed(owner=owner)


def step_done(order: Order, now_ms: int, refund: RefundStatus) -> Order:
    """After the effect of the order's step.

    :param refund: what the step has found out about the customer's money.
    """
    assert order.step is not None
    return order.and_then(order.step.value, now_ms).changed(
        refund_look_ms=now_ms if refund is RefundStatus.PAID else order.refund_look_ms,
        refund_failed=order.refund_failed or refund is RefundStatus.FAILED,
        refund_disputed=order.refund_disputed or refund is RefundStatus.DISPUTED,
    )


def at_step(order: Order, step: Step) -> Order:
    """The order before that step."""
    return order.changed(step=step)


def settled(order: Order, state: OrderState, now_ms: int) -> Order:
    """The order in an end state, with the message that says so."""
    ended = order.and_then(state.value, now_ms).changed(state=state, step=None)
    outcomes = [_NOT_PLACED if ended.is_attempt else state.value]
    outcomes += [_REFUND_FAILED] if ended.refund_failed else []
    events = [_event(ended, outcome) for outcome in outcomes]
    return ended.changed(events=(*order.events, *events))


def begun_again(order: Order, step: Step, error: ShopError, now_ms: int) -> Order:
    """A paid order whose step was refused, once more from an earlier one on."""
    again = order.and_then(f"{_refusal(order, error)}; begun again", now_ms)
    return again.changed(step=step, begun_again=True)


def turned_back(order: Order, step: Step, error: ShopError, reason: Reason, now_ms: int) -> Order:
    """The order on its way back, from that step on, since its own was refused."""
    back = order.and_then(_refusal(order, error), now_ms)
    return back.changed(state=OrderState.CANCELLING, step=step, reason=reason)


def kept(order: Order, error: ShopError, now_ms: int) -> Order:
    """The order stands, since its parcel cannot be recalled. One that was never confirmed is now,
    with the message that says so.
    """
    stands = order.and_then(_refusal(order, error), now_ms).changed(reason=None)
    if not is_customers_wish(order):
        return settled(stands, OrderState.CONFIRMED, now_ms)
    return _closed_if_done(stands.changed(state=OrderState.CONFIRMED, step=None))


def refund_looked_at(order: Order, refund: RefundStatus, now_ms: int) -> Order:
    """After `payment` was asked again about the money of a cancelled order: with a message to its
    customer once the refund has failed.
    """
    if refund is RefundStatus.FAILED:
        failed = order.and_then(_MONEY_STAYED_AWAY, now_ms).changed(
            refund_failed=True, refund_look_ms=None, open_since_ms=now_ms, owner=""
        )
        return failed.changed(events=(*order.events, _event(failed, _REFUND_FAILED)))
    since_ms = max(
        (moment.at_ms for moment in order.history if moment.what == Step.REFUND), default=now_ms
    )
    return order.changed(refund_look_ms=next_look_ms(since_ms, now_ms))


def cancelled_by_customer(order: Order, now_ms: int) -> Order:
    """A confirmed order on its way back.

    :raises ShopError: CONFLICT, when the order is not confirmed (yet, or any more).
    """
    if order.state is OrderState.WORKING:
        raise in_progress()
    if order.state is not OrderState.CONFIRMED:
        raise ShopError(Kind.CONFLICT, "order-cancelled", "This order is cancelled already.")
    wish = Reason(kind=Kind.CONFLICT, code=BY_CUSTOMER, detail="You asked us to cancel it.")
    return order.and_then("cancel requested", now_ms).changed(
        state=OrderState.CANCELLING, step=Step.RECALL, open_since_ms=now_ms, reason=wish
    )


def is_customers_wish(order: Order) -> bool:
    """Whether the customer has asked for its cancellation."""
    return order.reason is not None and order.reason.code == BY_CUSTOMER


def is_about(order: Order, query: str) -> bool:
    """Whether a customer may mean the order: by (a part of) its number, or by the words in the name
    of one of its products.
    """
    text = query.casefold().strip()
    if len(text) >= _MIN_NUMBER_LENGTH and text in order.id:
        return True
    words = text.split()
    return any(all(word in line.name.casefold() for word in words) for line in order.lines)


def in_progress() -> ShopError:
    """The order can be cancelled only when it is settled."""
    return ShopError(
        Kind.CONFLICT,
        "order-in-progress",
        "This order is still being processed.",
        retry_after_seconds=2,
    )


def repeats_refusal(order: Order) -> bool:
    """Whether the next event only says that the order was not placed, and why."""
    return order.is_attempt and order.events[0].kind == f"order-{_NOT_PLACED}"


def answered(order: Order, now_ms: int) -> Order:
    """An attempt whose customer has the refusal as an answer: no message needs to repeat it."""
    return _closed_if_done(order.with_first_event_taken().and_then(ANSWERED, now_ms))


def delivered(order: Order) -> Order:
    """After `notification` has taken the first event."""
    return _closed_if_done(order.with_first_event_taken())


def undeliverable(order: Order) -> Order:
    """After `notification` has refused the first event for good."""
    return _closed_if_done(order.with_first_event_refused())


def message_waits_since_ms(order: Order) -> int | None:
    """Since when the oldest message to the order's customer waits; None when none does. One that is
    told again waits since then.
    """
    if not order.events:
        return None
    outcome = order.events[0].kind.removeprefix("order-")
    moments = _MOMENTS_OF.get(outcome, (outcome,))
    written_ms = (moment.at_ms for moment in order.history if moment.what in moments)
    return max(*written_ms, order.open_since_ms or 0, 0)


def told_again(order: Order, now_ms: int) -> Order:
    """The order with the events of its past waiting once more; the same where all of them wait
    anyway.
    """
    past = [OrderState.CONFIRMED.value] if order.was_confirmed else []
    if order.is_attempt:
        past += [] if order.was_answered else [_NOT_PLACED]
    elif order.state is OrderState.CANCELLED:
        past.append(OrderState.CANCELLED.value)
    past += [_REFUND_FAILED] if order.refund_failed and order.is_settled else []
    again = order.with_events_again(_event(order, outcome) for outcome in past)
    return order if again == order else again.changed(open_since_ms=order.open_since_ms or now_ms)


def _closed_if_done(order: Order) -> Order:
    if order.is_settled and not order.events:
        return order.changed(open_since_ms=None)
    return order


def _refusal(order: Order, error: ShopError) -> str:
    assert order.step is not None
    return f"{order.step.value} refused: {error.code}"


def _event(order: Order, outcome: str) -> Event:
    reason = order.reason.detail if order.reason and outcome != OrderState.CONFIRMED else ""
    refund: dict[str, str] = {}
    if order.refund_failed:
        refund = {"refund": RefundStatus.FAILED.value}
    elif order.refund_disputed:
        refund = {"refund": RefundStatus.DISPUTED.value}
    return Event(
        id=f"{order.id}:{outcome}",
        kind=f"order-{outcome}",
        facts={
            "order_id": order.id,
            "total_cents": str(order.total_cents),
            "currency": order.currency,
            "reason": reason,
            **refund,
        },
    )
