"""Payments against a Stripe whose every failure the test decides."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from services.common.errors import Kind, ShopError
from services.common.observing.metrics import Metrics
from services.payment.clients import DECLINE_CODES, IntentStatus, StripeError
from services.payment.model import Payment, PaymentState
from services.payment.service import Payments
from services.payment.store import PaymentStore
from tests.unit.common.kit import until
from tests.unit.failure import failure
from tests.unit.payment.examples import ORDER, a_command
from tests.unit.payment.fake_stripe import FakeStripe, away, refused


@pytest.fixture
def stripe() -> FakeStripe:
    return FakeStripe()


@pytest.fixture
def payments(store: PaymentStore, stripe: FakeStripe) -> Payments:
    return Payments(store, stripe, Metrics())


async def authorize(payments: Payments, order_id: str = ORDER, **changes: Any) -> Payment:
    return await payments.authorize(a_command(order_id, **changes))


async def captured(payments: Payments) -> Payment:
    await authorize(payments)
    return await payments.capture(ORDER)


async def state(store: PaymentStore) -> PaymentState:
    stored = await store.get(ORDER)
    assert stored is not None
    return stored.value.state


def statuses(stripe: FakeStripe) -> list[IntentStatus]:
    return [intent.status for intent in stripe.intents.values()]


class TestAuthorize:
    async def test_sets_the_amount_aside_once(self, payments: Payments, stripe: FakeStripe) -> None:
        first = await authorize(payments)
        assert (first.state, first.intent_id) == (PaymentState.AUTHORIZED, "pi_1")
        assert await authorize(payments) == first
        assert stripe.asked == ["authorize"]

    @pytest.mark.parametrize(
        "change",
        [{"amount_cents": 1}, {"currency": "USD"}, {"payment_method": "pm_card_amex"}],
        ids=str,
    )
    async def test_is_refused_for_another_payment_of_the_same_order(
        self, payments: Payments, change: dict[str, Any]
    ) -> None:
        await authorize(payments)
        error = await failure(authorize(payments, **change))
        assert (error.kind, error.code) == (Kind.INVALID, "payment-differs")

    @pytest.mark.parametrize("kind", [Kind.DECLINED, Kind.INVALID])
    async def test_keeps_the_first_refusal(
        self, payments: Payments, stripe: FakeStripe, store: PaymentStore, kind: Kind
    ) -> None:
        stripe.decline = refused("card-declined", kind)
        for _ in range(2):
            error = await failure(authorize(payments))
            assert (error.kind, error.code) == (kind, "card-declined")
        assert await state(store) is PaymentState.DECLINED
        assert stripe.asked == ["authorize"]

    async def test_declines_are_counted_once_by_few_codes(
        self, store: PaymentStore, stripe: FakeStripe
    ) -> None:
        metrics = Metrics()
        payments = Payments(store, stripe, metrics)
        for number in range(30):
            stripe.decline = refused(f"odd-{number}")
            for _ in range(2):
                await failure(authorize(payments, order_id=f"ord_{number}"))
        counted = {
            sample.labels["code"]: sample.value
            for family in text_string_to_metric_families(metrics.exposition().decode())
            for sample in family.samples
            if sample.name == "meshmart_payment_declines_total"
        }
        assert set(DECLINE_CODES) < set(counted), "these are shown from the start"
        assert len(counted) == len(DECLINE_CODES) + 21
        assert counted["odd-0"] == 1
        assert counted["other"] == 10

    async def test_is_tried_again_after_an_outage(
        self, payments: Payments, stripe: FakeStripe
    ) -> None:
        stripe.before["authorize"] = away()
        assert (await failure(authorize(payments))).kind is Kind.UNAVAILABLE
        assert stripe.intents == {}
        assert (await authorize(payments)).state is PaymentState.AUTHORIZED

    async def test_finds_what_a_lost_answer_said(
        self, payments: Payments, stripe: FakeStripe
    ) -> None:
        stripe.after["authorize"] = away()
        assert (await failure(authorize(payments))).kind is Kind.UNAVAILABLE
        assert (await authorize(payments)).intent_id == "pi_1"
        assert len(stripe.intents) == 1

    async def test_finds_what_was_done_behind_a_500(
        self, payments: Payments, stripe: FakeStripe
    ) -> None:
        stripe.stored_500 = "effect"
        assert (await authorize(payments)).intent_id == "pi_1"
        assert stripe.asked == ["authorize", "find"]

    async def test_takes_a_new_key_when_nothing_is_behind_a_500(
        self, payments: Payments, stripe: FakeStripe
    ) -> None:
        stripe.stored_500 = "nothing"
        assert isinstance(await failure(authorize(payments)), StripeError)
        payment = await authorize(payments)
        assert (payment.state, payment.attempt) == (PaymentState.AUTHORIZED, 2)
        assert len(stripe.intents) == 1

    async def test_keeps_its_key_while_it_cannot_be_known_what_is_behind_a_500(
        self, payments: Payments, stripe: FakeStripe
    ) -> None:
        stripe.stored_500 = "effect"
        stripe.before["find"] = away()
        assert (await failure(authorize(payments))).code == "stripe-unavailable"
        payment = await authorize(payments)
        assert (payment.attempt, payment.intent_id) == (1, "pi_1")
        assert len(stripe.intents) == 1

    async def test_twenty_times_at_once_is_done_once(
        self, payments: Payments, stripe: FakeStripe
    ) -> None:
        results = await asyncio.gather(*(authorize(payments) for _ in range(20)))
        assert results == [results[0]] * 20
        assert len(stripe.intents) == 1


class TestCapture:
    async def test_charges_once(self, payments: Payments, stripe: FakeStripe) -> None:
        payment = await captured(payments)
        assert payment.state is PaymentState.CAPTURED
        assert await payments.capture(ORDER) == payment
        assert statuses(stripe) == [IntentStatus.CAPTURED]
        assert stripe.asked.count("capture") == 1

    async def test_needs_an_authorization(self, payments: Payments, stripe: FakeStripe) -> None:
        assert (await failure(payments.capture(ORDER))).code == "not-authorized"
        stripe.decline = refused("card-declined")
        await failure(authorize(payments))
        error = await failure(payments.capture(ORDER))
        assert (error.kind, error.code) == (Kind.CONFLICT, "not-authorized")

    @pytest.mark.parametrize("lost", [away(), StripeError()])
    async def test_finds_what_a_lost_answer_said(
        self, payments: Payments, stripe: FakeStripe, lost: ShopError
    ) -> None:
        await authorize(payments)
        stripe.after["capture"] = lost
        if not isinstance(lost, StripeError):
            assert (await failure(payments.capture(ORDER))).kind is Kind.UNAVAILABLE
        assert (await payments.capture(ORDER)).state is PaymentState.CAPTURED

    @pytest.mark.parametrize("error", [away(), StripeError()])
    async def test_is_tried_again_after_a_failure(
        self, payments: Payments, stripe: FakeStripe, error: ShopError
    ) -> None:
        await authorize(payments)
        stripe.before["capture"] = error
        assert (await failure(payments.capture(ORDER))).kind is Kind.UNAVAILABLE
        assert (await payments.capture(ORDER)).state is PaymentState.CAPTURED

    async def test_says_when_the_authorization_is_gone(
        self, payments: Payments, stripe: FakeStripe
    ) -> None:
        await authorize(payments)
        stripe.intents["pi_1"].status = IntentStatus.CANCELLED  # Stripe does so after some days
        error = await failure(payments.capture(ORDER))
        assert (error.kind, error.code) == (Kind.DECLINED, "authorization-expired")
        assert (await payments.cancel(ORDER)).state is PaymentState.VOIDED


class TestCancel:
    async def test_gives_up_an_authorization(self, payments: Payments, stripe: FakeStripe) -> None:
        await authorize(payments)
        assert (await payments.cancel(ORDER)).state is PaymentState.VOIDED
        assert statuses(stripe) == [IntentStatus.CANCELLED]

    async def test_pays_back_a_charge(self, payments: Payments, stripe: FakeStripe) -> None:
        await captured(payments)
        assert (await payments.cancel(ORDER)).state is PaymentState.REFUNDED
        assert stripe.intents["pi_1"].refunded

    async def test_twice_changes_nothing_more(self, payments: Payments, stripe: FakeStripe) -> None:
        await captured(payments)
        first = await payments.cancel(ORDER)
        asked = list(stripe.asked)
        assert await payments.cancel(ORDER) == first
        assert stripe.asked == asked

    async def test_of_a_refused_payment_asks_nobody(
        self, payments: Payments, stripe: FakeStripe
    ) -> None:
        stripe.decline = refused("card-declined", Kind.DECLINED)
        await failure(authorize(payments))
        assert (await payments.cancel(ORDER)).state is PaymentState.VOIDED
        assert stripe.asked == ["authorize"]

    async def test_closes_a_payment_that_was_never_asked_for(
        self, payments: Payments, stripe: FakeStripe
    ) -> None:
        assert (await payments.cancel(ORDER)).state is PaymentState.VOIDED
        for late in (authorize(payments), payments.capture(ORDER)):
            error = await failure(late)
            assert (error.kind, error.code) == (Kind.CONFLICT, "payment-closed")
        assert stripe.asked == ["find"]

    @pytest.mark.parametrize("end", [PaymentState.VOIDED, PaymentState.REFUNDED])
    async def test_closes_a_payment_for_good(self, payments: Payments, end: PaymentState) -> None:
        await (authorize(payments) if end is PaymentState.VOIDED else captured(payments))
        assert (await payments.cancel(ORDER)).state is end
        assert (await failure(authorize(payments))).code == "payment-closed"
        assert (await failure(payments.capture(ORDER))).code == "payment-closed"

    @pytest.mark.parametrize("failing", ["before", "after"])
    async def test_finds_an_authorization_whose_answer_was_lost(
        self, payments: Payments, stripe: FakeStripe, failing: str
    ) -> None:
        getattr(stripe, failing)["authorize"] = away()
        await failure(authorize(payments))
        assert (await payments.cancel(ORDER)).state is PaymentState.VOIDED
        assert statuses(stripe) == [IntentStatus.CANCELLED]

    async def test_finds_an_authorization_behind_a_500(
        self, payments: Payments, stripe: FakeStripe
    ) -> None:
        stripe.stored_500 = "effect"
        stripe.before["find"] = away()
        await failure(authorize(payments))
        assert (await payments.cancel(ORDER)).state is PaymentState.VOIDED
        assert statuses(stripe) == [IntentStatus.CANCELLED]

    async def test_takes_a_refusal_whose_answer_was_lost_for_an_end(
        self, payments: Payments, stripe: FakeStripe
    ) -> None:
        stripe.decline = refused("card-declined", Kind.DECLINED)
        stripe.after["authorize"] = away()
        await failure(authorize(payments))
        assert (await payments.cancel(ORDER)).state is PaymentState.VOIDED

    async def test_pays_back_what_a_late_capture_charges(
        self, payments: Payments, stripe: FakeStripe
    ) -> None:
        """The capture reaches Stripe between the cancellation's look and its void."""
        await authorize(payments)
        stripe.late_capture = True
        assert (await payments.cancel(ORDER)).state is PaymentState.REFUNDED
        assert stripe.intents["pi_1"].refunded

    async def test_while_an_authorization_is_under_way_leaves_nothing_set_aside(
        self, payments: Payments, stripe: FakeStripe
    ) -> None:
        answered = stripe.gates["authorize"] = asyncio.Event()
        slow = asyncio.create_task(authorize(payments))
        await until(lambda: bool(stripe.intents))
        del stripe.gates["authorize"]
        assert (await payments.cancel(ORDER)).state is PaymentState.VOIDED
        answered.set()
        assert (await failure(slow)).code == "payment-closed"
        assert (await failure(authorize(payments))).code == "payment-closed"
        assert statuses(stripe) == [IntentStatus.CANCELLED]

    async def test_while_a_capture_is_under_way_pays_back(
        self, payments: Payments, stripe: FakeStripe
    ) -> None:
        await authorize(payments)
        answered = stripe.gates["capture"] = asyncio.Event()
        slow = asyncio.create_task(payments.capture(ORDER))
        await until(lambda: statuses(stripe) == [IntentStatus.CAPTURED])
        assert (await payments.cancel(ORDER)).state is PaymentState.REFUNDED
        answered.set()
        assert (await failure(slow)).code == "payment-closed"
        assert (await failure(payments.capture(ORDER))).code == "payment-closed"

    @pytest.mark.parametrize("lost", [away(), StripeError()])
    @pytest.mark.parametrize("operation", ["void", "refund"])
    async def test_is_finished_after_a_lost_answer(
        self, payments: Payments, stripe: FakeStripe, operation: str, lost: ShopError
    ) -> None:
        await (authorize(payments) if operation == "void" else captured(payments))
        stripe.after[operation] = lost
        assert (await failure(payments.cancel(ORDER))).kind is Kind.UNAVAILABLE
        end = PaymentState.VOIDED if operation == "void" else PaymentState.REFUNDED
        assert (await payments.cancel(ORDER)).state is end

    async def test_by_many_at_once_pays_back_once(
        self, payments: Payments, stripe: FakeStripe
    ) -> None:
        await captured(payments)
        await asyncio.gather(*(payments.cancel(ORDER) for _ in range(10)), return_exceptions=True)
        assert (await payments.cancel(ORDER)).state is PaymentState.REFUNDED

    async def test_concludes_nothing_when_stripe_has_forgotten(
        self, payments: Payments, stripe: FakeStripe, store: PaymentStore
    ) -> None:
        await authorize(payments)
        stripe.before["retrieve"] = refused("resource-missing")
        assert (await failure(payments.cancel(ORDER))).code == "resource-missing"
        assert await state(store) is PaymentState.CANCELLING
        assert (await payments.cancel(ORDER)).state is PaymentState.VOIDED


