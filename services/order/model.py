"""Orders: their documents, and the rules of the checkout saga as pure functions.

An order goes forward through FORWARD and, when something refuses, back through BACKWARD.
`Order.step` is stored before the step's effect, each effect is keyed by the order's id, and each
step back also undoes an effect whose answer was lost. So after a crash at any point the stored step
is simply done again.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from enum import StrEnum

import orjson
from pydantic import BaseModel, ConfigDict

from services.common import error_codes
from services.common.background.rechecks import next_look_ms
from services.common.documents import Collection, Index
from services.common.errors import Kind, ShopError, may_succeed_later
from services.common.fields import AddressFields

ORDERS = Collection(
    "orders",
    indexes=(
        Index("by_user", equal=("user_id",), order="created_ms"),
        Index("unfinished", order="open_since_ms"),
        Index("refunds", order="refund_look_ms"),
    ),
)


class State(StrEnum):
    """Where an order stands, for its customer."""

    WORKING = "working"
    CONFIRMED = "confirmed"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


class Step(StrEnum):
    """One effect of the saga."""

    RESERVE = "reserve"
    AUTHORIZE = "authorize"
    SHIP = "ship"
    CAPTURE = "capture"
    COMMIT = "commit"
    DISPATCH = "dispatch"
    RECALL = "recall"
    REFUND = "refund"
    RELEASE = "release"


class Refund(StrEnum):
    """What is known of the money of an order that is cancelled."""

    NONE = "none"  # nothing was charged
    DISPUTED = "disputed"  # the bank decides who gets it, so the shop does not pay it back
    PAID = "paid"  # so far: the bank may send it back later
    FAILED = "failed"  # a person pays it back another way


FORWARD = (Step.RESERVE, Step.AUTHORIZE, Step.SHIP, Step.CAPTURE, Step.COMMIT, Step.DISPATCH)
BACKWARD = (Step.RECALL, Step.REFUND, Step.RELEASE)

# Where the way back begins: with the undo of the step that was refused, since its effect may have
# happened.
_UNDO_FROM: Mapping[Step, Step] = {
    Step.RESERVE: Step.RELEASE,
    Step.AUTHORIZE: Step.REFUND,
    Step.SHIP: Step.RECALL,
    Step.CAPTURE: Step.RECALL,
}

# Where a paid order begins again when a later step is refused: with what makes that step possible.
# Every effect is keyed, so what still stands is not done a second time.
_BEGIN_AGAIN_FROM: Mapping[Step, Step] = {Step.COMMIT: Step.RESERVE, Step.DISPATCH: Step.SHIP}

# Once the capture may have happened, an outage is waited out: the customer has paid.
_MAY_GIVE_UP = frozenset({Step.RESERVE, Step.AUTHORIZE, Step.SHIP})

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
    for outcome in (State.CONFIRMED.value, State.CANCELLED.value, _NOT_PLACED, _REFUND_FAILED)
)

# The entry of the history that a message is as old as, where it has another name.
_MOMENTS_OF: Mapping[str, tuple[str, ...]] = {
    _NOT_PLACED: (State.CANCELLED.value,),
    _REFUND_FAILED: (State.CANCELLED.value, _MONEY_STAYED_AWAY),
}


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True)


class Line(_Document):
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


class Contact(_Document):
    """Whom to tell about the order."""

    name: str
    email: str


class Reason(_Document):
    """Why an order was cancelled: the error that refused it."""

    kind: Kind
    code: str
    detail: str
    fields: Mapping[str, str] = {}


class Event(_Document):
    """Something `notification` is to be told; its id lets the receiver drop repetitions."""

    id: str
    kind: str
    facts: Mapping[str, str]


class Moment(_Document):
    """An entry of the order's history."""

    at_ms: int
    what: str


class Order(_Document):
    """One order, with the state of its saga. All times are Unix milliseconds.

    `owner` names the process that drives the order; nobody does while it is empty. Every change of
    the document renews the owner's lease (see :mod:`services.common.background.stall_detector`).

    `begun_again` says that the order was captured and then met a final refusal, since a store was
    restored from an older copy: it goes through earlier steps once more. A second refusal turns it
    back, with everything to undo, the charge included.

    `open_since_ms` is absent once the order is settled and its customer told, so that the index on
    it holds just the unfinished ones. `undelivered` has the events that `notification` refused.

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
    state: State = State.WORKING
    step: Step | None = Step.RESERVE
    reason: Reason | None = None
    owner: str = ""
    begun_again: bool = False
    open_since_ms: int | None = None
    events: tuple[Event, ...] = ()
    undelivered: tuple[Event, ...] = ()
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
        return sum(line.quantity * line.weight_grams for line in self.lines)

    @property
    def is_settled(self) -> bool:
        """Whether the order has reached an end state."""
        return self.step is None

    @property
    def was_confirmed(self) -> bool:
        """Whether the order has been confirmed at some time."""
        return any(moment.what == State.CONFIRMED for moment in self.history)

    @property
    def is_attempt(self) -> bool:
        """Whether it ended without ever having been confirmed: no order was placed. Nothing stays
        charged for it, though something may have been charged and paid back.
        """
        return self.state is State.CANCELLED and not self.was_confirmed

    @property
    def was_answered(self) -> bool:
        """Whether the customer has the refusal of this attempt as an answer: no message is due."""
        return any(moment.what == ANSWERED for moment in self.history)


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


def owned(order: Order, owner: str) -> Order:
    """The order in the hands of one process; in nobody's for an empty name."""
    return order.model_copy(update={"owner": owner})


