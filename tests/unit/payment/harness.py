"""Processes of payment at one Stripe."""

from __future__ import annotations

from services.common.observing.metrics import Metrics
from services.payment.model import Payment
from services.payment.service import Payments
from services.payment.store import PaymentStore
from tests.unit.payment.examples import ORDER, a_command
from tests.unit.payment.fake_stripe import FakeStripe


class PaymentHarness:
    """What the processes share, and the requests of `order`.

    :ivar metrics: those of the first process that looks for what went wrong.
    """

    def __init__(self, store: PaymentStore) -> None:
        self.store = store
        self.stripe = FakeStripe()
        self.metrics = Metrics()
        self.payments = Payments(store, self.stripe, Metrics())

    async def authorize(self, order_id: str = ORDER) -> Payment:
        """What order asks for."""
        return await self.payments.authorize(a_command(order_id))

    async def captured(self, order_id: str = ORDER) -> Payment:
        """A payment of an order that stands."""
        await self.authorize(order_id)
        return await self.payments.capture(order_id)

    async def payment(self, order_id: str = ORDER) -> Payment:
        """The payment as it is stored."""
        stored = await self.store.get(order_id)
        assert stored is not None
        return stored.value
