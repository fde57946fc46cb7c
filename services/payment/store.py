"""Every query of the payment service."""

from __future__ import annotations

from services.common.documents import AlreadyExists, Documents, Stored
from services.payment.model import Payment


class PaymentStore:
    """The payments, by order."""

    def __init__(self, payments: Documents[Payment]) -> None:
        self._payments = payments

    async def add(self, payment: Payment) -> Stored[Payment] | None:
        """Stores a new payment; None when the order has one already."""
        try:
            return await self._payments.insert(payment)
        except AlreadyExists:
            return None

    async def get(self, order_id: str) -> Stored[Payment] | None:
        """The payment of an order."""
        return await self._payments.get(order_id)

    async def save(self, stored: Stored[Payment], payment: Payment) -> Stored[Payment]:
        """Writes the payment, unless somebody else has since it was read (RevisionConflict)."""
        return await self._payments.replace(stored, payment)
