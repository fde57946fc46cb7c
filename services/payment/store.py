"""Every query of the payment service."""

from __future__ import annotations

from collections.abc import Iterable

from services.common.documents import AlreadyExists, Documents, RevisionConflict, Stored
from services.payment.model import Payment, Reconciled


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

    async def get_many(self, order_ids: Iterable[str]) -> dict[str, Stored[Payment]]:
        """The payments of those orders that have one."""
        return await self._payments.get_many(order_ids)

    async def save(self, stored: Stored[Payment], payment: Payment) -> Stored[Payment]:
        """Writes the payment, unless somebody else has since it was read (RevisionConflict)."""
        return await self._payments.replace(stored, payment)


class ReconciledStore:
    """How far the reconciliation with Stripe has come: one document for all processes."""

    def __init__(self, marks: Documents[Reconciled]) -> None:
        self._marks = marks

    async def until_seconds(self, otherwise: int) -> int:
        """Before when, by Stripe's clock, everything is settled."""
        stored = await self._marks.get(Reconciled.ID)
        return otherwise if stored is None else stored.value.until_seconds

    async def advance(self, until_seconds: int) -> None:
        """Everything before then is settled. Never goes back, whoever is later."""
        mark = Reconciled(id=Reconciled.ID, until_seconds=until_seconds)
        try:
            stored = await self._marks.get(Reconciled.ID)
            if stored is None:
                await self._marks.insert(mark)
            elif stored.value.until_seconds < until_seconds:
                await self._marks.replace(stored, mark)
        except (AlreadyExists, RevisionConflict):
            return  # another process has come about as far; the next round goes on from there
