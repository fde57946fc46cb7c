"""Asks again about the refunds of cancelled orders, and tells the customer when one has failed."""

from __future__ import annotations

from services.common.clock import now_ms
from services.common.documents import RevisionConflict, Stored
from services.common.errors import ShopError, may_succeed_later
from services.common.observing.logs import get_logger
from services.order import model
from services.order.clients import PaymentGateway
from services.order.model import Order, RefundStatus
from services.order.store import OrderStore

log = get_logger(__name__)

_PER_ROUND = 200


class Refunds:
    """The refunds of cancelled orders, looked at in rounds, by any process."""

    def __init__(self, store: OrderStore, payments: PaymentGateway) -> None:
        self._store = store
        self._payments = payments

    async def run(self) -> None:
        """One round.

        :raises ShopError: UNAVAILABLE when `payment` or the store is away; the next round goes on.
        """
        for stored in await self._store.refunds_to_look_at(now_ms(), _PER_ROUND):
            # One that is under way still is somebody's, who alone writes it.
            if stored.value.open_since_ms is None:
                await self._look_at(stored)

    async def _look_at(self, stored: Stored[Order]) -> None:
        order = stored.value
        try:
            refund = await self._payments.cancel(order)
        except ShopError as error:
            if may_succeed_later(error):
                raise
            log.exception("refund.not_known", order_id=order.id)
            refund = RefundStatus.PAID  # nothing to conclude from
        try:
            await self._store.save(stored, model.refund_looked_at(order, refund, now_ms()))
        except RevisionConflict:
            return  # another process has looked
        if refund is RefundStatus.FAILED:
            log.warning("order.refund_failed", order_id=order.id)
