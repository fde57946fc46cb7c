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
from services.payment.service import Payments
from services.payment.store import PaymentStore, ReconciledStore
from tests.unit.payment.examples import ORDER, a_command
from tests.unit.payment.fake_stripe import FakeStripe, away, refused

MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS


class Shop:
    """Processes of payment that look again at one Stripe."""

    def __init__(self, database: SqliteStore, store: PaymentStore) -> None:
        self.database = database
        self.store = store
        self.stripe = FakeStripe()
        self.metrics = Metrics()
        self.payments = Payments(store, self.stripe, Metrics())
        self.now_ms = 1_800_000_000_000

    async def process(self) -> Aftermath:
        """One more process."""
        marks = await Documents.open(self.database, RECONCILED, Reconciled)
        looked = ReconciledStore(marks, Reconciled.DISPUTES)
        return Aftermath(self.store, looked, self.stripe, Metrics())

    async def captured(self, order_id: str = ORDER) -> Payment:
        """A payment of an order that stands."""
        await self.payments.authorize(a_command(order_id))
        return await self.payments.capture(order_id)

    async def refunded(self, order_id: str = ORDER) -> Payment:
        """A payment of an order that was cancelled."""
        await self.captured(order_id)
        return await self.payments.cancel(order_id)

    def bank_sends_back(self, intent_id: str = "pi_1") -> None:
        """The refund fails."""
        self.stripe.intents[intent_id].refunded = False

    async def payment(self, order_id: str = ORDER) -> Payment:
        """The payment as it is stored."""
        stored = await self.store.get(order_id)
        assert stored is not None
        return stored.value


@pytest.fixture
def shop(database: SqliteStore, store: PaymentStore, monkeypatch: pytest.MonkeyPatch) -> Shop:
    shop = Shop(database, store)
    for module in (aftermath, service):
        monkeypatch.setattr(module, "now_ms", lambda: shop.now_ms)
    return shop


@pytest.fixture
async def looking(shop: Shop) -> Aftermath:
    marks = await Documents.open(shop.database, RECONCILED, Reconciled)
    looked = ReconciledStore(marks, Reconciled.DISPUTES)
    return Aftermath(shop.store, looked, shop.stripe, shop.metrics)


def reversals(shop: Shop) -> dict[str, int]:
    """The counter, by kind."""
    lines = shop.metrics.exposition().decode().splitlines()
    counted = (line for line in lines if line.startswith("meshmart_payment_reversals_total{"))
    return {line.split('"')[1]: int(float(line.split()[1])) for line in counted}


