"""The verdict must be able to fail: each kind of wrong is put into a world where all is right."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from services.audit.invariants import violations_of_order
from services.audit.snapshot import Intent, Refund
from services.inventory.model import Reservation, Stock, Ticket
from services.inventory.model import State as ReservationState
from services.order.model import Order
from services.order.model import State as OrderState
from services.payment.model import State as PaymentState
from services.shipping.model import State as ShipmentState
from tests.chaos.checkout import SCARCE, Behaviour
from tests.chaos.journal import Asked, Told
from tests.chaos.made_up_run import World
from tests.chaos.verdict import history_of, violations

_CHECKOUTS = 150
_BY_CUSTOMER = "cancelled-by-customer"

Doctor = Callable[[World], str]
"""Does something wrong to a world; gives the order or product that it concerns."""


@pytest.fixture
def world() -> World:
    return World(_CHECKOUTS)


def test_a_world_in_order_has_no_violations(world: World) -> None:
    assert list(violations(world.evidence())) == []
    ends = {order.reason.code if order.reason else order.state for order in world.orders.values()}
    assert {"confirmed", "out-of-stock", "card-declined", _BY_CUSTOMER} <= ends


def test_an_audit_takes_attempts_as_earlier_versions_told_them(world: World) -> None:
    order_id = _attempt_told_as_in_earlier_versions(world)
    snapshot = world.evidence().snapshot
    assert list(violations_of_order(snapshot.orders[order_id], snapshot)) == []


def _change_stock(world: World, **changes: object) -> str:
    product_id = next(iter(world.stock))
    world.stock[product_id] = world.stock[product_id].model_copy(update=changes)
    return product_id


def _change(world: World, order: Order, **changes: object) -> str:
    world.orders[order.id] = order.model_copy(update=changes)
    return order.id


def _change_payment(world: World, order_id: str, state: PaymentState) -> str:
    world.payments[order_id] = world.payments[order_id].model_copy(update={"state": state})
    return order_id


def _change_shipment(world: World, order_id: str, state: ShipmentState) -> str:
    world.shipments[order_id] = world.shipments[order_id].model_copy(update={"state": state})
    return order_id


def _tell(
    world: World,
    order: Order,
    *,
    asked: Asked = Asked.LOOK,
    status: int = 200,
    state: OrderState | None = None,
    reason: str | None = None,
    total_cents: int | None = None,
    order_id: str | None = None,
) -> str:
    """One more answer, after all others."""
    named = order_id or (order.id if state else None)
    told = Told(asked, 100.0, 101.0, status, named, state, reason, total_cents)
    world.journal.entries[order.id].answers.append(told)
    return order.id


def _less_than_nothing(world: World) -> str:
    product_id = next(iter(world.stock))
    stock = world.stock[product_id]
    world.stock[product_id] = Stock.model_construct(
        id=stock.id, available=-1, sold=stock.sold + stock.available + 1
    )
    return product_id


def _stock_lost(world: World) -> str:
    return _change_stock(world, available=1)


def _stock_held(world: World) -> str:
    return _change_stock(world, holds={"ord_x": {"t": Ticket(quantity=1)}})


def _sold_without_order(world: World) -> str:
    product_id = next(iter(world.stock))
    stock = world.stock[product_id]
    return _change_stock(world, available=stock.available - 1, sold=stock.sold + 1)


def _not_settled(world: World) -> str:
    return _change(world, world.order_that("confirmed"), state=OrderState.WORKING)


def _nothing_reserved(world: World) -> str:
    order_id = world.order_that("confirmed").id
    del world.reservations[order_id]
    return order_id


def _still_reserved(world: World) -> str:
    order_id = world.order_that("card-declined").id
    world.reservations[order_id] = Reservation(id=order_id, state=ReservationState.HELD)
    return order_id


def _not_captured(world: World) -> str:
    return _change_payment(world, world.order_that("confirmed").id, PaymentState.AUTHORIZED)


def _not_voided(world: World) -> str:
    return _change_payment(world, world.order_that("card-declined").id, PaymentState.AUTHORIZED)


def _charged_twice(world: World) -> str:
    order = world.order_that("confirmed")
    world.intents[order.id].append(
        Intent("pi_2", "succeeded", order.total_cents, 0, order.total_cents)
    )
    return order.id


def _charged_another_amount(world: World) -> str:
    order_id = world.order_that("confirmed").id
    world.intents[order_id] = [Intent("pi_2", "succeeded", 1, 0, 1)]
    return order_id


def _refunded_although_confirmed(world: World) -> str:
    order = world.order_that("confirmed")
    world.refunds[world.intents[order.id][0].id] = [Refund("re_1", 100)]
    return order.id


def _not_refunded(world: World) -> str:
    order = world.order_that(_BY_CUSTOMER)
    del world.refunds[world.intents[order.id][0].id]
    return order.id


def _money_set_aside(world: World) -> str:
    order = world.order_that("card-declined")
    world.intents[order.id].append(Intent("pi_2", "requires_capture", 100, 100, 0))
    return order.id


def _not_shipped(world: World) -> str:
    order_id = world.order_that("confirmed").id
    del world.shipments[order_id]
    return order_id


def _shipped_although_cancelled(world: World) -> str:
    return _change_shipment(world, world.order_that(_BY_CUSTOMER).id, ShipmentState.DISPATCHED)


def _not_delivered(world: World) -> str:
    order_id = world.order_that("confirmed").id
    return _change_shipment(world, order_id, ShipmentState.OUT_FOR_DELIVERY)


def _message_missing(world: World) -> str:
    order_id = world.order_that("confirmed").id
    del world.messages[f"{order_id}:confirmed"]
    return order_id


def _message_twice(world: World) -> str:
    order_id = world.order_that("confirmed").id
    message = world.messages[f"{order_id}:confirmed"]
    world.messages["again"] = message.model_copy(update={"id": "again"})
    return order_id


def _delivery_not_told(world: World) -> str:
    message = next(m for m in world.messages.values() if m.kind == "shipment-delivered")
    del world.messages[message.id]
    return message.order_id


def _attempt_not_told(world: World) -> str:
    order = world.order_that("card-declined")
    return _change(world, order, history=order.history[:-1])  # all but the answer


def _attempt_told_as_in_earlier_versions(world: World) -> str:
    _attempt_told_as_an_order(world)
    return _attempt_not_told(world)


def _attempt_told_as_an_order(world: World) -> str:
    order_id = world.order_that("card-declined").id
    message = next(iter(world.messages.values()))
    changes = {"id": "x", "order_id": order_id, "kind": "order-cancelled"}
    world.messages["x"] = message.model_copy(update=changes)
    return order_id


def _reservation_without_order(world: World) -> str:
    world.reservations["ord_x"] = Reservation(id="ord_x", state=ReservationState.RELEASED)
    return "ord_x"


def _message_without_order(world: World) -> str:
    message = next(iter(world.messages.values()))
    world.messages["x"] = message.model_copy(update={"id": "x", "order_id": "ord_x"})
    return "ord_x"


def _order_lost(world: World) -> str:
    order_id = world.order_that("card-declined").id
    for documents in (world.orders, world.reservations, world.payments, world.intents):
        del documents[order_id]
    return order_id


def _order_that_nobody_asked_for(world: World) -> str:
    order_id = world.order_that("confirmed").id
    del world.journal.entries[order_id]
    return order_id


def _another_order_named(world: World) -> str:
    order = world.order_that("confirmed")
    return _tell(world, order, state=OrderState.CONFIRMED, order_id="ord_x")


def _another_body_placed(world: World) -> str:
    order = world.order_that("confirmed")
    line = order.lines[0]
    return _change(
        world,
        order,
        lines=(
            line.model_copy(update={"quantity": 2 * line.quantity, "unit_price_cents": 500}),
            *order.lines[1:],
        ),
    )


def _unknown_product_ordered(world: World) -> str:
    entry = next(
        entry for entry in world.journal if not world.journal.checkout_of(entry).is_possible
    )
    order = world.order_that("card-declined")
    world.orders[entry.order_id] = order.model_copy(update={"id": entry.order_id})
    return entry.order_id


def _declined_card_paid(world: World) -> str:
    order = world.order_that("card-declined")
    return _change(world, order, state=OrderState.CONFIRMED, reason=None)


def _cancelled_by_nobody(world: World) -> str:
    order = world.order_that(_BY_CUSTOMER)
    entry = world.journal.entries[order.id]
    entry.answers = [told for told in entry.answers if told.asked is not Asked.CANCEL]
    return order.id


def _plenty_sold_out(world: World) -> str:
    order = next(
        order
        for order in world.orders.values()
        if order.reason is not None
        and order.reason.code == "card-declined"
        and not {line.product_id for line in order.lines} & set(SCARCE)
    )
    assert order.reason is not None
    reason = order.reason.model_copy(update={"code": "out-of-stock"})
    return _change(world, order, reason=reason)


def _told_confirmed_but_declined(world: World) -> str:
    return _tell(world, world.order_that("card-declined"), state=OrderState.CONFIRMED)


def _told_another_reason(world: World) -> str:
    order = world.order_that("card-declined")
    return _tell(world, order, state=OrderState.CANCELLED, reason="out-of-stock")


def _told_cancelled_but_confirmed(world: World) -> str:
    order = world.order_that("confirmed")
    return _tell(world, order, state=OrderState.CANCELLED, reason="out-of-stock")


def _told_declined_but_confirmed(world: World) -> str:
    order = world.order_that("confirmed")
    return _tell(
        world, order, asked=Asked.PLACE, status=402, reason="card-declined", order_id=order.id
    )


def _told_too_late_but_cancelled(world: World) -> str:
    order = world.order_that(_BY_CUSTOMER)
    return _tell(world, order, asked=Asked.CANCEL, status=409, reason="shipment-under-way")


def _told_another_total(world: World) -> str:
    return _tell(world, world.order_that("confirmed"), state=OrderState.CONFIRMED, total_cents=1)


def _went_back_from_confirmed(world: World) -> str:
    return _tell(world, world.order_that("confirmed"), state=OrderState.WORKING)


def _went_back_from_cancelled(world: World) -> str:
    order = world.order_that(_BY_CUSTOMER)
    return _tell(world, order, state=OrderState.CANCELLING, reason=_BY_CUSTOMER)


def _key_taken_for_something_else(world: World) -> str:
    order = world.orders[world.entry_of(Behaviour.REUSES_KEY).order_id]
    return _tell(world, order, asked=Asked.PLACE_OTHER, status=201, state=OrderState.CONFIRMED)


def _key_refused_for_the_same(world: World) -> str:
    order = world.order_that("confirmed")
    return _tell(world, order, asked=Asked.PLACE, status=422, reason="idempotency-key-reused")


def _order_not_found(world: World) -> str:
    return _tell(world, world.order_that("confirmed"), status=404, reason="unknown-order")


def _mail_missing(world: World) -> str:
    mail = min(world.mails)
    world.mails.remove(mail)
    return mail.order_id


def _mail_under_two_ids(world: World) -> str:
    mail = min(world.mails)
    world.mails.add(mail._replace(message_id="<another>"))
    return mail.order_id


def _mail_to_somebody_else(world: World) -> str:
    mail = min(world.mails)
    world.mails.remove(mail)
    world.mails.add(mail._replace(recipient="eve@example.com"))
    return mail.order_id


def _mail_without_message(world: World) -> str:
    mail = next(mail for mail in world.mails if mail.kind == "order-confirmed")
    world.mails.add(mail._replace(kind="order-lost"))
    return mail.order_id


@pytest.mark.parametrize(
    ("doctor", "sentence"),
    [
        (_less_than_nothing, "less than nothing"),
        (_stock_lost, "but it began with"),
        (_stock_held, "stock.holds="),
        (_sold_without_order, "but confirmed orders have"),
        (_not_settled, "ended working"),
        (_nothing_reserved, "its reservation is missing"),
        (_still_reserved, "its reservation is"),
        (_not_captured, "its payment is"),
        (_not_voided, "its payment is"),
        (_charged_twice, "not once"),
        (_charged_another_amount, "not once"),
        (_refunded_although_confirmed, "100 cents were refunded"),
        (_not_refunded, "0 refunded"),
        (_money_set_aside, "still holds 100 cents"),
        (_not_shipped, "its shipment is missing"),
        (_shipped_although_cancelled, "its shipment is dispatched"),
        (_not_delivered, "its parcel got no further than out-for-delivery"),
        (_message_missing, "its messages are"),
        (_message_twice, "its messages are"),
        (_delivery_not_told, "its messages are"),
        (_attempt_not_told, "its messages are none, not order-not-placed"),
        (_attempt_told_as_in_earlier_versions, "but told as an order"),
        (_attempt_told_as_an_order, "its messages are order-cancelled, not none"),
        (_reservation_without_order, "but no such order"),
        (_message_without_order, "but no such order"),
        (_order_lost, "there is no such order, but its customer was told"),
        (_order_that_nobody_asked_for, "nobody has asked for"),
        (_another_order_named, "names another order"),
        (_another_body_placed, "but asked for"),
        (_unknown_product_ordered, "a product that does not exist"),
        (_declined_card_paid, "which is always declined"),
        (_cancelled_by_nobody, "nothing explains why it was cancelled"),
        (_plenty_sold_out, "nothing explains why it was cancelled"),
        (_told_confirmed_but_declined, "its customer was told"),
        (_told_another_reason, "its customer was told"),
        (_told_cancelled_but_confirmed, "its customer was told"),
        (_told_declined_but_confirmed, "its customer was told"),
        (_told_too_late_but_cancelled, "its customer was told"),
        (_told_another_total, "cents, but its customer was told"),
        (_went_back_from_confirmed, "it went back"),
        (_went_back_from_cancelled, "it went back"),
        (_key_taken_for_something_else, "something else could be ordered"),
        (_key_refused_for_the_same, "an answer that nothing explains"),
        (_order_not_found, "an answer that nothing explains"),
        (_mail_missing, "mails to"),
        (_mail_under_two_ids, "mails to"),
        (_mail_to_somebody_else, "mails to"),
        (_mail_without_message, "there is no order-lost message"),
    ],
)
def test_what_is_wrong_is_found(doctor: Doctor, sentence: str, world: World) -> None:
    subject = doctor(world)

    found = list(violations(world.evidence()))

    assert [v for v in found if v.subject == subject and sentence in v.what], found


def test_an_order_may_go_on_from_what_was_told(world: World) -> None:
    """Working, then confirmed, then cancelled on demand, also when the answers overlap."""
    order = world.order_that(_BY_CUSTOMER)
    answers = world.journal.entries[order.id].answers
    answers.insert(0, Told(Asked.PLACE, 0.0, 0.5, 202, order.id, "working", None, None))
    answers.append(Told(Asked.LOOK, 3.5, 9.0, 200, order.id, "confirmed", None, None))

    assert list(violations(world.evidence())) == []


def test_a_recall_that_came_too_late_leaves_the_order_confirmed(world: World) -> None:
    order = world.order_that("confirmed")
    _tell(world, order, asked=Asked.CANCEL, state=OrderState.CANCELLING, reason=_BY_CUSTOMER)
    _tell(world, order, asked=Asked.CANCEL, status=409, reason="shipment-under-way")

    assert list(violations(world.evidence())) == []


def test_an_order_of_which_nobody_was_told_may_never_have_been_placed(world: World) -> None:
    order_id = _order_lost(world)
    world.journal.entries[order_id].answers[:] = [Told(Asked.PLACE, 0.0, 5.0, 503)]

    assert list(violations(world.evidence())) == []


def test_the_history_has_all_that_is_known(world: World) -> None:
    order = world.order_that(_BY_CUSTOMER)

    history = history_of(world.evidence(), order.id)

    for part in (
        "Order:",
        "Reservation:",
        "Payment:",
        "Shipment:",
        "Message:",
        "Intent(",
        "Refund(",
    ):
        assert part in history
    assert "cancel: 200 cancelled, cancelled-by-customer" in history
    assert history_of(world.evidence(), "oak-serving-board").count("Stock:") == 1
