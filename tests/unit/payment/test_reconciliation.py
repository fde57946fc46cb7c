"""Money held at Stripe that no payment answers for: found, and taken on or given back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from services.common.errors import ShopError
from services.common.observing.metrics import Metrics
from services.payment.clients import IntentStatus, StripeError
from services.payment.model import PaymentState
from services.payment.reconciliation import Reconciliation
from services.payment.store import PaymentStore, ReconciledStore
from tests.testkit.metrics import values_of
from tests.unit.common.kit import until
from tests.unit.failure import failure
from tests.unit.payment.examples import ORDER
from tests.unit.payment.fake_stripe import away, refused
from tests.unit.payment.harness import PaymentHarness

MINUTE = 60
HOUR = 3600


class ReconciliationHarness(PaymentHarness):
    """Processes of payment that reconcile with one Stripe."""

    def __init__(self, store: PaymentStore, reconciled: ReconciledStore) -> None:
        super().__init__(store)
        self.now_seconds = 0.0
        self._reconciled = reconciled
        self.reconciliation = self.process(self.metrics)

    def process(self, metrics: Metrics | None = None) -> Reconciliation:
        """One more process."""
        return Reconciliation(
            self.payments,
            self.store,
            self._reconciled,
            self.stripe,
            metrics or Metrics(),
            clock=lambda: self.now_seconds,
        )

    async def rounds(self, count: int = 2) -> None:
        """Rounds of the first process, half a minute apart."""
        for _ in range(count):
            await self.reconciliation.run()
            self.pass_time(30)

    def pass_time(self, seconds: int) -> None:
        """Lets all clocks go on."""
        self.now_seconds += seconds
        self.stripe.now_seconds += seconds

    @property
    def statuses(self) -> list[IntentStatus]:
        """Of all intents, oldest first."""
        return [intent.status for intent in self.stripe.intents.values()]

    @property
    def strays(self) -> dict[str, float]:
        """The counter, by end, of those that were counted."""
        counts = values_of(self.metrics, "meshmart_stray_intents_total")
        return {end: count for (end,), count in counts.items() if count}


@pytest.fixture
def harness(store: PaymentStore, reconciled: ReconciledStore) -> ReconciliationHarness:
    return ReconciliationHarness(store, reconciled)


async def declined(harness: ReconciliationHarness) -> None:
    harness.stripe.decline = refused("card-declined")
    await failure(harness.authorize())
    harness.stripe.decline = None


async def authorized(harness: ReconciliationHarness) -> None:
    await harness.authorize()


async def captured(harness: ReconciliationHarness) -> None:
    await harness.captured()


async def voided(harness: ReconciliationHarness) -> None:
    await harness.authorize()
    await harness.payments.cancel(ORDER)


async def refunded(harness: ReconciliationHarness) -> None:
    await captured(harness)
    await harness.payments.cancel(ORDER)


async def fenced(harness: ReconciliationHarness) -> None:
    await harness.payments.cancel(ORDER)


class TestOwnIntents:
    @pytest.mark.parametrize("story", [declined, authorized, captured, voided, refunded, fenced])
    async def test_are_left_alone(
        self,
        harness: ReconciliationHarness,
        story: Callable[[ReconciliationHarness], Awaitable[None]],
    ) -> None:
        await story(harness)
        before = harness.statuses
        harness.stripe.asked.clear()
        await harness.rounds(3)
        assert harness.statuses == before
        assert set(harness.stripe.asked) <= {"newest", "list"}
        assert harness.strays == {}

    async def test_of_another_shop_are_left_alone(self, harness: ReconciliationHarness) -> None:
        harness.stripe.put("somebody-elses")
        harness.stripe.put(None)
        await harness.rounds(3)
        assert harness.statuses == [IntentStatus.AUTHORIZED] * 2
        assert harness.strays == {}

    async def test_that_the_store_has_lost_are_counted_and_wait_for_their_order(
        self, harness: ReconciliationHarness
    ) -> None:
        harness.stripe.put(ORDER, IntentStatus.CAPTURED)
        await harness.rounds(3)
        assert harness.statuses == [IntentStatus.CAPTURED]
        assert harness.strays == {"unknown": 1}
        assert (await harness.payments.cancel(ORDER)).state is PaymentState.REFUNDED


class TestLostAnswers:
    async def test_are_taken_on(self, harness: ReconciliationHarness) -> None:
        harness.stripe.after["authorize"] = away()
        await failure(harness.authorize())
        await harness.rounds()
        payment = await harness.payment()
        assert (payment.state, payment.intent_id) == (PaymentState.AUTHORIZED, "pi_1")
        assert harness.strays == {"adopted": 1}
        assert await harness.authorize() == payment
        assert (await harness.payments.capture(ORDER)).state is PaymentState.CAPTURED

    async def test_are_not_taken_from_a_request_under_way(
        self, harness: ReconciliationHarness
    ) -> None:
        answered = harness.stripe.gates["authorize"] = asyncio.Event()
        slow = asyncio.create_task(harness.authorize())
        await until(lambda: bool(harness.stripe.intents))
        await harness.reconciliation.run()
        await harness.reconciliation.run()
        assert (await harness.payment()).state is PaymentState.AUTHORIZING
        answered.set()
        assert (await slow).intent_id == "pi_1"
        await harness.rounds()
        assert harness.strays == {}

    async def test_and_a_request_that_takes_very_long_end_the_same(
        self, harness: ReconciliationHarness
    ) -> None:
        answered = harness.stripe.gates["authorize"] = asyncio.Event()
        slow = asyncio.create_task(harness.authorize())
        await until(lambda: bool(harness.stripe.intents))
        await harness.rounds()
        assert (await harness.payment()).state is PaymentState.AUTHORIZED
        answered.set()
        assert await slow == await harness.payment()

    async def test_of_a_cancelled_payment_are_given_back(
        self, harness: ReconciliationHarness
    ) -> None:
        harness.stripe.after["authorize"] = away()
        await failure(harness.authorize())
        harness.stripe.before["authorize"] = away()
        await failure(harness.payments.cancel(ORDER))
        await harness.rounds()
        assert harness.statuses == [IntentStatus.CANCELLED]
        assert (await harness.payments.cancel(ORDER)).state is PaymentState.VOIDED

    async def test_keep_the_window_open_until_they_are_settled(
        self, harness: ReconciliationHarness
    ) -> None:
        harness.stripe.after["authorize"] = away()
        await failure(harness.authorize())
        harness.pass_time(HOUR)
        await harness.authorize("ord_other")
        await harness.reconciliation.run()
        harness.pass_time(HOUR)
        await harness.authorize("ord_another")
        await harness.reconciliation.run()
        assert (await harness.payment()).state is PaymentState.AUTHORIZED


class TestStrays:
    @pytest.mark.parametrize("story", [declined, authorized, captured, voided, refunded, fenced])
    @pytest.mark.parametrize("status", [IntentStatus.AUTHORIZED, IntentStatus.CAPTURED])
    async def test_are_given_back(
        self,
        harness: ReconciliationHarness,
        story: Callable[[ReconciliationHarness], Awaitable[None]],
        status: IntentStatus,
    ) -> None:
        await story(harness)
        before, own = await harness.payment(), harness.statuses
        stray = harness.stripe.put(ORDER, status)
        await harness.rounds(3)
        given_back = harness.stripe.intents[stray]
        assert given_back.refunded or given_back.status is IntentStatus.CANCELLED
        assert (await harness.payment(), harness.statuses[:-1]) == (before, own)
        assert harness.strays == {"voided" if status is IntentStatus.AUTHORIZED else "refunded": 1}

    async def test_come_of_an_authorization_that_happens_after_our_look(
        self, harness: ReconciliationHarness
    ) -> None:
        """Stripe says 500, shows no intent, and makes the authorization after all."""
        harness.stripe.stored_500 = "late"
        assert isinstance(await failure(harness.authorize()), StripeError)
        payment = await harness.authorize()
        assert (payment.attempt, payment.state) == (2, PaymentState.AUTHORIZED)
        harness.stripe.land()
        assert harness.statuses == [IntentStatus.AUTHORIZED] * 2, "the money is held twice"
        await harness.rounds(1)
        assert harness.statuses == [IntentStatus.AUTHORIZED, IntentStatus.CANCELLED]
        assert (await harness.payments.capture(ORDER)).state is PaymentState.CAPTURED

    async def test_come_late_for_an_order_that_was_cancelled(
        self, harness: ReconciliationHarness
    ) -> None:
        harness.stripe.stored_500 = "late"
        await failure(harness.authorize())
        harness.stripe.decline = refused("card-declined")
        assert (await harness.payments.cancel(ORDER)).state is PaymentState.VOIDED
        harness.stripe.land()
        await harness.rounds(1)
        assert harness.statuses == [IntentStatus.CANCELLED]

    async def test_are_given_back_once_by_several_processes(
        self, harness: ReconciliationHarness
    ) -> None:
        await captured(harness)
        for status in (IntentStatus.AUTHORIZED, IntentStatus.CAPTURED):
            harness.stripe.put(ORDER, status)
        await asyncio.gather(*(harness.process().run() for _ in range(4)))
        own, one, other = harness.stripe.intents.values()
        assert (own.status, own.refunded) == (IntentStatus.CAPTURED, False)
        assert (one.status, other.refunded) == (IntentStatus.CANCELLED, True)

    @pytest.mark.parametrize("operation", ["newest", "list", "void"])
    async def test_wait_for_an_outage_to_end(
        self, harness: ReconciliationHarness, operation: str
    ) -> None:
        await authorized(harness)
        stray = harness.stripe.put(ORDER)
        harness.stripe.before[operation] = away()
        await failure(harness.reconciliation.run())
        assert harness.stripe.intents[stray].status is IntentStatus.AUTHORIZED
        await harness.rounds(1)
        assert harness.stripe.intents[stray].status is IntentStatus.CANCELLED

    async def test_that_cannot_be_given_back_hold_up_no_others(
        self, harness: ReconciliationHarness
    ) -> None:
        await authorized(harness)
        stuck, other = (harness.stripe.put(ORDER) for _ in range(2))
        harness.stripe.before["void"] = StripeError()  # newest first: of the other one
        await harness.rounds(1)
        assert harness.stripe.intents[stuck].status is IntentStatus.CANCELLED
        assert harness.stripe.intents[other].status is IntentStatus.AUTHORIZED
        await harness.rounds(1)
        assert harness.stripe.intents[other].status is IntentStatus.CANCELLED


class TestRounds:
    async def test_of_any_process_go_on_where_the_last_one_came_to(
        self, harness: ReconciliationHarness
    ) -> None:
        for number in range(20):
            await harness.authorize(f"ord_{number}")
            harness.pass_time(MINUTE)
        await harness.reconciliation.run()
        assert len(set(harness.stripe.listed)) == 20
        harness.stripe.listed.clear()
        await harness.process().run()
        assert len(harness.stripe.listed) == 3, "the overlap of two minutes"

    async def test_begin_an_hour_back(self, harness: ReconciliationHarness) -> None:
        await authorized(harness)
        old = harness.stripe.put(ORDER)
        harness.pass_time(2 * HOUR)
        await harness.authorize("ord_2")
        recent = harness.stripe.put(ORDER)
        await harness.rounds(1)
        assert harness.stripe.intents[old].status is IntentStatus.AUTHORIZED
        assert harness.stripe.intents[recent].status is IntentStatus.CANCELLED

    async def test_keep_what_they_have_come_to_when_they_are_cut_short(
        self, harness: ReconciliationHarness
    ) -> None:
        await authorized(harness)
        harness.pass_time(HOUR // 2)
        await harness.authorize("ord_2")
        stray = harness.stripe.put(ORDER)
        harness.stripe.before["void"] = away()
        await failure(harness.reconciliation.run())
        harness.stripe.listed.clear()
        await harness.process().run()
        assert "pi_1" not in harness.stripe.listed
        assert harness.stripe.intents[stray].status is IntentStatus.CANCELLED

    async def test_get_on_although_none_can_look_far(self, harness: ReconciliationHarness) -> None:
        stray = harness.stripe.put("ord_0")
        for number in range(60):
            await harness.authorize(f"ord_{number}")
            harness.pass_time(10)
        harness.stripe.list_breaks_after = 20
        for _ in range(8):
            with suppress(ShopError):
                await harness.reconciliation.run()
        assert harness.stripe.intents[stray].status is IntentStatus.CANCELLED

    async def test_give_up_after_a_day_what_cannot_be_settled(
        self, harness: ReconciliationHarness
    ) -> None:
        await authorized(harness)
        stray = harness.stripe.put(ORDER)
        for _ in range(26):
            harness.stripe.before["void"] = StripeError()
            await harness.rounds(1)
            harness.pass_time(HOUR)
            await harness.authorize(f"ord_{harness.now_seconds}")
        harness.stripe.listed.clear()
        await harness.rounds(1)
        assert stray not in harness.stripe.listed

    async def test_with_nothing_at_stripe_do_nothing(self, harness: ReconciliationHarness) -> None:
        await harness.rounds()
        assert harness.stripe.asked == ["newest", "newest"]
