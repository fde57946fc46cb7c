"""Every read and write of inventory's documents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

from services.common.documents import Collection, Documents, Index, Json, Stored
from services.inventory.model import (
    Reservation,
    ReservationLine,
    Shortage,
    Stock,
    Ticket,
    Tickets,
    UnstockedProduct,
)

STOCK = Collection("stock", indexes=(Index("all"),))
RESERVATIONS = Collection(
    "reservations", indexes=(Index("unfinished", order="unfinished_since_ms"),)
)


class StockStore:
    """The stock documents. Every movement is one atomic step with a guard, so it happens once or
    not at all.
    """

    def __init__(self, documents: Documents[Stock]) -> None:
        self._documents = documents

    async def seed(self, initial: Mapping[str, int]) -> int:
        """Inserts the stock of products that have none yet; returns of how many.

        Several processes may do so at once. What is there already stays as it is.
        """
        known = await self._documents.get_many(initial)
        missing = sorted(initial.keys() - known.keys())
        added = await asyncio.gather(
            *(
                self._documents.add(Stock(id=product_id, available=initial[product_id]))
                for product_id in missing
            )
        )
        return len(added) - added.count(None)

    async def get_many(self, product_ids: Sequence[str]) -> dict[str, Stock]:
        """The stock of those products that there are."""
        found = await self._documents.get_many(product_ids)
        return {product_id: stored.value for product_id, stored in found.items()}

    async def all(self) -> AsyncIterator[Stock]:
        """The stock of every product."""
        async for stored in self._documents.each("all"):
            yield stored.value

    async def place_hold(
        self, line: ReservationLine, order_id: str, ticket_id: str
    ) -> str | Shortage:
        """Sets a line's quantity aside, unless that is done already.

        :returns: the id of the ticket that is now in place, this one or an earlier one of the same
            order; or the refusal, when there is too little.
        :raises UnstockedProduct: there is no such product.
        """
        while True:
            placed = await self._documents.increment(
                line.product_id,
                {"available": -line.quantity, "reserved": line.quantity},
                at_least={"available": 0},
                absent=[f"holds.{order_id}"],
                put={f"holds.{order_id}.{ticket_id}": _ticket(line)},
            )
            if placed is not None:
                return ticket_id
            stock = await self._get(line.product_id)
            in_place = stock.ticket_of(Tickets.HOLDS, order_id)
            if in_place is not None:
                return in_place
            if stock.available < line.quantity:
                return Shortage(product_id=line.product_id, available=stock.available)
            # What stood in the way is gone by now: somebody gave stock back in between.

    async def place_return(self, line: ReservationLine, order_id: str, ticket_id: str) -> str:
        """Places a ticket for a sold line that comes back; returns the id of the one that is in
        place.
        """
        while True:
            placed = await self._documents.increment(
                line.product_id,
                {},
                absent=[f"returns.{order_id}"],
                put={f"returns.{order_id}.{ticket_id}": _ticket(line)},
            )
            if placed is not None:
                return ticket_id
            in_place = (await self._get(line.product_id)).ticket_of(Tickets.RETURNS, order_id)
            if in_place is not None:
                return in_place

    async def cash_hold(self, line: ReservationLine, order_id: str, ticket_id: str) -> bool:
        """Turns a held line into a sold one. False when that ticket is not there any more."""
        moved = await self._documents.increment(
            line.product_id,
            {"reserved": -line.quantity, "sold": line.quantity},
            present=[f"holds.{order_id}.{ticket_id}"],
            remove=[f"holds.{order_id}"],
        )
        return moved is not None

    async def cash_return(self, line: ReservationLine, order_id: str, ticket_id: str) -> bool:
        """Turns a sold line into an available one. False when that ticket is not there any more."""
        moved = await self._documents.increment(
            line.product_id,
            {"sold": -line.quantity, "available": line.quantity},
            present=[f"returns.{order_id}.{ticket_id}"],
            remove=[f"returns.{order_id}"],
        )
        return moved is not None

    async def undo_hold(
        self, product_id: str, quantity: int, order_id: str, ticket_id: str | None = None
    ) -> bool:
        """Gives a held quantity back: that of one ticket, or of whichever the order has. False when
        there is none.
        """
        ticket = f"holds.{order_id}.{ticket_id}" if ticket_id else f"holds.{order_id}"
        moved = await self._documents.increment(
            product_id,
            {"reserved": -quantity, "available": quantity},
            present=[ticket],
            remove=[f"holds.{order_id}"],
        )
        return moved is not None

    async def undo_return(self, product_id: str, order_id: str, ticket_id: str) -> bool:
        """Takes back a ticket of a return. False when it is not there any more."""
        removed = await self._documents.increment(
            product_id,
            {},
            present=[f"returns.{order_id}.{ticket_id}"],
            remove=[f"returns.{order_id}"],
        )
        return removed is not None

    async def _get(self, product_id: str) -> Stock:
        stored = await self._documents.get(product_id)
        if stored is None:
            raise UnstockedProduct(product_id)
        return stored.value


class ReservationStore:
    """The reservation documents. A change of state is a compare-and-set: of several that try, one
    wins.
    """

    def __init__(self, documents: Documents[Reservation]) -> None:
        self._documents = documents

    async def add(self, reservation: Reservation) -> Stored[Reservation] | None:
        """Opens a reservation; None when the order has one."""
        return await self._documents.add(reservation)

    async def get(self, order_id: str) -> Stored[Reservation] | None:
        """The reservation of an order, if there is one."""
        return await self._documents.get(order_id)

    async def get_many(self, order_ids: Sequence[str]) -> dict[str, Reservation]:
        """The reservations of those orders that have one."""
        found = await self._documents.get_many(order_ids)
        return {order_id: stored.value for order_id, stored in found.items()}

    async def replace(self, stored: Stored[Reservation], value: Reservation) -> Stored[Reservation]:
        """Writes the next state; RevisionConflict when the reservation has moved on since it was
        read.
        """
        return await self._documents.replace(stored, value)

    def unfinished(self) -> AsyncIterator[Stored[Reservation]]:
        """Reservations in a passing state, oldest first."""
        return self._documents.each("unfinished")


def _ticket(line: ReservationLine) -> Json:
    return Ticket(quantity=line.quantity).model_dump()