def succeeded(order: Order, now_ms: int, refund: Refund = Refund.NONE) -> Order:
    """After the effect of the order's step: on to the next one, or to the end.

    :param refund: what the step has found out about the customer's money.
    """
    assert order.step is not None
    done = order.model_copy(
        update={
            "history": (*order.history, Moment(at_ms=now_ms, what=order.step.value)),
            "refund_look_ms": now_ms if refund is Refund.PAID else order.refund_look_ms,
            "refund_failed": order.refund_failed or refund is Refund.FAILED,
            "refund_disputed": order.refund_disputed or refund is Refund.DISPUTED,
        }
    )
    path = FORWARD if order.step in FORWARD else BACKWARD
    following = path[path.index(order.step) + 1 :]
    if following:
        return done.model_copy(update={"step": following[0]})
    if path is FORWARD:
        return _settled(done, State.CONFIRMED, now_ms)
    return _settled(done, State.CANCELLED, now_ms)


def failed(order: Order, error: ShopError, now_ms: int, *, may_wait: bool) -> Order:
    """After the order's step has failed: on the way back, or the very same order when the step is
    to be done again.

    :param may_wait: whether an order that is not paid may still wait for an outage to end.
    """
    assert order.step is not None
    if order.step in BACKWARD:
        if order.step is Step.RECALL and error.kind is Kind.CONFLICT:
            return _recall_refused(order, error, now_ms)
        return order
    if may_succeed_later(error):
        if may_wait or order.begun_again or order.step not in _MAY_GIVE_UP:
            return order
        gave_up = ShopError(
            Kind.UNAVAILABLE,
            "checkout-unavailable",
            "We could not complete your order because a part of the shop was unavailable. "
            "You were not charged.",
        )
        return _turned_back(order, gave_up, now_ms)
    if order.step in _BEGIN_AGAIN_FROM and not order.begun_again:
        return _begun_again(order, error, now_ms)
    return _turned_back(order, error, now_ms)


def refund_looked_at(order: Order, refund: Refund, now_ms: int) -> Order:
    """After `payment` was asked again about the money of a cancelled order: with a message to its
    customer once the refund has failed.
    """
    if refund is Refund.FAILED:
        failed_now = order.model_copy(
            update={
                "refund_failed": True,
                "refund_look_ms": None,
                "open_since_ms": now_ms,
                "owner": "",
                "history": (*order.history, Moment(at_ms=now_ms, what=_MONEY_STAYED_AWAY)),
            }
        )
        event = _event(failed_now, _REFUND_FAILED)
        return failed_now.model_copy(update={"events": (*order.events, event)})
    since_ms = max(
        (moment.at_ms for moment in order.history if moment.what == Step.REFUND), default=now_ms
    )
    return order.model_copy(update={"refund_look_ms": next_look_ms(since_ms, now_ms)})


def is_alarming(order: Order, error: ShopError) -> bool:
    """Whether a step was refused for good that should not be: one of a paid order, or an undo. Then
    a store has lost what another one rests on, and a person must look.
    """
    if may_succeed_later(error) or order.step is None:
        return False
    if order.step is Step.RECALL and error.kind is Kind.CONFLICT:
        return not _is_customers_wish(order)  # else the parcel is on its way, as it may be
    if order.step is Step.CAPTURE and error.kind is not Kind.DECLINED:
        return True  # it was authorized
    return order.begun_again or order.step in _BEGIN_AGAIN_FROM or order.step in BACKWARD


def cancelled_by_customer(order: Order, now_ms: int) -> Order:
    """A confirmed order on its way back.

    :raises ShopError: CONFLICT, when the order is not confirmed (yet, or any more).
    """
    if order.state is State.WORKING:
        raise in_progress()
    if order.state is not State.CONFIRMED:
        raise ShopError(Kind.CONFLICT, "order-cancelled", "This order is cancelled already.")
    return order.model_copy(
        update={
            "state": State.CANCELLING,
            "step": Step.RECALL,
            "open_since_ms": now_ms,
            "reason": Reason(
                kind=Kind.CONFLICT, code=BY_CUSTOMER, detail="You asked us to cancel it."
            ),
            "history": (*order.history, Moment(at_ms=now_ms, what="cancel requested")),
        }
    )


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
    return _closed_if_done(
        order.model_copy(
            update={
                "events": order.events[1:],
                "history": (*order.history, Moment(at_ms=now_ms, what=ANSWERED)),
            }
        )
    )


