"""A small inventory that is run step by step, and what must be true in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from services.common.documents import Documents
from services.inventory.model import Reservation, ReservationLine, ReservationState, Stock
from services.inventory.service import InventoryService
from services.inventory.store import RESERVATIONS, STOCK, ReservationStore, StockStore
from tests.unit.interleaving import SteppedStore, run

INITIAL = 5
FINAL = {
    ReservationState.REFUSED,
    ReservationState.RELEASED,
    ReservationState.RETURNED,
    ReservationState.SOLD,
    ReservationState.HELD,
}

Work = Coroutine[Any, Any, None]
Job = Callable[["SteppedInventory"], Work]


class SteppedInventory:
    """Aprons and bowls, five of each, and a clock that goes on only in `settle`."""

    def __init__(self) -> None:
        self.store = SteppedStore()
        self.now_seconds = 0.0
        self.outcomes = Counter[str]()
        self.stock_outs = Counter[str]()
        stock = Documents(self.store, STOCK, Stock)
        self.service = InventoryService(
            StockStore(stock),
            ReservationStore(Documents(self.store, RESERVATIONS, Reservation)),
            count=self._count,
            count_stock_out=lambda product_id: self.stock_outs.update([product_id]),
            clock=lambda: self.now_seconds,
        )
        for product_id in ("apron", "bowl"):
            self.store.fill(STOCK, Stock(id=product_id, available=INITIAL))

    def settle(self) -> None:
        """Lets time pass and sweeps, as happens when everything is quiet."""
        run(self.service.sweep())
        self.now_seconds += 60
        run(self.service.sweep())

    def stock(self, product_id: str) -> Stock:
        """The stock of a product as it is now."""
        return next(stock for stock in self.all_stock() if stock.id == product_id)

    def all_stock(self) -> list[Stock]:
        """The stock of all products as it is now."""
        return [Stock.model_validate(body) for body in self.store.bodies(STOCK)]

    def reservations(self) -> dict[str, Reservation]:
        """All reservations as they are now, by order."""
        found = [Reservation.model_validate(body) for body in self.store.bodies(RESERVATIONS)]
        return {reservation.id: reservation for reservation in found}

    def check_total(self) -> None:
        """What holds at any moment (that nothing is below zero, the model says)."""
        for stock in self.all_stock():
            assert stock.available + stock.reserved + stock.sold == INITIAL, stock

    def audit(self) -> None:
        """What holds when everything is quiet: the stock says just what the reservations say."""
        self.check_total()
        held, sold = Counter[str](), Counter[str]()
        for reservation in self.reservations().values():
            assert reservation.state in FINAL, reservation
            assert reservation.unfinished_since_ms is None, reservation
            for line in reservation.lines:
                if reservation.state is ReservationState.HELD:
                    held[line.product_id] += line.quantity
                elif reservation.state is ReservationState.SOLD:
                    sold[line.product_id] += line.quantity
        for stock in self.all_stock():
            tickets = [ticket for by_id in stock.holds.values() for ticket in by_id.values()]
            assert stock.reserved == held[stock.id] == sum(one.quantity for one in tickets), stock
            assert stock.sold == sold[stock.id], stock
            assert not stock.returns, stock

    def _count(self, outcome: str) -> None:
        self.outcomes[outcome] += 1


def lines(**quantities: int) -> tuple[ReservationLine, ...]:
    """Lines by product, sorted as the service wants them."""
    return tuple(
        ReservationLine(product_id=product_id, quantity=quantity)
        for product_id, quantity in sorted(quantities.items())
    )


# What processes do with order 1. Each is a coroutine function of the system, so that a test can
# start as many of them as it likes.

ORDER = lines(apron=2, bowl=1)


async def reserve(system: SteppedInventory) -> None:
    """Reserves for order 1."""
    await system.service.reserve("order-1", ORDER)


async def commit(system: SteppedInventory) -> None:
    """Commits order 1."""
    await system.service.commit("order-1")


async def release(system: SteppedInventory) -> None:
    """Releases order 1."""
    await system.service.release("order-1")


async def buy(system: SteppedInventory) -> None:
    """Reserves and commits order 1."""
    await reserve(system)
    await commit(system)


async def buy_and_return(system: SteppedInventory) -> None:
    """Reserves, commits and releases order 1."""
    await buy(system)
    await release(system)


async def sweep(system: SteppedInventory) -> None:
    """Sweeps twice, and finds the time over of all that has not changed in between."""
    await system.service.sweep()
    system.now_seconds += 60
    await system.service.sweep()
