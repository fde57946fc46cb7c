"""Every query of the shipping service."""

from __future__ import annotations

from collections.abc import Callable

from services.common.documents import Documents, Stored
from services.shipping.model import Shipment


class ShipmentStore:
    """The shipments, by order."""

    def __init__(self, shipments: Documents[Shipment]) -> None:
        self._shipments = shipments

    async def add(self, shipment: Shipment) -> Stored[Shipment] | None:
        """Stores a new shipment; None when the order has one already."""
        return await self._shipments.add(shipment)

    async def get(self, order_id: str) -> Stored[Shipment] | None:
        """The shipment of an order."""
        return await self._shipments.get(order_id)

    async def due(self, now_ms: int, longest_pause_ms: int, limit: int) -> list[Stored[Shipment]]:
        """Shipments that move on or have something to tell; see :meth:`Documents.due`."""
        return await self._shipments.due("due", now_ms, limit, longest_pause_ms=longest_pause_ms)

    async def update(
        self, order_id: str, change: Callable[[Shipment], Shipment]
    ) -> Shipment | None:
        """Changes a shipment as it is now; see :meth:`Documents.update`."""
        updated = await self._shipments.update(order_id, change)
        return updated.stored.value if updated else None

    async def upsert(self, order_id: str, make: Callable[[Shipment | None], Shipment]) -> None:
        """The same for one that may not be there yet; see :meth:`Documents.upsert`."""
        await self._shipments.upsert(order_id, make)

    async def save(self, stored: Stored[Shipment], shipment: Shipment) -> Stored[Shipment]:
        """Writes the shipment, unless somebody else has since it was read (RevisionConflict)."""
        return await self._shipments.replace(stored, shipment)
