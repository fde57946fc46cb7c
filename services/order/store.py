"""Every query of the order service."""

from __future__ import annotations

from collections.abc import Callable

from services.common.documents import Documents, Page, Stored, Updated
from services.order.model import Order

_PAGE = 200


class OrderStore:
    """The orders."""

    def __init__(self, orders: Documents[Order]) -> None:
        self._orders = orders

    async def add(self, order: Order) -> Stored[Order] | None:
        """Stores a new order; None when its id is there already."""
        return await self._orders.add(order)

    async def get(self, order_id: str) -> Stored[Order] | None:
        """One order."""
        return await self._orders.get(order_id)

    async def of_user(
        self, user_id: str, limit: int, cursor: str | None, is_wanted: Callable[[Order], bool]
    ) -> Page[Order]:
        """A user's orders, newest first, without those that are not wanted."""
        found: list[Stored[Order]] = []
        reads = limit + 1  # mostly that is all; what is rare is looked for in larger steps
        while True:
            page = await self._orders.find(
                "by_user", equal=(user_id,), descending=True, limit=reads, cursor=cursor
            )
            for stored in page.items:
                if not is_wanted(stored.value):
                    continue
                if len(found) == limit:
                    behind = self._orders.cursor_behind("by_user", found[-1], descending=True)
                    return Page(found, behind)
                found.append(stored)
            cursor, reads = page.next_cursor, _PAGE
            if cursor is None:
                return Page(found, None)

    async def unfinished(self) -> list[Stored[Order]]:
        """All orders that are not settled or whose customers are not told yet, oldest first."""
        return [stored async for stored in self._orders.each("unfinished")]

    async def refunds_to_look_at(self, now_ms: int, limit: int) -> list[Stored[Order]]:
        """Orders of whose refund `payment` is to be asked again by then, longest overdue first."""
        return await self._orders.due("refunds", now_ms, limit)

    async def update(
        self, order_id: str, change: Callable[[Order], Order]
    ) -> Updated[Order] | None:
        """Changes an order as it is now; see :meth:`Documents.update`."""
        return await self._orders.update(order_id, change)

    async def save(self, stored: Stored[Order], order: Order) -> Stored[Order]:
        """Writes the order, unless somebody else has written it since it was read
        (RevisionConflict).
        """
        return await self._orders.replace(stored, order)
