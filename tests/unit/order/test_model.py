"""The rules of the saga: for each step and each kind of failure, what comes next."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import pytest
from pydantic import BaseModel

from services.common.errors import Kind, ShopError
from services.order import checkout, model
from services.order.checkout import BACKWARD, FORWARD
from services.order.model import Order, OrderState, RefundStatus, Step
from tests.unit.order.examples import OUTAGES, PLACED_MS, REFUSALS, an_order, error

SOON_MS = PLACED_MS + 60_000

# Where a refusal leads: to the undo of what the refused step may have done after all.
UNDO: Mapping[Step, Step] = {
    Step.RESERVE: Step.RELEASE,
    Step.AUTHORIZE: Step.REFUND,
    Step.SHIP: Step.RECALL,
    Step.CAPTURE: Step.RECALL,
}
PAID = (Step.COMMIT, Step.DISPATCH)


def at(step: Step, **changes: object) -> Order:
    state = OrderState.WORKING if step in FORWARD else OrderState.CANCELLING
    return an_order(step=step, state=state, **changes)


def failed(order: Order, kind: Kind, *, may_wait: bool = True, code: str = "told-so") -> Order:
    refused = error(kind, code)
    verdict = checkout.verdict(order, refused, may_wait=may_wait)
    return checkout.failed(order, refused, verdict, SOON_MS)


def test_every_step_is_on_one_of_the_two_ways() -> None:
    assert set(FORWARD) | set(BACKWARD) == set(Step)
    assert not set(FORWARD) & set(BACKWARD)
    assert set(UNDO) | set(PAID) == set(FORWARD)


@pytest.mark.parametrize(("step", "following"), list(itertools.pairwise(FORWARD)))
def test_success_leads_forward(step: Step, following: Step) -> None:
    order = checkout.succeeded(at(step), SOON_MS)
    assert (order.step, order.state) == (following, OrderState.WORKING)
    assert [(moment.what, moment.at_ms) for moment in order.history] == [(step.value, SOON_MS)]
    assert not order.events


@pytest.mark.parametrize(("step", "following"), list(itertools.pairwise(BACKWARD)))
def test_success_leads_further_back(step: Step, following: Step) -> None:
    order = checkout.succeeded(at(step), SOON_MS)
    assert (order.step, order.state) == (following, OrderState.CANCELLING)


@pytest.mark.parametrize(
    ("step", "state", "told"),
    [
        (FORWARD[-1], OrderState.CONFIRMED, "confirmed"),
        (BACKWARD[-1], OrderState.CANCELLED, "not-placed"),
    ],
)
def test_the_last_step_settles_the_order_and_tells_the_customer(
    step: Step, state: OrderState, told: str
) -> None:
    order = checkout.succeeded(at(step), SOON_MS)
    assert order.is_settled
    assert order.state is state
    (event,) = order.events
    assert (event.id, event.kind) == (f"{order.id}:{told}", f"order-{told}")
    assert event.facts["total_cents"] == "8685"
    assert [moment.what for moment in order.history] == [step.value, state.value]


@pytest.mark.parametrize("kind", OUTAGES)
@pytest.mark.parametrize("step", FORWARD)
def test_an_outage_is_waited_out(step: Step, kind: Kind) -> None:
    before = at(step)
    assert failed(before, kind) is before


@pytest.mark.parametrize("kind", OUTAGES)
@pytest.mark.parametrize("step", FORWARD)
def test_an_outage_ends_an_order_only_as_long_as_it_is_not_paid(step: Step, kind: Kind) -> None:
    before = at(step)
    order = failed(before, kind, may_wait=False)
    if step in (Step.RESERVE, Step.AUTHORIZE, Step.SHIP):
        assert (order.step, order.state) == (UNDO[step], OrderState.CANCELLING)
        assert order.reason is not None
        assert order.reason.code == "checkout-unavailable"
        assert "not charged" in order.reason.detail
    else:
        assert order is before


@pytest.mark.parametrize("may_wait", [True, False])
@pytest.mark.parametrize("kind", REFUSALS)
@pytest.mark.parametrize("step", [step for step in UNDO if step is not Step.CAPTURE])
def test_a_refusal_leads_back(step: Step, kind: Kind, *, may_wait: bool) -> None:
    order = failed(at(step), kind, may_wait=may_wait)
    assert (order.step, order.state) == (UNDO[step], OrderState.CANCELLING)
    assert order.reason is not None
    assert (order.reason.kind, order.reason.code) == (kind, "told-so")
    assert order.reason.detail == "As the test says."
    assert order.reason.fields == {"product_id": "bowl"}
    assert [moment.what for moment in order.history] == [f"{step.value} refused: told-so"]


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_refused_capture_leads_back_and_only_a_decline_is_the_customers_matter(
    kind: Kind,
) -> None:
    order = failed(at(Step.CAPTURE), kind)
    assert (order.step, order.state) == (Step.RECALL, OrderState.CANCELLING)
    assert order.reason is not None
    told = "told-so" if kind is Kind.DECLINED else model.NOT_COMPLETED
    assert order.reason.code == told
    assert [moment.what for moment in order.history] == ["capture refused: told-so"]


class TestARefusalOfAPaidOrder:
    """A store was restored from an older copy: what was reserved or prepared is gone."""

    @pytest.mark.parametrize("kind", REFUSALS)
    @pytest.mark.parametrize(
        ("step", "begins_again_at"), [(Step.COMMIT, Step.RESERVE), (Step.DISPATCH, Step.SHIP)]
    )
    def test_leads_to_what_the_step_rests_on(
        self, step: Step, begins_again_at: Step, kind: Kind
    ) -> None:
        order = failed(at(step), kind, may_wait=False)
        assert (order.step, order.state) == (begins_again_at, OrderState.WORKING)
        assert order.begun_again
        assert [moment.what for moment in order.history] == [
            f"{step.value} refused: told-so; begun again"
        ]

    @pytest.mark.parametrize("kind", REFUSALS)
    @pytest.mark.parametrize("step", FORWARD)
    def test_a_second_time_leads_all_the_way_back(self, step: Step, kind: Kind) -> None:
        order = failed(at(step, begun_again=True), kind)
        assert (order.step, order.state) == (Step.RECALL, OrderState.CANCELLING)
        assert order.reason is not None
        assert (order.reason.kind, order.reason.code) == (Kind.CONFLICT, model.NOT_COMPLETED)
        assert "paid back" in order.reason.detail
        assert order.history[-1].what == f"{step.value} refused: told-so"

    @pytest.mark.parametrize("kind", OUTAGES)
    @pytest.mark.parametrize("step", FORWARD)
    def test_is_not_an_outage_which_is_waited_out(self, step: Step, kind: Kind) -> None:
        before = at(step, begun_again=True)
        assert failed(before, kind, may_wait=False) is before

    @pytest.mark.parametrize("step", FORWARD)
    def test_is_alarming_where_it_should_not_be(self, step: Step) -> None:
        refusal, outage = error(Kind.CONFLICT), error(Kind.UNAVAILABLE)
        assert checkout.is_alarming(at(step), refusal) is (step in (Step.CAPTURE, *PAID))
        assert checkout.is_alarming(at(step), error(Kind.DECLINED)) is (step in PAID)
        assert checkout.is_alarming(at(step, begun_again=True), refusal)
        assert not checkout.is_alarming(at(step, begun_again=True), outage)

    def test_is_alarming_on_the_way_back_unless_the_parcel_is_under_way(self) -> None:
        asked = model.cancelled_by_customer(
            an_order(state=OrderState.CONFIRMED, step=None), SOON_MS
        )
        assert not checkout.is_alarming(asked, error(Kind.CONFLICT))
        assert checkout.is_alarming(asked, error(Kind.INVALID))
        assert all(checkout.is_alarming(at(step), error(Kind.CONFLICT)) for step in BACKWARD)

    def test_whose_parcel_is_under_way_all_the_same_is_confirmed_and_told(self) -> None:
        back = failed(at(Step.RESERVE, begun_again=True), Kind.CONFLICT, code="out-of-stock")
        order = failed(back, Kind.CONFLICT, code="shipment-under-way")
        assert (order.state, order.step, order.reason) == (OrderState.CONFIRMED, None, None)
        assert [event.kind for event in order.events] == ["order-confirmed"]


@pytest.mark.parametrize("may_wait", [True, False])
@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (step, kind)
        for step in BACKWARD
        for kind in Kind
        if (step, kind) != (Step.RECALL, Kind.CONFLICT)
    ],
)
def test_the_way_back_never_ends_early(step: Step, kind: Kind, *, may_wait: bool) -> None:
    before = at(step)
    assert failed(before, kind, may_wait=may_wait) is before


def test_a_parcel_under_way_keeps_the_order_confirmed() -> None:
    asked = model.cancelled_by_customer(an_order(state=OrderState.CONFIRMED, step=None), SOON_MS)
    order = failed(asked, Kind.CONFLICT, code="shipment-under-way")
    assert (order.state, order.step, order.reason) == (OrderState.CONFIRMED, None, None)
    assert [moment.what for moment in order.history] == [
        "cancel requested",
        "recall refused: shipment-under-way",
    ]
    assert not order.events, "the customer who asked is told in the answer"


def test_every_order_ends_whatever_happens() -> None:
    """Whatever fails and however often, an order that is tried on reaches an end state."""
    for step, kind in itertools.product(FORWARD, Kind):
        order = failed(at(step), kind, may_wait=False)
        steps: list[Step] = []
        while order.step is not None:
            steps.append(order.step)
            order = checkout.succeeded(order, SOON_MS)
        assert order.state in {OrderState.CONFIRMED, OrderState.CANCELLED}
        assert len(steps) == len(set(steps)) <= len(FORWARD)
        if order.state is OrderState.CANCELLED:
            assert steps == list(BACKWARD[BACKWARD.index(UNDO[step]) :])


class TestOrderCancellation:
    def test_begins_with_the_parcel(self) -> None:
        order = model.cancelled_by_customer(
            an_order(state=OrderState.CONFIRMED, step=None), SOON_MS
        )
        assert (order.state, order.step) == (OrderState.CANCELLING, Step.RECALL)
        assert order.reason is not None
        assert order.reason.code == model.BY_CUSTOMER

    @pytest.mark.parametrize(
        ("state", "code", "may_try_again"),
        [
            (OrderState.WORKING, "order-in-progress", True),
            (OrderState.CANCELLING, "order-cancelled", False),
            (OrderState.CANCELLED, "order-cancelled", False),
        ],
    )
    def test_is_for_confirmed_orders(
        self, state: OrderState, code: str, may_try_again: bool
    ) -> None:
        with pytest.raises(ShopError) as refused:
            model.cancelled_by_customer(an_order(state=state), SOON_MS)
        assert (refused.value.kind, refused.value.code) == (Kind.CONFLICT, code)
        assert (refused.value.retry_after_seconds is not None) is may_try_again


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("board", True),
        ("BOARD oak", True),
        ("  bowl ", True),
        ("oak bowl", False),  # not in one name
        ("lamp", False),
        ("ord_" + "a" * 24, True),
        ("ORD_AAA", True),
        ("AAAAAA", True),  # as mails of earlier versions named it
        ("AaAa", True),
        ("aaa", False),
        ("ord_b", False),
    ],
)
def test_an_order_is_found_by_its_number_and_by_its_products(query: str, found: bool) -> None:
    assert model.is_about(an_order(), query) is found


class TestWhatIsAnAttempt:
    """An order that ended without ever having been confirmed."""

    def test_is_not_placed_even_if_it_was_charged_and_paid_back(self) -> None:
        order = failed(at(Step.DISPATCH, begun_again=True), Kind.CONFLICT)
        assert not order.is_attempt, "its parcel may turn out to be on its way"
        while not order.is_settled:
            order = checkout.succeeded(order, SOON_MS)
        assert order.is_attempt
        assert [event.kind for event in order.events] == ["order-not-placed"]

    def test_is_no_order_that_its_customer_has_cancelled(self) -> None:
        order = model.cancelled_by_customer(checkout.succeeded(at(Step.DISPATCH), SOON_MS), SOON_MS)
        while not order.is_settled:
            order = checkout.succeeded(order, SOON_MS)
        assert (order.state, order.is_attempt) == (OrderState.CANCELLED, False)
        assert [event.kind for event in order.events] == ["order-confirmed", "order-cancelled"]

    def test_is_told_again_as_what_it_is(self) -> None:
        attempt = checkout.succeeded(at(Step.RELEASE), PLACED_MS)
        told = model.told_again(model.delivered(attempt), SOON_MS)
        assert told.events == attempt.events
        assert told.open_since_ms == SOON_MS
        answered = model.answered(attempt, PLACED_MS)
        assert model.told_again(answered, SOON_MS) is answered

    def test_that_was_answered_needs_no_message(self) -> None:
        order = model.answered(checkout.succeeded(at(Step.RELEASE), PLACED_MS), SOON_MS)
        assert (order.events, order.open_since_ms) == ((), None)
        assert order.history[-1] == model.Moment(at_ms=SOON_MS, what=model.ANSWERED)


class TestRefundOfAnOrder:
    """The money of an order that is cancelled."""

    def test_that_was_made_is_looked_at_again(self) -> None:
        order = checkout.succeeded(at(Step.REFUND), PLACED_MS, RefundStatus.PAID)
        assert (order.refund_look_ms, order.refund_failed) == (PLACED_MS, False)
        later = model.refund_looked_at(order, RefundStatus.PAID, SOON_MS)
        assert later.refund_look_ms == SOON_MS + (SOON_MS - PLACED_MS)
        over_ms = PLACED_MS + 36 * 24 * 3_600_000
        assert model.refund_looked_at(later, RefundStatus.PAID, over_ms).refund_look_ms is None

    def test_that_was_not_needed_is_not(self) -> None:
        order = checkout.succeeded(at(Step.REFUND), PLACED_MS, RefundStatus.NONE)
        assert (order.refund_look_ms, order.refund_failed) == (None, False)

    def test_that_fails_at_once_is_told_with_the_end_of_the_order(self) -> None:
        order = at(Step.REFUND)
        while not order.is_settled:
            order = checkout.succeeded(order, SOON_MS, RefundStatus.FAILED)
        assert [event.kind for event in order.events] == ["order-not-placed", "order-refund-failed"]
        assert [event.facts["refund"] for event in order.events] == ["failed", "failed"]

    def test_that_fails_later_is_told_then(self) -> None:
        order = at(Step.REFUND, owner="order-1")
        while not order.is_settled:
            order = checkout.succeeded(order, PLACED_MS, RefundStatus.PAID)
        order = model.delivered(order)
        failed_later = model.refund_looked_at(order, RefundStatus.FAILED, SOON_MS)
        assert failed_later.refund_failed
        assert (failed_later.refund_look_ms, failed_later.open_since_ms) == (None, SOON_MS)
        assert failed_later.owner == "", "anybody may tell the customer"
        assert [event.id for event in failed_later.events] == [f"{order.id}:refund-failed"]
        told_again = model.told_again(model.delivered(failed_later), SOON_MS)
        assert [event.kind for event in told_again.events] == [
            "order-not-placed",
            "order-refund-failed",
        ]

    def test_that_has_failed_is_told_though_the_refusal_was_answered(self) -> None:
        order = at(Step.REFUND)
        while not order.is_settled:
            order = checkout.succeeded(order, SOON_MS, RefundStatus.FAILED)
        assert model.repeats_refusal(order)
        assert not model.repeats_refusal(model.answered(order, SOON_MS))

    def test_is_not_known_of_orders_of_an_older_version(self) -> None:
        known_since = {"refund_look_ms", "refund_failed", "refund_disputed"}
        old = an_order(state=OrderState.CANCELLED, step=None).model_dump(exclude=known_since)
        assert not Order.model_validate(old).refund_failed


def test_sums() -> None:
    order = an_order()
    assert (order.items_cents, order.total_cents, order.weight_grams) == (8190, 8685, 2200)


@pytest.mark.parametrize(
    ("taken_off", "undelivered"), [(model.delivered, 0), (model.undeliverable, 1)]
)
def test_an_order_stays_open_until_its_last_event_is_taken_off(
    taken_off: Callable[[Order], Order], undelivered: int
) -> None:
    confirmed = checkout.succeeded(at(Step.DISPATCH), SOON_MS)
    both = checkout.succeeded(at(Step.RELEASE, events=confirmed.events), SOON_MS)
    left = taken_off(both)
    assert left.events == both.events[1:]
    assert left.undelivered == both.events[:undelivered]
    assert left.open_since_ms is not None
    assert taken_off(left).open_since_ms is None


def test_a_confirmed_order_is_open_again_when_it_is_cancelled() -> None:
    done = model.delivered(checkout.succeeded(at(Step.DISPATCH), PLACED_MS))
    assert done.open_since_ms is None
    assert model.cancelled_by_customer(done, SOON_MS).open_since_ms == SOON_MS


def test_a_key_stands_for_one_order_of_one_user() -> None:
    ids = {
        model.order_id_for(user_id, key)
        for user_id, key in [("usr_a", "1"), ("usr_a", "2"), ("usr_b", "1"), ("usr_b", "2")]
    }
    assert len(ids) == 4
    assert model.order_id_for("usr_a", "1") in ids
    assert all(len(order_id) == 28 and order_id.startswith("ord_") for order_id in ids)


def test_a_fingerprint_tells_bodies_apart_but_not_their_spelling() -> None:
    class Body(BaseModel):
        items: dict[str, int]
        note: str = ""

    one = model.fingerprint_of(Body(items={"a": 1, "b": 2}))
    assert model.fingerprint_of(Body.model_validate_json('{"items": {"b": 2, "a": 1}}')) == one
    assert model.fingerprint_of(Body(items={"a": 1, "b": 3})) != one
    assert model.fingerprint_of(Body(items={"a": 1, "b": 2}, note="x")) != one
