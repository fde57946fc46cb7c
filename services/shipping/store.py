"""Every query of the shipping service."""

from __future__ import annotations

from services.common.documents import AlreadyExists, Documents, Stored
from services.shipping.model import Shipment


class ShipmentStore:
    """The shipments, by order."""

    def __init__(self, shipments: Documents[Shipment]) -> None:
        self._shipments = shipments

    async def add(self, shipment: Shipment) -> Stored[Shipment] | None:
        """Stores a new shipment; None when the order has one already."""
        try:
            return await self._shipments.insert(shipment)
        except AlreadyExists:
            return None

    async def get(self, order_id: str) -> Stored[Shipment] | None:
        """The shipment of an order."""
        return await self._shipments.get(order_id)

    async def due(self, now_ms: int, longest_pause_ms: int, limit: int) -> list[Stored[Shipment]]:
        """Shipments that move on or have something to tell, longest overdue first. One that is due
        after more than the longest pause was written by a wrong clock, or is read by one: it is
        due, too.
        """
        due = await self._shipments.find("due", below=now_ms + 1, limit=limit)
        far = await self._shipments.find("due", at_least=now_ms + longest_pause_ms + 1, limit=limit)
        return due.items + far.items

    async def save(self, stored: Stored[Shipment], shipment: Shipment) -> Stored[Shipment]:
        """Writes the shipment, unless somebody else has since it was read (RevisionConflict)."""
        return await self._shipments.replace(stored, shipment)
