"""Money held at Stripe that no payment answers for: found, and taken on or given back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from services.common.errors import ShopError
from services.common.observing.metrics import Metrics
from services.payment.clients import IntentStatus, StripeError
from services.payment.model import Payment, PaymentState
from services.payment.reconciliation import Reconciliation
from services.payment.service import Payments
from services.payment.store import PaymentStore, ReconciledStore
from tests.unit.common.kit import until
from tests.unit.payment.examples import ORDER, a_command
from tests.unit.payment.fake_stripe import FakeStripe, away, refused

MINUTE = 60
HOUR = 3600


class Shop:
    """Processes of payment that reconcile with one Stripe."""

    def __init__(self, store: PaymentStore, reconciled: ReconciledStore) -> None:
        self.store = store
        self.stripe = FakeStripe()
        self.metrics = Metrics()
        self.now_seconds = 0.0
        self._reconciled = reconciled
        self.payments = Payments(store, self.stripe, Metrics())
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

    async def authorize(self, order_id: str = ORDER) -> Payment:
        """What order asks for."""
        return await self.payments.authorize(a_command(order_id))

    async def payment(self) -> Payment:
        """The payment as it is stored."""
        stored = await self.store.get(ORDER)
        assert stored is not None
        return stored.value

    @property
    def statuses(self) -> list[IntentStatus]:
        """Of all intents, oldest first."""
        return [intent.status for intent in self.stripe.intents.values()]

    @property
    def strays(self) -> dict[str, int]:
        """The counter, by end, of those that were counted."""
        lines = self.metrics.exposition().decode().splitlines()
        counted = (line for line in lines if line.startswith("meshmart_stray_intents_total{"))
        counts = {line.split('"')[1]: int(float(line.split()[1])) for line in counted}
        return {end: count for end, count in counts.items() if count}


@pytest.fixture
def shop(store: PaymentStore, reconciled: ReconciledStore) -> Shop:
    return Shop(store, reconciled)


async def failure(call: Awaitable[object]) -> ShopError:
    with pytest.raises(ShopError) as failed:
        await call
    return failed.value


async def declined(shop: Shop) -> None:
    shop.stripe.decline = refused("card-declined")
    await failure(shop.authorize())
    shop.stripe.decline = None


async def authorized(shop: Shop) -> None:
    await shop.authorize()


async def captured(shop: Shop) -> None:
    await shop.authorize()
    await shop.payments.capture(ORDER)


async def voided(shop: Shop) -> None:
    await shop.authorize()
    await shop.payments.cancel(ORDER)


async def refunded(shop: Shop) -> None:
    await captured(shop)
    await shop.payments.cancel(ORDER)


async def fenced(shop: Shop) -> None:
    await shop.payments.cancel(ORDER)


class TestOwnIntents:
    @pytest.mark.parametrize("story", [declined, authorized, captured, voided, refunded, fenced])
    async def test_are_left_alone(
        self, shop: Shop, story: Callable[[Shop], Awaitable[None]]
    ) -> None:
        await story(shop)
        before = shop.statuses
        shop.stripe.asked.clear()
        await shop.rounds(3)
        assert shop.statuses == before
        assert set(shop.stripe.asked) <= {"newest", "list"}
        assert shop.strays == {}

    async def test_of_another_shop_are_left_alone(self, shop: Shop) -> None:
        shop.stripe.put("somebody-elses")
        shop.stripe.put(None)
        await shop.rounds(3)
        assert shop.statuses == [IntentStatus.AUTHORIZED] * 2
        assert shop.strays == {}

    async def test_that_the_store_has_lost_are_counted_and_wait_for_their_order(
        self, shop: Shop
    ) -> None:
        shop.stripe.put(ORDER, IntentStatus.CAPTURED)
        await shop.rounds(3)
        assert shop.statuses == [IntentStatus.CAPTURED]
        assert shop.strays == {"unknown": 1}
        assert (await shop.payments.cancel(ORDER)).state is PaymentState.REFUNDED


class TestLostAnswers:
    async def test_are_taken_on(self, shop: Shop) -> None:
        shop.stripe.after["authorize"] = away()
        await failure(shop.authorize())
        await shop.rounds()
        payment = await shop.payment()
        assert (payment.state, payment.intent_id) == (PaymentState.AUTHORIZED, "pi_1")
        assert shop.strays == {"adopted": 1}
        assert await shop.authorize() == payment
        assert (await shop.payments.capture(ORDER)).state is PaymentState.CAPTURED

    async def test_are_not_taken_from_a_request_under_way(self, shop: Shop) -> None:
        answered = shop.stripe.gates["authorize"] = asyncio.Event()
        slow = asyncio.create_task(shop.authorize())
        await until(lambda: bool(shop.stripe.intents))
        await shop.reconciliation.run()
        await shop.reconciliation.run()
        assert (await shop.payment()).state is PaymentState.AUTHORIZING
        answered.set()
        assert (await slow).intent_id == "pi_1"
        await shop.rounds()
        assert shop.strays == {}

    async def test_and_a_request_that_takes_very_long_end_the_same(self, shop: Shop) -> None:
        answered = shop.stripe.gates["authorize"] = asyncio.Event()
        slow = asyncio.create_task(shop.authorize())
        await until(lambda: bool(shop.stripe.intents))
        await shop.rounds()
        assert (await shop.payment()).state is PaymentState.AUTHORIZED
        answered.set()
        assert await slow == await shop.payment()

    async def test_of_a_cancelled_payment_are_given_back(self, shop: Shop) -> None:
        shop.stripe.after["authorize"] = away()
        await failure(shop.authorize())
        shop.stripe.before["authorize"] = away()
        await failure(shop.payments.cancel(ORDER))
        await shop.rounds()
        assert shop.statuses == [IntentStatus.CANCELLED]
        assert (await shop.payments.cancel(ORDER)).state is PaymentState.VOIDED

    async def test_keep_the_window_open_until_they_are_settled(self, shop: Shop) -> None:
        shop.stripe.after["authorize"] = away()
        await failure(shop.authorize())
        shop.pass_time(HOUR)
        await shop.authorize("ord_other")
        await shop.reconciliation.run()
        shop.pass_time(HOUR)
        await shop.authorize("ord_another")
        await shop.reconciliation.run()
        assert (await shop.payment()).state is PaymentState.AUTHORIZED


class TestStrays:
    @pytest.mark.parametrize("story", [declined, authorized, captured, voided, refunded, fenced])
    @pytest.mark.parametrize("status", [IntentStatus.AUTHORIZED, IntentStatus.CAPTURED])
    async def test_are_given_back(
        self, shop: Shop, story: Callable[[Shop], Awaitable[None]], status: IntentStatus
    ) -> None:
        await story(shop)
        before, own = await shop.payment(), shop.statuses
        stray = shop.stripe.put(ORDER, status)
        await shop.rounds(3)
        given_back = shop.stripe.intents[stray]
        assert given_back.refunded or given_back.status is IntentStatus.CANCELLED
        assert (await shop.payment(), shop.statuses[:-1]) == (before, own)
        assert shop.strays == {"voided" if status is IntentStatus.AUTHORIZED else "refunded": 1}

    async def test_come_of_an_authorization_that_happens_after_our_look(self, shop: Shop) -> None:
        """Stripe says 500, shows no intent, and makes the authorization after all."""
        shop.stripe.stored_500 = "late"
        assert isinstance(await failure(shop.authorize()), StripeError)
        payment = await shop.authorize()
        assert (payment.attempt, payment.state) == (2, PaymentState.AUTHORIZED)
        shop.stripe.land()
        assert shop.statuses == [IntentStatus.AUTHORIZED] * 2, "the money is held twice"
        await shop.rounds(1)
        assert shop.statuses == [IntentStatus.AUTHORIZED, IntentStatus.CANCELLED]
        assert (await shop.payments.capture(ORDER)).state is PaymentState.CAPTURED

    async def test_come_late_for_an_order_that_was_cancelled(self, shop: Shop) -> None:
        shop.stripe.stored_500 = "late"
        await failure(shop.authorize())
        shop.stripe.decline = refused("card-declined")
        assert (await shop.payments.cancel(ORDER)).state is PaymentState.VOIDED
        shop.stripe.land()
        await shop.rounds(1)
        assert shop.statuses == [IntentStatus.CANCELLED]

    async def test_are_given_back_once_by_several_processes(self, shop: Shop) -> None:
        await captured(shop)
        for status in (IntentStatus.AUTHORIZED, IntentStatus.CAPTURED):
            shop.stripe.put(ORDER, status)
        await asyncio.gather(*(shop.process().run() for _ in range(4)))
        own, one, other = shop.stripe.intents.values()
        assert (own.status, own.refunded) == (IntentStatus.CAPTURED, False)
        assert (one.status, other.refunded) == (IntentStatus.CANCELLED, True)

    @pytest.mark.parametrize("operation", ["newest", "list", "void"])
    async def test_wait_for_an_outage_to_end(self, shop: Shop, operation: str) -> None:
        await authorized(shop)
        stray = shop.stripe.put(ORDER)
        shop.stripe.before[operation] = away()
        await failure(shop.reconciliation.run())
        assert shop.stripe.intents[stray].status is IntentStatus.AUTHORIZED
        await shop.rounds(1)
        assert shop.stripe.intents[stray].status is IntentStatus.CANCELLED

    async def test_that_cannot_be_given_back_hold_up_no_others(self, shop: Shop) -> None:
        await authorized(shop)
        stuck, other = (shop.stripe.put(ORDER) for _ in range(2))
        shop.stripe.before["void"] = StripeError()  # newest first: of the other one
        await shop.rounds(1)
        assert shop.stripe.intents[stuck].status is IntentStatus.CANCELLED
        assert shop.stripe.intents[other].status is IntentStatus.AUTHORIZED
        await shop.rounds(1)
        assert shop.stripe.intents[other].status is IntentStatus.CANCELLED


class TestRounds:
    async def test_of_any_process_go_on_where_the_last_one_came_to(self, shop: Shop) -> None:
        for number in range(20):
            await shop.authorize(f"ord_{number}")
            shop.pass_time(MINUTE)
        await shop.reconciliation.run()
        assert len(set(shop.stripe.listed)) == 20
        shop.stripe.listed.clear()
        await shop.process().run()
        assert len(shop.stripe.listed) == 3, "the overlap of two minutes"

    async def test_begin_an_hour_back(self, shop: Shop) -> None:
        await authorized(shop)
        old = shop.stripe.put(ORDER)
        shop.pass_time(2 * HOUR)
        await shop.authorize("ord_2")
        recent = shop.stripe.put(ORDER)
        await shop.rounds(1)
        assert shop.stripe.intents[old].status is IntentStatus.AUTHORIZED
        assert shop.stripe.intents[recent].status is IntentStatus.CANCELLED

    async def test_keep_what_they_have_come_to_when_they_are_cut_short(self, shop: Shop) -> None:
        await authorized(shop)
        shop.pass_time(HOUR // 2)
        await shop.authorize("ord_2")
        stray = shop.stripe.put(ORDER)
        shop.stripe.before["void"] = away()
        await failure(shop.reconciliation.run())
        shop.stripe.listed.clear()
        await shop.process().run()
        assert "pi_1" not in shop.stripe.listed
        assert shop.stripe.intents[stray].status is IntentStatus.CANCELLED

    async def test_get_on_although_none_can_look_far(self, shop: Shop) -> None:
        stray = shop.stripe.put("ord_0")
        for number in range(60):
            await shop.authorize(f"ord_{number}")
            shop.pass_time(10)
        shop.stripe.list_breaks_after = 20
        for _ in range(8):
            with suppress(ShopError):
                await shop.reconciliation.run()
        assert shop.stripe.intents[stray].status is IntentStatus.CANCELLED

    async def test_give_up_after_a_day_what_cannot_be_settled(self, shop: Shop) -> None:
        await authorized(shop)
        stray = shop.stripe.put(ORDER)
        for _ in range(26):
            shop.stripe.before["void"] = StripeError()
            await shop.rounds(1)
            shop.pass_time(HOUR)
            await shop.authorize(f"ord_{shop.now_seconds}")
        shop.stripe.listed.clear()
        await shop.rounds(1)
        assert stray not in shop.stripe.listed

    async def test_with_nothing_at_stripe_do_nothing(self, shop: Shop) -> None:
        await shop.rounds()
        assert shop.stripe.asked == ["newest", "newest"]
