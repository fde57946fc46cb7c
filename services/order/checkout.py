"""The checkout: a saga of keyed steps, declared in one list.

An order goes forward through CHECKOUT. When a step is refused, the order goes back through
WAY_BACK, beginning with the undo of the refused step, whose effect may have happened despite the
refusal. :mod:`.saga` drives it, and docs/checkout.md explains why no order is lost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from services.common import error_codes
from services.common.errors import Kind, ShopError, may_succeed_later
from services.order import model
from services.order.clients import Inventory, PaymentGateway, Shipping
from services.order.model import NOT_COMPLETED, Order, OrderState, Reason, RefundStatus, Step


class Callees(NamedTuple):
    """Whom the steps call."""

    inventory: Inventory
    payments: PaymentGateway
    shipping: Shipping


Effect = Callable[[Callees, Order], Awaitable[RefundStatus | None]]


class Outage(Enum):
    """What it means that a step's callee is away for longer than an order may wait."""

    TURNS_BACK = auto()
    IS_WAITED_OUT = auto()  # the customer may have paid


@dataclass(frozen=True, slots=True)
class Forward:
    """A step towards the confirmed order.

    :ivar effect: is keyed by the order's id, so doing it again changes nothing.
    :ivar undo: the step back that undoes the effect, and fences one that did not happen yet.
    :ivar expected: refusals that turn the order back, and that its customer is told. Any other
        means that a store was restored from an older copy: a person must look.
    :ivar begins_again_at: where the order goes once more after such a refusal, the first time: to
        the step without which this one cannot be done.
    """

    step: Step
    effect: Effect
    undo: Step
    outage: Outage
    expected: frozenset[Kind] = frozenset()
    begins_again_at: Step | None = None


@dataclass(frozen=True, slots=True)
class Backward:
    """A step back. Whatever fails, it is done again until it succeeds; only a parcel that cannot be
    recalled (CONFLICT) keeps the order as it is.

    :ivar effect: is keyed, and leaves a fence where there is nothing to undo.
    """

    step: Step
    effect: Effect


_ANY_REFUSAL = frozenset(Kind)

CHECKOUT = (
    Forward(
        Step.RESERVE,
        lambda to, order: to.inventory.reserve(order),
        undo=Step.RELEASE,
        outage=Outage.TURNS_BACK,
        expected=_ANY_REFUSAL,
    ),
    Forward(
        Step.AUTHORIZE,
        lambda to, order: to.payments.authorize(order),
        undo=Step.REFUND,
        outage=Outage.TURNS_BACK,
        expected=_ANY_REFUSAL,
    ),
    Forward(
        Step.SHIP,
        lambda to, order: to.shipping.prepare(order),
        undo=Step.RECALL,
        outage=Outage.TURNS_BACK,
        expected=_ANY_REFUSAL,
    ),
    Forward(
        Step.CAPTURE,
        lambda to, order: to.payments.capture(order),
        undo=Step.REFUND,
        outage=Outage.IS_WAITED_OUT,
        expected=frozenset({Kind.DECLINED}),
    ),
    Forward(
        Step.COMMIT,
        lambda to, order: to.inventory.commit(order),
        undo=Step.RELEASE,
        outage=Outage.IS_WAITED_OUT,
        begins_again_at=Step.RESERVE,
    ),
    Forward(
        Step.DISPATCH,
        lambda to, order: to.shipping.dispatch(order),
        undo=Step.RECALL,
        outage=Outage.IS_WAITED_OUT,
        begins_again_at=Step.SHIP,
    ),
)

WAY_BACK = (
    Backward(Step.RECALL, lambda to, order: to.shipping.recall(order)),
    Backward(Step.REFUND, lambda to, order: to.payments.cancel(order)),
    Backward(Step.RELEASE, lambda to, order: to.inventory.release(order)),
)

FORWARD = tuple(each.step for each in CHECKOUT)
BACKWARD = tuple(each.step for each in WAY_BACK)
_FORWARD: Mapping[Step, Forward] = {each.step: each for each in CHECKOUT}
_EFFECTS: Mapping[Step, Effect] = {each.step: each.effect for each in (*CHECKOUT, *WAY_BACK)}