class TestARefund:
    async def test_that_arrives_stays_one(self, shop: Shop, looking: Aftermath) -> None:
        await shop.refunded()
        await looking.run()
        shop.now_ms += MINUTE_MS
        await looking.run()
        assert (await shop.payment()).state is PaymentState.REFUNDED
        assert reversals(shop) == {"disputed": 0, "refund_failed": 0}

    async def test_that_fails_later_is_known_counted_and_told(
        self, shop: Shop, looking: Aftermath
    ) -> None:
        await shop.refunded()
        await looking.run()
        shop.bank_sends_back()
        shop.now_ms += DAY_MS
        await looking.run()
        payment = await shop.payment()
        assert (payment.state, payment.refund_look_ms) == (PaymentState.REFUND_FAILED, None)
        assert reversals(shop) == {"disputed": 0, "refund_failed": 1}
        assert await shop.payments.cancel(ORDER) == payment, "who asks again is told"
        assert shop.stripe.asked.count("refund") == 1, "and nothing is paid back twice"

    async def test_is_looked_at_often_at_first_and_twice_a_day_until_it_is_certain(
        self, shop: Shop, looking: Aftermath
    ) -> None:
        await shop.refunded()
        began_ms = shop.now_ms
        looks: list[int] = []
        while shop.now_ms < began_ms + 60 * DAY_MS:
            before = shop.stripe.asked.count("refunded")
            await looking.run()
            if shop.stripe.asked.count("refunded") > before:
                looks.append(shop.now_ms - began_ms)
            due_ms = (await shop.payment()).refund_look_ms
            if due_ms is None:
                break
            shop.now_ms = max(due_ms, shop.now_ms + MINUTE_MS)
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

    async def test_of_an_older_version_is_left_alone(self, shop: Shop, looking: Aftermath) -> None:
        await shop.refunded()
        stored = await shop.store.get(ORDER)
        assert stored is not None
        old = stored.value.model_copy(update={"refund_look_ms": None, "refunded_ms": None})
        await shop.store.save(stored, old)
        shop.bank_sends_back()
        await looking.run()
        assert (await shop.payment()).state is PaymentState.REFUNDED

    @pytest.mark.parametrize("cancelled", ["voided", "fenced"])
    async def test_is_not_asked_for_where_nothing_was_charged(
        self, shop: Shop, looking: Aftermath, cancelled: str
    ) -> None:
        if cancelled == "voided":
            await shop.payments.authorize(a_command())
        await shop.payments.cancel(ORDER)
        await looking.run()
        assert "refunded" not in shop.stripe.asked

    async def test_waits_for_an_outage_to_end(self, shop: Shop, looking: Aftermath) -> None:
        await shop.refunded()
        shop.bank_sends_back()
        shop.stripe.before["refunded"] = away()
        with pytest.raises(ShopError):
            await looking.run()
        assert (await shop.payment()).state is PaymentState.REFUNDED
        await looking.run()
        assert (await shop.payment()).state is PaymentState.REFUND_FAILED

    async def test_that_stripe_does_not_know_holds_up_no_others(
        self, shop: Shop, looking: Aftermath
    ) -> None:
        await shop.refunded()
        await shop.refunded("ord_2")
        shop.bank_sends_back("pi_1")
        shop.bank_sends_back("pi_2")
        shop.stripe.before["refunded"] = refused("resource-missing")
        await looking.run()
        states = {(await shop.payment(order_id)).state for order_id in (ORDER, "ord_2")}
        assert states == {PaymentState.REFUNDED, PaymentState.REFUND_FAILED}

    async def test_is_counted_once_by_several_processes(self, shop: Shop) -> None:
        await shop.refunded()
        shop.bank_sends_back()
        await asyncio.gather(*[(await shop.process()).run() for _ in range(4)])
        assert (await shop.payment()).state is PaymentState.REFUND_FAILED


class TestADispute:
    async def test_is_noted_and_the_charge_stays(self, shop: Shop, looking: Aftermath) -> None:
        await shop.captured()
        shop.stripe.dispute("pi_1")
        for _ in range(3):
            await looking.run()
        payment = await shop.payment()
        assert (payment.state, payment.is_disputed) == (PaymentState.CAPTURED, True)
        assert reversals(shop) == {"disputed": 1, "refund_failed": 0}
        assert await shop.payments.capture(ORDER) == payment
        assert shop.stripe.asked.count("order_of") == 1

    async def test_is_noted_once_by_processes_one_after_the_other(
        self, shop: Shop, looking: Aftermath
    ) -> None:
        await shop.captured()
        shop.stripe.dispute("pi_1")
        await (await shop.process()).run()
        await looking.run()
        assert reversals(shop)["disputed"] == 0

    async def test_of_another_shop_is_nobodys(self, shop: Shop, looking: Aftermath) -> None:
        for order_id in (None, "somebody-elses"):
            shop.stripe.dispute(shop.stripe.put(order_id))
        await looking.run()
        assert reversals(shop)["disputed"] == 0

    async def test_is_found_later_when_stripe_was_away(
        self, shop: Shop, looking: Aftermath
    ) -> None:
        await shop.captured()
        shop.stripe.dispute("pi_1")
        shop.stripe.before["order_of"] = away()
        with pytest.raises(ShopError):
            await looking.run()
        await looking.run()
        assert (await shop.payment()).is_disputed

    async def test_is_found_though_a_newer_one_is_known(
        self, shop: Shop, looking: Aftermath
    ) -> None:
        """The list may show one late, under the second in which it was made."""
        await shop.captured()
        await shop.captured("ord_2")
        shop.stripe.now_seconds += 60
        shop.stripe.dispute("pi_2")
        await looking.run()
        shop.stripe.now_seconds -= 60
        shop.stripe.dispute("pi_1")
        await looking.run()
        assert (await shop.payment()).is_disputed


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