class TestARefundThatIsRefusedForGood:
    async def test_for_any_other_reason_ends_the_payment_too(
        self, payments: Payments, stripe: FakeStripe
    ) -> None:
        await captured(payments)
        stripe.before["refund"] = refused("charge-not-refundable")
        assert (await payments.cancel(ORDER)).state is PaymentState.REFUND_FAILED
        assert (await payments.cancel(ORDER)).state is PaymentState.REFUND_FAILED
        assert stripe.asked.count("refund") == 1

    async def test_because_of_a_dispute_ends_the_payment(
        self, payments: Payments, stripe: FakeStripe
    ) -> None:
        await captured(payments)
        stripe.before["refund"] = refused("charge-disputed")
        first = await payments.cancel(ORDER)
        assert first.state is PaymentState.DISPUTED
        assert await payments.cancel(ORDER) == first
        assert stripe.asked.count("refund") == 1

    async def test_because_the_card_takes_none_is_no_refund(
        self, payments: Payments, stripe: FakeStripe
    ) -> None:
        await captured(payments)
        stripe.refunds_fail = True
        assert (await payments.cancel(ORDER)).state is PaymentState.REFUND_FAILED
        assert (await payments.cancel(ORDER)).state is PaymentState.REFUND_FAILED
        assert stripe.asked.count("refund") == 1
        assert (await failure(payments.capture(ORDER))).code == "payment-closed"