class Verdict(Enum):
    """What the failure of a step leads to."""

    AGAIN = auto()  # the same step is done again
    GIVE_UP = auto()  # on the way back, since a part of the shop was away for too long
    TURN_BACK = auto()  # on the way back, for the reason of the refusal
    BEGIN_AGAIN = auto()  # once more through earlier steps
    KEEP = auto()  # the order stands


async def do(step: Step, callees: Callees, order: Order) -> RefundStatus:
    """Does the effect of a step; returns what it has found out about the customer's money.

    :raises ShopError: it was refused, or it is not known whether it happened.
    """
    return await _EFFECTS[step](callees, order) or RefundStatus.NONE


def succeeded(order: Order, now_ms: int, refund: RefundStatus = RefundStatus.NONE) -> Order:
    """After the effect of the order's step: before the next one, or at the end."""
    assert order.step is not None
    done = model.step_done(order, now_ms, refund)
    path = _path(order.step)
    following = path[path.index(order.step) + 1 :]
    if following:
        return model.at_step(done, following[0])
    end = OrderState.CONFIRMED if path is FORWARD else OrderState.CANCELLED
    return model.settled(done, end, now_ms)


def verdict(order: Order, error: ShopError, *, may_wait: bool) -> Verdict:
    """What it leads to that the order's step has failed.

    :param may_wait: whether an order that is not paid may still wait for an outage to end.
    """
    assert order.step is not None
    if order.step in BACKWARD:
        is_under_way = order.step is Step.RECALL and error.kind is Kind.CONFLICT
        return Verdict.KEEP if is_under_way else Verdict.AGAIN
    step = _FORWARD[order.step]
    if may_succeed_later(error):
        is_over = step.outage is Outage.TURNS_BACK and not (may_wait or order.begun_again)
        return Verdict.GIVE_UP if is_over else Verdict.AGAIN
    if step.begins_again_at is not None and not order.begun_again:
        return Verdict.BEGIN_AGAIN
    return Verdict.TURN_BACK


def failed(order: Order, error: ShopError, verdict: Verdict, now_ms: int) -> Order:
    """The order after its step has failed, as the verdict says."""
    assert order.step is not None
    match verdict:
        case Verdict.AGAIN:
            return order
        case Verdict.GIVE_UP:
            return _turned_back(order, _gave_up(), now_ms)
        case Verdict.TURN_BACK:
            return _turned_back(order, error, now_ms)
        case Verdict.BEGIN_AGAIN:
            step = _FORWARD[order.step].begins_again_at
            assert step is not None, "that is why it begins again"
            return model.begun_again(order, step, error, now_ms)
        case Verdict.KEEP:
            return model.kept(order, error, now_ms)


def is_alarming(order: Order, error: ShopError) -> bool:
    """Whether a step was refused for good that should not be: one of a paid order, or an undo. Then
    a store has lost what another one rests on, and a person must look.
    """
    if may_succeed_later(error) or order.step is None:
        return False
    if order.step is Step.RECALL and error.kind is Kind.CONFLICT:
        return not model.is_customers_wish(order)  # else the parcel is on its way, as it may be
    if order.begun_again or order.step in BACKWARD:
        return True
    return error.kind not in _FORWARD[order.step].expected


def steps_behind(order: Order) -> tuple[Step, ...]:
    """Returns the steps whose effects the order rests on, first to last."""
    is_forward = order.state in {OrderState.WORKING, OrderState.CONFIRMED}
    path = FORWARD if is_forward else BACKWARD
    return path if order.step is None else path[: path.index(order.step)]


def way_back_from(step: Step) -> Step:
    """The first undo of what is done by then, that step included."""
    done = FORWARD[: FORWARD.index(step) + 1]
    undos = {_FORWARD[each].undo for each in done}
    return next(each for each in BACKWARD if each in undos)


def _path(step: Step) -> tuple[Step, ...]:
    return FORWARD if step in FORWARD else BACKWARD


def _turned_back(order: Order, error: ShopError, now_ms: int) -> Order:
    assert order.step is not None
    # What has begun again was captured, so there is everything to undo.
    first = BACKWARD[0] if order.begun_again else way_back_from(order.step)
    return model.turned_back(order, first, error, _reason(order, error), now_ms)


def _gave_up() -> ShopError:
    return ShopError(
        Kind.UNAVAILABLE,
        error_codes.CHECKOUT_UNAVAILABLE,
        "We could not complete your order because a part of the shop was unavailable. "
        "You were not charged.",
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
