"""Reserving, committing and releasing stock, each safe to repeat and safe to be interrupted
anywhere.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from typing import Protocol

from services.common.background.stall_detector import StallDetector
from services.common.clock import now_ms
from services.common.documents import RevisionConflict, Stored
from services.common.fields import check_product_count
from services.common.observing.logs import get_logger
from services.inventory import model
from services.inventory.model import (
    PASSING,
    RESERVED,
    OutOfStock,
    Reservation,
    ReservationClosed,
    ReservationDiffers,
    ReservationLine,
    ReservationNotHeld,
    ReservationState,
    Shortage,
    Stock,
    Tickets,
    UnknownReservation,
    UnstockedProduct,
)
from services.inventory.store import ReservationStore, StockStore

log = get_logger(__name__)

# How long an attempt may reasonably take. Only politeness rests on it, no promise: what the sweep
# does would be right at any time, but it need not do the work of somebody who is at it.
STRAY_SECONDS = 5.0


class OutcomeCounter(Protocol):
    """Counts reservations by the state they reached."""

    def __call__(self, outcome: str) -> None: ...


class StockOutCounter(Protocol):
    """Counts the orders that wanted more of a product than there was."""

    def __call__(self, product_id: str) -> None: ...


class InventoryService:
    """Moves stock for orders. How and why that is safe: see :mod:`services.inventory.model`."""

    def __init__(
        self,
        stock: StockStore,
        reservations: ReservationStore,
        *,
        count: OutcomeCounter,
        count_stock_out: StockOutCounter,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stock = stock
        self._reservations = reservations
        self._count = count
        self._count_stock_out = count_stock_out
        self._stuck = StallDetector(STRAY_SECONDS, clock)
        self._old_tickets = StallDetector(STRAY_SECONDS, clock)
        self._listed_tickets: set[str] = set()

    async def available(self, product_ids: Sequence[str]) -> dict[str, int]:
        """How many of each product are available now; products that do not exist are left out.

        :raises ShopError: INVALID, for more than MAX_PRODUCT_IDS.
        """
        check_product_count(product_ids)
        found = await self._stock.get_many(sorted(set(product_ids)))
        return {product_id: stock.available for product_id, stock in found.items()}

    async def reserve(self, order_id: str, lines: tuple[ReservationLine, ...]) -> None:
        """Holds all lines for an order, or none. Repeating it changes nothing and answers the same.

        :param lines: merged and sorted, as `merge_lines` makes them.
        :raises OutOfStock: with the product and what was available when it was refused.
        :raises UnstockedProduct: nothing was written.
        :raises ReservationClosed: the order was released before.
        :raises ReservationDiffers: the order has reserved other lines.
        """
        stored = await self._open(order_id, lines)
        if stored.value.lines and stored.value.lines != lines:
            raise ReservationDiffers(order_id)
        while stored.value.state in {ReservationState.PENDING, ReservationState.REFUSING}:
            stored = await self._advance(stored)
        reservation = stored.value
        if reservation.refusal is not None:
            raise OutOfStock(reservation.refusal)
        if reservation.state not in RESERVED:
            raise ReservationClosed(order_id)

    async def commit(self, order_id: str) -> None:
        """Turns the held stock into sold stock. Repeating it changes nothing.

        :raises UnknownReservation: nothing was reserved for that order.
        :raises ReservationNotHeld: the reservation has not been finished.
        :raises ReservationClosed: it was refused or released.
        """
        stored = await self._reservations.get(order_id)
        if stored is None:
            raise UnknownReservation(order_id)
        while stored.value.state is not ReservationState.SOLD:
            match stored.value.state:
                case ReservationState.PENDING:
                    raise ReservationNotHeld(order_id)
                case ReservationState.HELD:
                    stored = await self._move(stored, ReservationState.COMMITTING)
                case ReservationState.COMMITTING:
                    stored = await self._advance(stored)
                case _:
                    raise ReservationClosed(order_id)

    async def release(self, order_id: str) -> None:
        """Gives back what the order holds or has bought. Repeating it changes nothing.

        It fences as well: an order that has nothing yet gets a closed reservation, so that a
        Reserve that arrives later is refused.
        """
        stored = await self._fence(order_id)
        while stored.value.state not in {
            ReservationState.REFUSED,
            ReservationState.RELEASED,
            ReservationState.RETURNED,
        }:
            match stored.value.state:
                case ReservationState.PENDING | ReservationState.HELD:
                    stored = await self._move(stored, ReservationState.RELEASING)
                case ReservationState.SOLD:
                    stored = await self._move(stored, ReservationState.RETURNING)
                case _:
                    stored = await self._advance(stored)

    async def sweep(self) -> None:
        """Finishes reservations that got stuck on the way, and takes back stray tickets: those that
        this process has seen unchanged for STRAY_SECONDS, whatever any clock says.
        """
        passing: set[str] = set()
        async for stored in self._reservations.unfinished():
            passing.add(stored.value.id)
            if self._stuck.has_stalled(stored.value.id, stored.revision):
                await self._resume(stored)
        self._stuck.forget_others(passing)
        open_tickets: set[str] = set()
        async for stock in self._stock.all():
            for kind in Tickets:
                open_tickets |= await self._take_back_strays(stock, kind)
        self._old_tickets.forget_others(open_tickets)
        self._listed_tickets &= open_tickets

    async def _resume(self, stored: Stored[Reservation]) -> None:
        log.info("reservation.resumed", order_id=stored.value.id, state=stored.value.state)
        while stored.value.state in PASSING:
            stored = await self._advance(stored)

    async def _open(self, order_id: str, lines: tuple[ReservationLine, ...]) -> Stored[Reservation]:
        existing = await self._reservations.get(order_id)
        if existing is not None:
            return existing
        known = await self._stock.get_many([line.product_id for line in lines])
        for line in lines:
            if line.product_id not in known:
                raise UnstockedProduct(line.product_id)
        return await self._add(
            Reservation(id=order_id, state=ReservationState.PENDING, lines=lines)
        )

    async def _fence(self, order_id: str) -> Stored[Reservation]:
        existing = await self._reservations.get(order_id)
        if existing is not None:
            return existing
        return await self._add(Reservation(id=order_id, state=ReservationState.RELEASED))

    async def _add(self, reservation: Reservation) -> Stored[Reservation]:
        added = await self._reservations.add(reservation)
        return added or await self._reread(reservation.id)

    async def _advance(self, stored: Stored[Reservation]) -> Stored[Reservation]:
        """Does the work of a state and moves on to the next one.

        Any number of processes may do so at once: the work of each state can be repeated, and one
        of them moves on.
        """
        match stored.value.state:
            case ReservationState.PENDING:
                return await self._hold(stored)
            case ReservationState.REFUSING:
                await self._undo_holds(stored.value)
                return await self._move(stored, ReservationState.REFUSED)
            case ReservationState.RELEASING:
                await self._undo_holds(stored.value)
                return await self._move(stored, ReservationState.RELEASED)
            case ReservationState.COMMITTING:
                for line in stored.value.lines:
                    ticket_id = stored.value.holds[line.product_id]
                    await self._stock.cash_hold(line, stored.value.id, ticket_id)
                return await self._move(stored, ReservationState.SOLD)
            case ReservationState.RETURNING:
                return await self._list_returns(stored)
            case ReservationState.RESTOCKING:
                for line in stored.value.lines:
                    ticket_id = stored.value.returns[line.product_id]
                    await self._stock.cash_return(line, stored.value.id, ticket_id)
                return await self._move(stored, ReservationState.RETURNED)
            case state:
                raise AssertionError(f"nothing leads on from {state} by itself")

    async def _hold(self, stored: Stored[Reservation]) -> Stored[Reservation]:
        """Holds line after line; then the reservation lists the tickets, or becomes a refusal."""
        reservation, ticket_id = stored.value, _fresh_ticket_id()
        holds: dict[str, str] = {}
        refusal: Shortage | None = None
        for line in reservation.lines:
            outcome = await self._stock.place_hold(line, reservation.id, ticket_id)
            if isinstance(outcome, Shortage):
                refusal = outcome
                break
            holds[line.product_id] = outcome
        if refusal is not None:
            moved = await self._write(stored, model.refusing(reservation, refusal, now_ms()))
        else:
            moved = await self._write(stored, model.held(reservation, holds, now_ms()))
        for line in reservation.lines:
            # It may have moved without us, be it to the same end or because the order was released
            # meanwhile.
            if holds.get(line.product_id) == ticket_id and moved.value.is_stray(
                Tickets.HOLDS, line.product_id, ticket_id
            ):
                await self._stock.undo_hold(
                    line.product_id, line.quantity, reservation.id, ticket_id
                )
        return moved

    async def _undo_holds(self, reservation: Reservation) -> None:
        for line in reservation.lines:
            await self._stock.undo_hold(line.product_id, line.quantity, reservation.id)

    async def _list_returns(self, stored: Stored[Reservation]) -> Stored[Reservation]:
        """Places a ticket for each line that comes back; then the reservation lists them."""
        reservation, ticket_id = stored.value, _fresh_ticket_id()
        returns = {
            line.product_id: await self._stock.place_return(line, reservation.id, ticket_id)
            for line in reservation.lines
        }
        moved = await self._write(stored, model.restocking(reservation, returns, now_ms()))
        for line in reservation.lines:
            if returns[line.product_id] == ticket_id and moved.value.is_stray(
                Tickets.RETURNS, line.product_id, ticket_id
            ):
                await self._stock.undo_return(line.product_id, reservation.id, ticket_id)
        return moved

    async def _move(
        self, stored: Stored[Reservation], state: ReservationState
    ) -> Stored[Reservation]:
        return await self._write(stored, model.moved(stored.value, state, now_ms()))

    async def _write(
        self, stored: Stored[Reservation], following: Reservation
    ) -> Stored[Reservation]:
        """Writes a reservation's next state, or reads the one that somebody else has written."""
        try:
            moved = await self._reservations.replace(stored, following)
        except RevisionConflict:
            return await self._reread(stored.value.id)
        if following.state not in PASSING:
            self._count(following.state.value)
        if following.state is ReservationState.REFUSED and following.refusal is not None:
            self._count_stock_out(following.refusal.product_id)
        log.info("reservation.moved", order_id=following.id, state=following.state)
        return moved

    async def _reread(self, order_id: str) -> Stored[Reservation]:
        stored = await self._reservations.get(order_id)
        if stored is None:
            raise AssertionError(f"the reservation of {order_id} is gone, yet none is ever deleted")
        return stored

    async def _take_back_strays(self, stock: Stock, kind: Tickets) -> set[str]:
        """Takes back the old strays among a product's tickets; returns the keys of all of them."""
        tickets = {
            f"{stock.id}:{kind}:{ticket_id}": (order_id, ticket_id, ticket)
            for order_id, by_id in stock.tickets(kind).items()
            for ticket_id, ticket in by_id.items()
        }
        old = {
            key: found
            for key, found in tickets.items()
            if key not in self._listed_tickets and self._old_tickets.has_stalled(key, None)
        }
        reservations = await self._reservations.get_many(
            [order_id for order_id, _, _ in old.values()]
        )
        for key, (order_id, ticket_id, ticket) in old.items():
            reservation = reservations.get(order_id)
            if reservation is None:
                continue
            if reservation.lists(kind, stock.id, ticket_id):
                self._listed_tickets.add(key)
            if not reservation.is_stray(kind, stock.id, ticket_id):
                continue
            if kind is Tickets.HOLDS:
                undone = await self._stock.undo_hold(stock.id, ticket.quantity, order_id, ticket_id)
            else:
                undone = await self._stock.undo_return(stock.id, order_id, ticket_id)
            if undone:
                log.warning("ticket.stray", kind=kind, product_id=stock.id, order_id=order_id)
        return set(tickets)


def _fresh_ticket_id() -> str:
    return uuid.uuid4().hex