def delivered(order: Order) -> Order:
    """After `notification` has taken the first event."""
    return _closed_if_done(order.model_copy(update={"events": order.events[1:]}))


def undeliverable(order: Order) -> Order:
    """After `notification` has refused the first event for good: others must not wait for it."""
    return _closed_if_done(
        order.model_copy(
            update={
                "events": order.events[1:],
                "undelivered": (*order.undelivered, order.events[0]),
            }
        )
    )


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


def steps_behind(order: Order) -> tuple[Step, ...]:
    """Returns the steps whose effects the order rests on, first to last."""
    is_forward = order.state in {State.WORKING, State.CONFIRMED}
    path = FORWARD if is_forward else BACKWARD
    return path if order.step is None else path[: path.index(order.step)]


def told_again(order: Order, now_ms: int) -> Order:
    """Returns the order with the events of its past waiting once more, for a `notification` that
    has lost some: those that it knows it drops. The very same order where all of them wait anyway.
    """
    past = [State.CONFIRMED.value] if order.was_confirmed else []
    if order.is_attempt:
        past += [] if order.was_answered else [_NOT_PLACED]
    elif order.state is State.CANCELLED:
        past.append(State.CANCELLED.value)
    past += [_REFUND_FAILED] if order.refund_failed and order.is_settled else []
    waiting = {event.id for event in order.events}
    again = [event for outcome in past if (event := _event(order, outcome)).id not in waiting]
    if not again:
        return order
    return order.model_copy(
        update={
            "events": (*again, *order.events),
            "open_since_ms": order.open_since_ms or now_ms,
        }
    )


def retry_delay_seconds(failures: int) -> float:
    """The pause before the next attempt of a step: doubling from 0.1 to 2 seconds."""
    return min(2.0, 0.05 * 2 ** min(failures, 10))


def rest_seconds(rounds: int) -> float:
    """How long an order rests whose step is refused for good: doubling from 4 seconds to 5 minutes.

    :param rounds: how often it was put down for that in a row, at least once.
    """
    return min(300.0, 2.0 * 2 ** min(rounds, 10))


def _closed_if_done(order: Order) -> Order:
    if order.is_settled and not order.events:
        return order.model_copy(update={"open_since_ms": None})
    return order


def _begun_again(order: Order, error: ShopError, now_ms: int) -> Order:
    assert order.step is not None
    what = f"{order.step.value} refused: {error.code}; begun again"
    return order.model_copy(
        update={
            "step": _BEGIN_AGAIN_FROM[order.step],
            "begun_again": True,
            "history": (*order.history, Moment(at_ms=now_ms, what=what)),
        }
    )


def _turned_back(order: Order, error: ShopError, now_ms: int) -> Order:
    assert order.step is not None
    return order.model_copy(
        update={
            "state": State.CANCELLING,
            "step": Step.RECALL if order.begun_again else _UNDO_FROM[order.step],
            "reason": _reason(order, error),
            "history": (
                *order.history,
                Moment(at_ms=now_ms, what=f"{order.step.value} refused: {error.code}"),
            ),
        }
    )


def _reason(order: Order, error: ShopError) -> Reason:
    """What to tell the customer. Why a paid order cannot be completed is the shop's own matter; its
    history says it.
    """
    if not is_alarming(order, error):
        return Reason(
            kind=error.kind, code=error.code, detail=error.detail, fields=dict(error.fields)
        )
    return Reason(
        kind=Kind.CONFLICT,
        code=NOT_COMPLETED,
        detail="We could not complete your order. Whatever was charged for it is paid back.",
    )


def _is_customers_wish(order: Order) -> bool:
    return order.reason is not None and order.reason.code == BY_CUSTOMER


def _recall_refused(order: Order, error: ShopError, now_ms: int) -> Order:
    """The order stands, since its parcel is on its way. One that was never confirmed is now, with
    the message that says so.
    """
    moment = Moment(at_ms=now_ms, what=f"recall refused: {error.code}")
    stands = order.model_copy(update={"reason": None, "history": (*order.history, moment)})
    if not _is_customers_wish(order):
        return _settled(stands, State.CONFIRMED, now_ms)
    return _closed_if_done(stands.model_copy(update={"state": State.CONFIRMED, "step": None}))


def _settled(order: Order, state: State, now_ms: int) -> Order:
    settled = order.model_copy(
        update={
            "state": state,
            "step": None,
            "history": (*order.history, Moment(at_ms=now_ms, what=state.value)),
        }
    )
    outcomes = [_NOT_PLACED if settled.is_attempt else state.value]
    outcomes += [_REFUND_FAILED] if settled.refund_failed else []
    events = [_event(settled, outcome) for outcome in outcomes]
    return settled.model_copy(update={"events": (*order.events, *events)})


def _event(order: Order, outcome: str) -> Event:
    reason = order.reason.detail if order.reason and outcome != State.CONFIRMED else ""
    refund: dict[str, str] = {}
    if order.refund_failed:
        refund = {"refund": Refund.FAILED.value}
    elif order.refund_disputed:
        refund = {"refund": Refund.DISPUTED.value}
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
