"""What the bank and the card's owner do later: a refund fails, a charge is disputed."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from services.common.documents import Documents, Json, SqliteStore
from services.common.errors import ShopError
from services.common.observing.metrics import Metrics
from services.payment import aftermath, service
from services.payment.aftermath import Aftermath
from services.payment.model import PAYMENTS, RECONCILED, Payment, PaymentState, Reconciled
from services.payment.store import PaymentStore, ReconciledStore
from tests.testkit.metrics import values_of
from tests.unit.payment.examples import ORDER, a_command
from tests.unit.payment.fake_stripe import away, refused
from tests.unit.payment.harness import PaymentHarness

MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS


class AftermathHarness(PaymentHarness):
    """Processes of payment that look again at one Stripe."""

    def __init__(self, store: PaymentStore, looked: ReconciledStore) -> None:
        super().__init__(store)
        self._looked = looked
        self.now_ms = 1_800_000_000_000

    def process(self, metrics: Metrics | None = None) -> Aftermath:
        """One more process."""
        return Aftermath(self.store, self._looked, self.stripe, metrics or Metrics())

    async def refunded(self, order_id: str = ORDER) -> Payment:
        """A payment of an order that was cancelled."""
        await self.captured(order_id)
        return await self.payments.cancel(order_id)

    def bank_sends_back(self, intent_id: str = "pi_1") -> None:
        """The refund fails."""
        self.stripe.intents[intent_id].refunded = False


@pytest.fixture
async def harness(
    database: SqliteStore, store: PaymentStore, monkeypatch: pytest.MonkeyPatch
) -> AftermathHarness:
    marks = await Documents.open(database, RECONCILED, Reconciled)
    harness = AftermathHarness(store, ReconciledStore(marks, Reconciled.DISPUTES))
    for module in (aftermath, service):
        monkeypatch.setattr(module, "now_ms", lambda: harness.now_ms)
    return harness


@pytest.fixture
def looking(harness: AftermathHarness) -> Aftermath:
    return harness.process(harness.metrics)


def reversals(harness: AftermathHarness) -> dict[str, float]:
    """The counter, by kind."""
    counted = values_of(harness.metrics, "meshmart_payment_reversals_total")
    return {kind: count for (kind,), count in counted.items()}


class TestARefundAtStripe:
    async def test_that_arrives_stays_one(
        self, harness: AftermathHarness, looking: Aftermath
    ) -> None:
        await harness.refunded()
        await looking.run()
        harness.now_ms += MINUTE_MS
        await looking.run()
        assert (await harness.payment()).state is PaymentState.REFUNDED
        assert reversals(harness) == {"disputed": 0, "refund_failed": 0}

    async def test_that_fails_later_is_known_counted_and_told(
        self, harness: AftermathHarness, looking: Aftermath
    ) -> None:
        await harness.refunded()
        await looking.run()
        harness.bank_sends_back()
        harness.now_ms += DAY_MS
        await looking.run()
        payment = await harness.payment()
        assert (payment.state, payment.refund_look_ms) == (PaymentState.REFUND_FAILED, None)
        assert reversals(harness) == {"disputed": 0, "refund_failed": 1}
        assert await harness.payments.cancel(ORDER) == payment, "who asks again is told"
        assert harness.stripe.asked.count("refund") == 1, "and nothing is paid back twice"

    async def test_is_looked_at_often_at_first_and_twice_a_day_until_it_is_certain(
        self, harness: AftermathHarness, looking: Aftermath
    ) -> None:
        await harness.refunded()
        began_ms = harness.now_ms
        looks: list[int] = []
        while harness.now_ms < began_ms + 60 * DAY_MS:
            before = harness.stripe.asked.count("refunded")
            await looking.run()
            if harness.stripe.asked.count("refunded") > before:
                looks.append(harness.now_ms - began_ms)
            due_ms = (await harness.payment()).refund_look_ms
            if due_ms is None:
                break
            harness.now_ms = max(due_ms, harness.now_ms + MINUTE_MS)
        assert looks[:6] == [
            0,
            MINUTE_MS,
            2 * MINUTE_MS,
            4 * MINUTE_MS,
            8 * MINUTE_MS,
            16 * MINUTE_MS,
        ]
        assert 35 * DAY_MS < looks[-1] <= 35.5 * DAY_MS
        assert max(later - look for look, later in pairwise(looks)) <= DAY_MS // 2

    async def test_of_an_older_version_is_left_alone(
        self, harness: AftermathHarness, looking: Aftermath
    ) -> None:
        await harness.refunded()
        stored = await harness.store.get(ORDER)
        assert stored is not None
        old = stored.value.model_copy(update={"refund_look_ms": None, "refunded_ms": None})
        await harness.store.save(stored, old)
        harness.bank_sends_back()
        await looking.run()
        assert (await harness.payment()).state is PaymentState.REFUNDED

    @pytest.mark.parametrize("cancelled", ["voided", "fenced"])
    async def test_is_not_asked_for_where_nothing_was_charged(
        self, harness: AftermathHarness, looking: Aftermath, cancelled: str
    ) -> None:
        if cancelled == "voided":
            await harness.payments.authorize(a_command())
        await harness.payments.cancel(ORDER)
        await looking.run()
        assert "refunded" not in harness.stripe.asked

    async def test_waits_for_an_outage_to_end(
        self, harness: AftermathHarness, looking: Aftermath
    ) -> None:
        await harness.refunded()
        harness.bank_sends_back()
        harness.stripe.before["refunded"] = away()
        with pytest.raises(ShopError):
            await looking.run()
        assert (await harness.payment()).state is PaymentState.REFUNDED
        await looking.run()
        assert (await harness.payment()).state is PaymentState.REFUND_FAILED

    async def test_that_stripe_does_not_know_holds_up_no_others(
        self, harness: AftermathHarness, looking: Aftermath
    ) -> None:
        await harness.refunded()
        await harness.refunded("ord_2")
        harness.bank_sends_back("pi_1")
        harness.bank_sends_back("pi_2")
        harness.stripe.before["refunded"] = refused("resource-missing")
        await looking.run()
        states = {(await harness.payment(order_id)).state for order_id in (ORDER, "ord_2")}
        assert states == {PaymentState.REFUNDED, PaymentState.REFUND_FAILED}

    async def test_is_counted_once_by_several_processes(self, harness: AftermathHarness) -> None:
        await harness.refunded()
        harness.bank_sends_back()
        await asyncio.gather(*[harness.process().run() for _ in range(4)])
        assert (await harness.payment()).state is PaymentState.REFUND_FAILED


class TestADispute:
    async def test_is_noted_and_the_charge_stays(
        self, harness: AftermathHarness, looking: Aftermath
    ) -> None:
        await harness.captured()
        harness.stripe.dispute("pi_1")
        for _ in range(3):
            await looking.run()
        payment = await harness.payment()
        assert (payment.state, payment.is_disputed) == (PaymentState.CAPTURED, True)
        assert reversals(harness) == {"disputed": 1, "refund_failed": 0}
        assert await harness.payments.capture(ORDER) == payment
        assert harness.stripe.asked.count("order_of") == 1

    async def test_is_noted_once_by_processes_one_after_the_other(
        self, harness: AftermathHarness, looking: Aftermath
    ) -> None:
        await harness.captured()
        harness.stripe.dispute("pi_1")
        await harness.process().run()
        await looking.run()
        assert reversals(harness)["disputed"] == 0

    async def test_of_another_shop_is_nobodys(
        self, harness: AftermathHarness, looking: Aftermath
    ) -> None:
        for order_id in (None, "somebody-elses"):
            harness.stripe.dispute(harness.stripe.put(order_id))
        await looking.run()
        assert reversals(harness)["disputed"] == 0

    async def test_is_found_later_when_stripe_was_away(
        self, harness: AftermathHarness, looking: Aftermath
    ) -> None:
        await harness.captured()
        harness.stripe.dispute("pi_1")
        harness.stripe.before["order_of"] = away()
        with pytest.raises(ShopError):
            await looking.run()
        await looking.run()
        assert (await harness.payment()).is_disputed

    async def test_is_found_though_a_newer_one_is_known(
        self, harness: AftermathHarness, looking: Aftermath
    ) -> None:
        """The list may show one late, under the second in which it was made."""
        await harness.captured()
        await harness.captured("ord_2")
        harness.stripe.now_seconds += 60
        harness.stripe.dispute("pi_2")
        await looking.run()
        harness.stripe.now_seconds -= 60
        harness.stripe.dispute("pi_1")
        await looking.run()
        assert (await harness.payment()).is_disputed


async def test_documents_of_an_older_version_are_read(database: SqliteStore) -> None:
    old: dict[str, Json] = {
        "id": ORDER,
        "user_id": "usr_ada",
        "amount_cents": 2500,
        "currency": "EUR",
        "payment_method": "pm_card_visa",
        "state": "refunded",
        "created_ms": 1,
        "attempt": 1,
        "intent_id": "pi_1",
        "refusal": None,
    }
    documents = await Documents.open(database, PAYMENTS, Payment)
    await database.insert(PAYMENTS, ORDER, old)
    stored = await documents.get(ORDER)
    assert stored is not None
    assert (stored.value.state, stored.value.is_disputed) == (PaymentState.REFUNDED, False)
