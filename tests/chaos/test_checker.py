"""The checker must be able to fail: each kind of wrong is put into a run where all is right."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from services.audit.invariants import violations_of_order
from services.audit.snapshot import LedgerIntent, LedgerRefund
from services.inventory.model import Reservation, ReservationState, Stock, Ticket
from services.order.model import Order, OrderState
from services.payment.model import PaymentState
from services.shipping.model import ShipmentState
from tests.chaos.checker import details_of, violations
from tests.chaos.checkout import SCARCE, Behaviour
from tests.chaos.history import Action, Op
from tests.chaos.valid_run import ValidRun

_CHECKOUTS = 150
_CONFIRMED, _DECLINED, _BY_CUSTOMER = "confirmed", "card-declined", "cancelled-by-customer"


@pytest.fixture
def run() -> ValidRun:
    return ValidRun(_CHECKOUTS)


def test_a_valid_run_has_no_violations(run: ValidRun) -> None:
    assert list(violations(run.evidence())) == []
    ends = {order.reason.code if order.reason else order.state for order in run.orders.values()}
    assert {_CONFIRMED, "out-of-stock", _DECLINED, _BY_CUSTOMER} <= ends


def _change(run: ValidRun, order: Order, **changes: object) -> None:
    run.orders[order.id] = order.model_copy(update=changes)


def _change_stock(run: ValidRun, **changes: object) -> str:
    product_id = next(iter(run.stock))
    run.stock[product_id] = run.stock[product_id].model_copy(update=changes)
    return product_id


def _pay(run: ValidRun, order: Order, state: PaymentState) -> None:
    run.payments[order.id] = run.payments[order.id].model_copy(update={"state": state})


def _ship(run: ValidRun, order: Order, state: ShipmentState) -> None:
    run.shipments[order.id] = run.shipments[order.id].model_copy(update={"state": state})


def _tell(
    run: ValidRun,
    order: Order,
    action: Action = Action.LOOK,
    status: int = 200,
    *,
    state: OrderState | None = None,
    reason: str | None = None,
    total_cents: int | None = None,
    order_id: str | None = None,
) -> None:
    """One more answer, after all others."""
    named = order_id or (order.id if state else None)
    op = Op(action, 100.0, 101.0, status, named, state, reason, total_cents)
    run.history.by_order[order.id].ops.append(op)


def _message(run: ValidRun, of: str, **changes: object) -> None:
    """One more message, like the one with that id but for some of it."""
    changed = run.messages[of].model_copy(update={"id": "x", **changes})
    run.messages["x"] = changed


def _not_answered(run: ValidRun, order: Order) -> None:
    _change(run, order, history=order.history[:-1])  # all but the answer


def _told_as_an_order(run: ValidRun, order: Order) -> None:
    _message(run, next(iter(run.messages)), order_id=order.id, kind="order-cancelled")


def _told_as_in_earlier_versions(run: ValidRun, order: Order) -> None:
    _told_as_an_order(run, order)
    _not_answered(run, order)


def _lost(run: ValidRun, order: Order) -> None:
    for documents in (run.orders, run.reservations, run.payments, run.intents):
        del documents[order.id]


def _another_body(run: ValidRun, order: Order) -> None:
    line, *rest = order.lines
    changes = {"quantity": 2 * line.quantity, "unit_price_cents": 500}
    _change(run, order, lines=(line.model_copy(update=changes), *rest))


def _cancelled_by_nobody(run: ValidRun, order: Order) -> None:
    own = run.history.by_order[order.id]
    own.ops = [op for op in own.ops if op.action is not Action.CANCEL]


# How the order has ended, what the checker says, and what is done to it.
_OF_AN_ORDER: Mapping[str, tuple[str, str, Callable[[ValidRun, Order], object]]] = {
    "not settled": (
        _CONFIRMED,
        "ended working",
        lambda run, it: _change(run, it, state=OrderState.WORKING),
    ),
    "nothing reserved": (
        _CONFIRMED,
        "its reservation is missing",
        lambda run, it: run.reservations.pop(it.id),
    ),
    "still reserved": (
        _DECLINED,
        "its reservation is",
        lambda run, it: run.reservations.update(
            {it.id: Reservation(id=it.id, state=ReservationState.HELD)}
        ),
    ),
    "not captured": (
        _CONFIRMED,
        "its payment is",
        lambda run, it: _pay(run, it, PaymentState.AUTHORIZED),
    ),
    "not voided": (
        _DECLINED,
        "its payment is",
        lambda run, it: _pay(run, it, PaymentState.AUTHORIZED),
    ),
    "charged twice": (
        _CONFIRMED,
        "not once",
        lambda run, it: run.intents[it.id].append(
            LedgerIntent("pi_2", "succeeded", it.total_cents, 0, it.total_cents)
        ),
    ),
    "charged another amount": (
        _CONFIRMED,
        "not once",
        lambda run, it: run.intents.update({it.id: [LedgerIntent("pi_2", "succeeded", 1, 0, 1)]}),
    ),
    "refunded although confirmed": (
        _CONFIRMED,
        "100 cents were refunded",
        lambda run, it: run.refunds.update({run.intents[it.id][0].id: [LedgerRefund("re_1", 100)]}),
    ),
    "not refunded": (
        _BY_CUSTOMER,
        "0 refunded",
        lambda run, it: run.refunds.pop(run.intents[it.id][0].id),
    ),
    "money set aside": (
        _DECLINED,
        "still holds 100 cents",
        lambda run, it: run.intents[it.id].append(
            LedgerIntent("pi_2", "requires_capture", 100, 100, 0)
        ),
    ),
    "not shipped": (
        _CONFIRMED,
        "its shipment is missing",
        lambda run, it: run.shipments.pop(it.id),
    ),
    "shipped although cancelled": (
        _BY_CUSTOMER,
        "its shipment is dispatched",
        lambda run, it: _ship(run, it, ShipmentState.DISPATCHED),
    ),
    "not delivered": (
        _CONFIRMED,
        "its parcel got no further than out-for-delivery",
        lambda run, it: _ship(run, it, ShipmentState.OUT_FOR_DELIVERY),
    ),
    "message missing": (
        _CONFIRMED,
        "its messages are",
        lambda run, it: run.messages.pop(f"{it.id}:confirmed"),
    ),
    "message twice": (
        _CONFIRMED,
        "its messages are",
        lambda run, it: _message(run, f"{it.id}:confirmed"),
    ),
    "delivery not told": (
        _CONFIRMED,
        "its messages are",
        lambda run, it: run.messages.pop(f"{it.id}:delivered"),
    ),
    "attempt not told": (_DECLINED, "its messages are none, not order-not-placed", _not_answered),
    "attempt told as in earlier versions": (
        _DECLINED,
        "but told as an order",
        _told_as_in_earlier_versions,
    ),
    "attempt told as an order": (
        _DECLINED,
        "its messages are order-cancelled, not none",
        _told_as_an_order,
    ),
    "lost": (_DECLINED, "there is no such order, but its customer was told", _lost),
    "nobody's": (
        _CONFIRMED,
        "nobody has asked for",
        lambda run, it: run.history.by_order.pop(it.id),
    ),
    "another order named": (
        _CONFIRMED,
        "names another order",
        lambda run, it: _tell(run, it, state=OrderState.CONFIRMED, order_id="ord_x"),
    ),
    "another body placed": (_CONFIRMED, "but asked for", _another_body),
    "a declined card paid": (
        _DECLINED,
        "which is always declined",
        lambda run, it: _change(run, it, state=OrderState.CONFIRMED, reason=None),
    ),
    "cancelled by nobody": (
        _BY_CUSTOMER,
        "nothing explains why it was cancelled",
        _cancelled_by_nobody,
    ),
    "told confirmed, but declined": (
        _DECLINED,
        "its customer was told",
        lambda run, it: _tell(run, it, state=OrderState.CONFIRMED),
    ),
    "told another reason": (
        _DECLINED,
        "its customer was told",
        lambda run, it: _tell(run, it, state=OrderState.CANCELLED, reason="out-of-stock"),
    ),
    "told cancelled, but confirmed": (
        _CONFIRMED,
        "its customer was told",
        lambda run, it: _tell(run, it, state=OrderState.CANCELLED, reason="out-of-stock"),
    ),
    "told declined, but confirmed": (
        _CONFIRMED,
        "its customer was told",
        lambda run, it: _tell(run, it, Action.PLACE, 402, reason=_DECLINED, order_id=it.id),
    ),
    "told too late, but cancelled": (
        _BY_CUSTOMER,
        "its customer was told",
        lambda run, it: _tell(run, it, Action.CANCEL, 409, reason="shipment-under-way"),
    ),
    "told another total": (
        _CONFIRMED,
        "cents, but its customer was told",
        lambda run, it: _tell(run, it, state=OrderState.CONFIRMED, total_cents=1),
    ),
    "went back from confirmed": (
        _CONFIRMED,
        "it went back",
        lambda run, it: _tell(run, it, state=OrderState.WORKING),
    ),
    "went back from cancelled": (
        _BY_CUSTOMER,
        "it went back",
        lambda run, it: _tell(run, it, state=OrderState.CANCELLING, reason=_BY_CUSTOMER),
    ),
    "key refused for the same": (
        _CONFIRMED,
        "an answer that nothing explains",
        lambda run, it: _tell(run, it, Action.PLACE, 422, reason="idempotency-key-reused"),
    ),
    "not found": (
        _CONFIRMED,
        "an answer that nothing explains",
        lambda run, it: _tell(run, it, status=404, reason="unknown-order"),
    ),
}


@pytest.mark.parametrize(("ended", "sentence", "corrupt"), _OF_AN_ORDER.values(), ids=_OF_AN_ORDER)
def test_what_is_wrong_with_an_order_is_found(
    ended: str, sentence: str, corrupt: Callable[[ValidRun, Order], object], run: ValidRun
) -> None:
    order = run.order_that(ended)
    corrupt(run, order)

    found = list(violations(run.evidence()))

    assert [v for v in found if v.subject == order.id and sentence in v.what], found


def _less_than_nothing(run: ValidRun) -> str:
    product_id = next(iter(run.stock))
    stock = run.stock[product_id]
    run.stock[product_id] = Stock.model_construct(
        id=stock.id, available=-1, sold=stock.sold + stock.available + 1
    )
    return product_id


def _sold_without_order(run: ValidRun) -> str:
    stock = next(iter(run.stock.values()))
    return _change_stock(run, available=stock.available - 1, sold=stock.sold + 1)


def _reservation_without_order(run: ValidRun) -> str:
    run.reservations["ord_x"] = Reservation(id="ord_x", state=ReservationState.RELEASED)
    return "ord_x"


def _message_without_order(run: ValidRun) -> str:
    _message(run, next(iter(run.messages)), order_id="ord_x")
    return "ord_x"


def _unknown_product_ordered(run: ValidRun) -> str:
    own = next(each for each in run.history if not run.history.checkout_of(each).is_possible)
    order = run.order_that(_DECLINED)
    run.orders[own.order_id] = order.model_copy(update={"id": own.order_id})
    return own.order_id


def _plenty_sold_out(run: ValidRun) -> str:
    order = next(
        order
        for order in run.orders.values()
        if order.reason is not None
        and order.reason.code == _DECLINED
        and not {line.product_id for line in order.lines} & set(SCARCE)
    )
    assert order.reason is not None
    _change(run, order, reason=order.reason.model_copy(update={"code": "out-of-stock"}))
    return order.id


def _key_taken_for_something_else(run: ValidRun) -> str:
    order = run.order_of(Behaviour.REUSES_KEY)
    _tell(run, order, Action.PLACE_OTHER, 201, state=OrderState.CONFIRMED)
    return order.id


def _mail_missing(run: ValidRun) -> str:
    mail = min(run.mails)
    run.mails.remove(mail)
    return mail.order_id


def _mail_under_two_ids(run: ValidRun) -> str:
    mail = min(run.mails)
    run.mails.add(mail._replace(message_id="<another>"))
    return mail.order_id


def _mail_to_somebody_else(run: ValidRun) -> str:
    mail = min(run.mails)
    run.mails.remove(mail)
    run.mails.add(mail._replace(recipient="eve@example.com"))
    return mail.order_id


def _mail_without_message(run: ValidRun) -> str:
    mail = next(mail for mail in run.mails if mail.kind == "order-confirmed")
    run.mails.add(mail._replace(kind="order-lost"))
    return mail.order_id


_ELSEWHERE: Mapping[str, tuple[Callable[[ValidRun], str], str]] = {
    "less than nothing": (_less_than_nothing, "less than nothing"),
    "stock lost": (lambda run: _change_stock(run, available=1), "but it began with"),
    "stock held": (
        lambda run: _change_stock(run, holds={"ord_x": {"t": Ticket(quantity=1)}}),
        "stock.holds=",
    ),
    "sold without order": (_sold_without_order, "but confirmed orders have"),
    "reservation without order": (_reservation_without_order, "but no such order"),
    "message without order": (_message_without_order, "but no such order"),
    "unknown product ordered": (_unknown_product_ordered, "a product that does not exist"),
    "plenty sold out": (_plenty_sold_out, "nothing explains why it was cancelled"),
    "key taken for something else": (
        _key_taken_for_something_else,
        "something else could be ordered",
    ),
    "mail missing": (_mail_missing, "mails to"),
    "mail under two ids": (_mail_under_two_ids, "mails to"),
    "mail to somebody else": (_mail_to_somebody_else, "mails to"),
    "mail without message": (_mail_without_message, "there is no order-lost message"),
}


@pytest.mark.parametrize(("corrupt", "sentence"), _ELSEWHERE.values(), ids=_ELSEWHERE)
def test_what_is_wrong_elsewhere_is_found(
    corrupt: Callable[[ValidRun], str], sentence: str, run: ValidRun
) -> None:
    subject = corrupt(run)

    found = list(violations(run.evidence()))

    assert [v for v in found if v.subject == subject and sentence in v.what], found


def test_an_audit_takes_attempts_as_earlier_versions_told_them(run: ValidRun) -> None:
    order = run.order_that(_DECLINED)
    _told_as_in_earlier_versions(run, order)
    snapshot = run.evidence().snapshot
    assert list(violations_of_order(snapshot.orders[order.id], snapshot)) == []


def test_an_order_may_go_on_from_what_was_told(run: ValidRun) -> None:
    """Working, then confirmed, then cancelled on demand, also when the answers overlap."""
    order = run.order_that(_BY_CUSTOMER)
    ops = run.history.by_order[order.id].ops
    ops.insert(0, Op(Action.PLACE, 0.0, 0.5, 202, order.id, "working", None, None))
    ops.append(Op(Action.LOOK, 3.5, 9.0, 200, order.id, "confirmed", None, None))

    assert list(violations(run.evidence())) == []


def test_a_recall_that_came_too_late_leaves_the_order_confirmed(run: ValidRun) -> None:
    order = run.order_that(_CONFIRMED)
    _tell(run, order, Action.CANCEL, state=OrderState.CANCELLING, reason=_BY_CUSTOMER)
    _tell(run, order, Action.CANCEL, 409, reason="shipment-under-way")

    assert list(violations(run.evidence())) == []


def test_an_order_of_which_nobody_was_told_may_never_have_been_placed(run: ValidRun) -> None:
    order = run.order_that(_DECLINED)
    _lost(run, order)
    run.history.by_order[order.id].ops[:] = [Op(Action.PLACE, 0.0, 5.0, 503)]

    assert list(violations(run.evidence())) == []


def test_the_details_have_all_that_is_known(run: ValidRun) -> None:
    order = run.order_that(_BY_CUSTOMER)

    details = details_of(run.evidence(), order.id)

    kinds = ("Order", "Reservation", "Payment", "Shipment", "Message")
    for part in (*(f"{kind}:" for kind in kinds), "Intent(", "Refund("):
        assert part in details
    assert "cancel: 200 cancelled, cancelled-by-customer" in details
    assert details_of(run.evidence(), "oak-serving-board").count("Stock:") == 1
