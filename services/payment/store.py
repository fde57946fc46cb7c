"""Every query of the payment service."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from services.common.documents import Documents, Stored, Updated
from services.payment.model import Payment, Reconciled


class PaymentStore:
    """The payments, by order."""

    def __init__(self, payments: Documents[Payment]) -> None:
        self._payments = payments

    async def add(self, payment: Payment) -> Stored[Payment] | None:
        """Stores a new payment; None when the order has one already."""
        return await self._payments.add(payment)

    async def get(self, order_id: str) -> Stored[Payment] | None:
        """The payment of an order."""
        return await self._payments.get(order_id)

    async def get_many(self, order_ids: Iterable[str]) -> dict[str, Stored[Payment]]:
        """The payments of those orders that have one."""
        return await self._payments.get_many(order_ids)

    async def refunds_to_look_at(self, now_ms: int, limit: int) -> list[Stored[Payment]]:
        """Payments of whose refund Stripe is to be asked again by then, longest overdue first."""
        return await self._payments.due("refunds", now_ms, limit)

    async def update(
        self, order_id: str, change: Callable[[Payment], Payment]
    ) -> Updated[Payment] | None:
        """Changes a payment as it is now; see :meth:`Documents.update`."""
        return await self._payments.update(order_id, change)

    async def save(self, stored: Stored[Payment], payment: Payment) -> Stored[Payment]:
        """Writes the payment, unless somebody else has since it was read (RevisionConflict)."""
        return await self._payments.replace(stored, payment)


class ReconciledStore:
    """How far all processes have come in one of Stripe's lists.

    :param list_id: which one; see :class:`~services.payment.model.Reconciled`.
    """

    def __init__(self, marks: Documents[Reconciled], list_id: str = Reconciled.INTENTS) -> None:
        self._marks = marks
        self._list_id = list_id

    async def until_seconds(self, otherwise: int) -> int:
        """Before when, by Stripe's clock, everything is settled."""
        stored = await self._marks.get(self._list_id)
        return otherwise if stored is None else stored.value.until_seconds

    async def advance(self, until_seconds: int) -> None:
        """Everything before then is settled. Never goes back, whoever is later."""

        def later(mark: Reconciled | None) -> Reconciled:
            if mark is not None and mark.until_seconds >= until_seconds:
                return mark
            return Reconciled(id=self._list_id, until_seconds=until_seconds)

        await self._marks.upsert(self._list_id, later)
