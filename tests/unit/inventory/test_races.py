"""Many at once, over one SQLite file, as two processes of inventory would use it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest

from services.common.documents import Documents, SqliteStore
from services.common.errors import ShopError
from services.inventory.model import Reservation, ReservationLine, Stock
from services.inventory.service import InventoryService
from services.inventory.store import RESERVATIONS, STOCK, ReservationStore, StockStore


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[list[InventoryService]]:
    """Two services over the same file, each with connections of its own."""
    stores = [SqliteStore(tmp_path / "inventory.db", synchronous="NORMAL") for _ in range(2)]
    yield [await make_service(store) for store in stores]
    for store in stores:
        await store.close()


async def make_service(store: SqliteStore) -> InventoryService:
    stock = StockStore(await Documents[Stock].open(store, STOCK, Stock))
    await stock.seed({"lamp": 50, "desk": 500})
    return InventoryService(
        stock,
        ReservationStore(await Documents[Reservation].open(store, RESERVATIONS, Reservation)),
        count=lambda outcome: None,
        count_stock_out=lambda product_id: None,
    )


def lamps(quantity: int = 1) -> tuple[ReservationLine, ...]:
    return (ReservationLine(product_id="lamp", quantity=quantity),)


async def outcome(work: Awaitable[None]) -> str:
    try:
        await work
    except ShopError as error:
        return error.code
    return "ok"


async def test_two_hundred_buyers_for_the_last_fifty(services: list[InventoryService]) -> None:
    outcomes = await asyncio.gather(
        *(
            outcome(services[number % 2].reserve(f"order-{number}", lamps()))
            for number in range(200)
        )
    )
    assert Counter(outcomes) == {"ok": 50, "out-of-stock": 150}
    assert await services[0].available(["lamp"]) == {"lamp": 0}


async def test_the_same_reserve_twenty_times_at_once(services: list[InventoryService]) -> None:
    outcomes = await asyncio.gather(
        *(outcome(services[number % 2].reserve("order-1", lamps(2))) for number in range(20))
    )
    assert set(outcomes) == {"ok"}
    assert await services[0].available(["lamp"]) == {"lamp": 48}


async def test_the_same_return_twenty_times_at_once(services: list[InventoryService]) -> None:
    await services[0].reserve("order-1", lamps(2))
    await services[1].commit("order-1")
    outcomes = await asyncio.gather(
        *(outcome(services[number % 2].release("order-1")) for number in range(20))
    )
    assert set(outcomes) == {"ok"}
    assert await services[0].available(["lamp"]) == {"lamp": 50}


async def test_commit_and_release_at_once(services: list[InventoryService]) -> None:
    """Whoever wins, the release is the last word."""
    for number in range(20):
        await services[0].reserve(f"order-{number}", lamps())
    outcomes = await asyncio.gather(
        *(outcome(services[0].commit(f"order-{number}")) for number in range(20)),
        *(outcome(services[1].release(f"order-{number}")) for number in range(20)),
    )
    assert set(outcomes[:20]) <= {"ok", "reservation-closed"}
    assert set(outcomes[20:]) == {"ok"}
    assert await services[0].available(["lamp"]) == {"lamp": 50}