class TestARestoredStore:
    """The store is a copy from before the payment; Stripe is not."""

    @pytest.fixture
    def metrics(self) -> Metrics:
        return Metrics()

    @pytest.fixture
    def payments(self, store: PaymentStore, stripe: FakeStripe, metrics: Metrics) -> Payments:
        return Payments(store, stripe, metrics)

    @pytest.mark.parametrize(
        ("held", "end"),
        [
            (IntentStatus.AUTHORIZED, PaymentState.VOIDED),
            (IntentStatus.CAPTURED, PaymentState.REFUNDED),
        ],
    )
    async def test_gives_the_money_back_all_the_same(
        self,
        payments: Payments,
        stripe: FakeStripe,
        metrics: Metrics,
        held: IntentStatus,
        end: PaymentState,
    ) -> None:
        intent_id = stripe.put(ORDER, held)
        payment = await payments.cancel(ORDER)
        assert (payment.state, payment.intent_id, payment.amount_cents) == (end, intent_id, 2500)
        intent = stripe.intents[intent_id]
        assert intent.refunded or intent.status is IntentStatus.CANCELLED
        assert 'payments_recovered_total{request="cancel"} 1.0' in metrics.exposition().decode()

    async def test_concludes_nothing_while_stripe_is_away(
        self, payments: Payments, stripe: FakeStripe, store: PaymentStore
    ) -> None:
        stripe.put(ORDER, IntentStatus.CAPTURED)
        stripe.before["find"] = away()
        assert (await failure(payments.cancel(ORDER))).kind is Kind.UNAVAILABLE
        assert await store.get(ORDER) is None
        assert (await payments.cancel(ORDER)).state is PaymentState.REFUNDED

    @pytest.mark.parametrize("held", [IntentStatus.AUTHORIZED, IntentStatus.CAPTURED])
    async def test_charges_what_was_authorized(
        self, payments: Payments, stripe: FakeStripe, held: IntentStatus
    ) -> None:
        stripe.put(ORDER, held)
        assert (await payments.capture(ORDER)).state is PaymentState.CAPTURED
        assert statuses(stripe) == [IntentStatus.CAPTURED]

    @pytest.mark.parametrize("held", [IntentStatus.AUTHORIZED, IntentStatus.CAPTURED])
    async def test_charges_what_it_was_about_to_authorize(
        self, payments: Payments, stripe: FakeStripe, metrics: Metrics, held: IntentStatus
    ) -> None:
        """The copy is from while the authorization was under way."""
        stripe.before["authorize"] = away()
        assert (await failure(authorize(payments))).kind is Kind.UNAVAILABLE
        intent_id = stripe.put(ORDER, held)
        payment = await payments.capture(ORDER)
        assert (payment.state, payment.intent_id) == (PaymentState.CAPTURED, intent_id)
        assert statuses(stripe) == [IntentStatus.CAPTURED]
        assert 'payments_recovered_total{request="capture"} 1.0' in metrics.exposition().decode()

    async def test_learns_from_its_order_whose_payment_it_is(
        self, payments: Payments, stripe: FakeStripe
    ) -> None:
        stripe.put(ORDER, IntentStatus.CAPTURED)
        await payments.capture(ORDER)
        recovered = await authorize(payments)
        assert (recovered.user_id, recovered.state) == ("usr_ada", PaymentState.CAPTURED)
        assert await payments.get("usr_ada", ORDER) == recovered
        assert len(stripe.intents) == 1

    async def test_has_nothing_to_give_back_of_what_was_voided(
        self, payments: Payments, stripe: FakeStripe
    ) -> None:
        stripe.put(ORDER, IntentStatus.CANCELLED)
        assert (await payments.cancel(ORDER)).state is PaymentState.VOIDED
        assert stripe.asked == ["find"]


async def test_a_payment_is_shown_to_its_owner_only(payments: Payments) -> None:
    payment = await authorize(payments)
    assert await payments.get("usr_ada", ORDER) == payment
    for user_id, order_id in (("usr_eve", ORDER), ("usr_ada", "ord_2"), ("", ORDER)):
        error = await failure(payments.get(user_id, order_id))
        assert (error.kind, error.code) == (Kind.NOT_FOUND, "unknown-payment")
