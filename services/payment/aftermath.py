"""Finds out what happens to money after its request has ended: a refund that the bank returns, a
charge that the cardholder disputes.

Stripe also sends webhooks (https://docs.stripe.com/webhooks). Polling needs no address that Stripe
can reach, and also finds what happened while the shop was closed.
"""

from __future__ import annotations

from contextlib import aclosing

from services.common.clock import now_ms
from services.common.documents import RevisionConflict, Stored
from services.common.errors import ShopError, may_succeed_later
from services.common.observing.logs import get_logger
from services.common.observing.metrics import Metrics
from services.payment import model
from services.payment.clients import Disputed, Stripe
from services.payment.model import Payment, PaymentState
from services.payment.store import PaymentStore, ReconciledStore

log = get_logger(__name__)

_REFUNDS_PER_ROUND = 200
# A dispute may appear in the list some time after the second that it is listed under.
_OVERLAP_SECONDS = 120


class Aftermath:
    """Looks again in rounds, at refunds for 35 days, at disputes for ever.

    Several processes may do so at once; each change is made by one of them.
    """

    def __init__(
        self, store: PaymentStore, looked: ReconciledStore, stripe: Stripe, metrics: Metrics
    ) -> None:
        self._store = store
        self._looked = looked
        self._stripe = stripe
        self._reversals = metrics.counter(
            "payment_reversals",
            "Refunds that failed after they had succeeded, and charges that were disputed. Neither "
            "counts in payments once more.",
            ("kind",),
            rare=(PaymentState.REFUND_FAILED, PaymentState.DISPUTED),
        )
        # Disputes of the overlap that need no second look, with their creation.
        self._known: dict[str, int] = {}

    async def run(self) -> None:
        """One round.

        :raises ShopError: UNAVAILABLE when Stripe or the store is away; the next round goes on.
        """
        for stored in await self._store.refunds_to_look_at(now_ms(), _REFUNDS_PER_ROUND):
            try:
                await self._look_at_refund(stored)
            except RevisionConflict:
                continue  # another process has looked
        await self._look_for_disputes()

    async def _look_at_refund(self, stored: Stored[Payment]) -> None:
        payment = stored.value
        assert payment.intent_id is not None, "what was refunded was charged"
        try:
            refunded_cents = await self._stripe.refunded_cents(payment.intent_id)
        except ShopError as error:
            if may_succeed_later(error):
                raise
            log.exception("refund.not_known", order_id=payment.id, intent_id=payment.intent_id)
            refunded_cents = payment.amount_cents  # nothing to conclude from
        is_back = refunded_cents >= payment.amount_cents
        await self._store.save(stored, model.refund_looked_at(payment, now_ms(), is_back=is_back))
        if not is_back:
            self._reversals.labels(PaymentState.REFUND_FAILED).inc()
            log.error("refund.failed_later", order_id=payment.id, intent_id=payment.intent_id)

    async def _look_for_disputes(self) -> None:
        # Only Stripe's clock is asked.
        from_seconds = await self._looked.until_seconds(0)
        newest_seconds = from_seconds
        async with aclosing(
            self._stripe.disputed(max(1, from_seconds - _OVERLAP_SECONDS))
        ) as disputes:
            async for dispute in disputes:
                newest_seconds = max(newest_seconds, dispute.created_seconds)
                if dispute.id not in self._known:
                    await self._note(dispute)
                    self._known[dispute.id] = dispute.created_seconds
        if newest_seconds > from_seconds:
            await self._looked.advance(newest_seconds)
        self._known = {
            dispute_id: created_seconds
            for dispute_id, created_seconds in self._known.items()
            if created_seconds >= newest_seconds - _OVERLAP_SECONDS
        }

    async def _note(self, dispute: Disputed) -> None:
        order_id = await self._order_of(dispute)
        noted = None if order_id is None else await self._store.update(order_id, model.disputed)
        if noted is None:
            log.info("dispute.foreign", dispute_id=dispute.id, intent_id=dispute.intent_id)
            return
        if not noted.is_written:
            return  # another process has, or an earlier round
        self._reversals.labels(PaymentState.DISPUTED).inc()
        log.error(
            "payment.disputed",
            order_id=order_id,
            dispute_id=dispute.id,
            intent_id=dispute.intent_id,
            state=noted.stored.value.state,
        )

    async def _order_of(self, dispute: Disputed) -> str | None:
        try:
            return await self._stripe.order_of(dispute.intent_id)
        except ShopError as error:
            if may_succeed_later(error):
                raise
            log.exception("dispute.not_known", dispute_id=dispute.id)
            return None
