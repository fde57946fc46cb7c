"""All that the shop has stored, for tests: read beside the running services, nothing is written."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path

import aiohttp
from pydantic import SecretStr

from services.audit.books import Stores, open_stores, read_all, read_snapshot
from services.audit.ledger import read_ledger
from services.audit.snapshot import Ledger, Shelf, Snapshot
from services.common.clock import now_ms
from services.common.documents import Collection, Documents
from services.inventory.model import Reservation
from services.inventory.seed import read_stock_file
from services.inventory.settings import InventorySettings
from services.inventory.store import RESERVATIONS
from services.notification.model import MESSAGES, Message
from services.order.model import ORDERS, Order
from services.payment.settings import PaymentSettings
from services.shipping.model import SHIPMENTS, Shipment
from tests.testkit.invariants import violations_of
from tests.testkit.shop import Shop

_POLL_SECONDS = 0.05
# A parcel that is not due by then is at rest, as with a carrier that does not move during a test.
# Longer than a chaos run's clocks are wrong and shipping pauses; such a carrier waits for longer.
_SOON_MS = 600_000
_LEDGER_SECONDS = 60.0


class Books:
    """What a shop has stored.

    :param sandbox_url: where the Stripe sandbox is, once the shop runs.
    :param stock_file: what the shop began with.
    :ivar orders: the orders, as they are stored.
    """

    def __init__(self, stores: Stores, *, sandbox_url: Callable[[], str], stock_file: Path) -> None:
        self._stores = stores
        self._sandbox_url = sandbox_url
        self._stock_file = stock_file
        self.orders = Documents(stores["order"], ORDERS, Order)
        self._reservations = Documents(stores["inventory"], RESERVATIONS, Reservation)
        self._shipments = Documents(stores["shipping"], SHIPMENTS, Shipment)
        self._messages = Documents(stores["notification"], MESSAGES, Message)

    async def order(self, order_id: str) -> Order | None:
        """One order as it is stored now."""
        stored = await self.orders.get(order_id)
        return stored.value if stored else None

    async def stock(self, product_id: str) -> Shelf:
        """The stock of one product as it is stored now."""
        stored = await Documents(self._stores["inventory"], Collection("stock"), Shelf).get(
            product_id
        )
        assert stored is not None, f"{product_id} has no stock"
        return stored.value

    def initial_stock(self) -> Mapping[str, int]:
        """How many of each product the shop began with."""
        return read_stock_file(self._stock_file)

    async def ledger(self) -> Ledger:
        """The sandbox's ledger."""
        return await read_ledger(
            PaymentSettings(
                stripe_api_key=SecretStr("sk_test_books"),
                stripe_api_base=self._sandbox_url(),
                stripe_timeout_seconds=_LEDGER_SECONDS,
            )
        )

    async def read(self) -> Snapshot:
        """Everything. Only of a quiet shop is it one consistent whole."""
        return await read_snapshot(self._stores, self.ledger)

    async def unrest(self) -> str | None:
        """Something that the shop has still to do by itself; None when it is quiet."""
        soon_ms = now_ms() + _SOON_MS
        if (await self.orders.find("unfinished", limit=1)).items:
            return "an order is not settled and told"
        if (await self._shipments.find("due", below=soon_ms, limit=1)).items:
            return "a parcel moves or is not told"
        if (await self._messages.find("unsent", limit=1)).items:
            return "a mail is not sent"
        if (await self._reservations.find("unfinished", limit=1)).items:
            return "a reservation is between two states"
        stock = await read_all(self._stores, "inventory", "stock", Shelf)
        if any(shelf.holds or shelf.returns for shelf in stock.values()):
            return "stock is held"
        return "money is set aside" if await self._authorized_open_cents() else None

    async def rest(self, within_seconds: float) -> str | None:
        """Waits until the shop is quiet; gives what it has still to do when the time is up."""
        until = time.monotonic() + within_seconds
        while True:
            unrest = await self.unrest()
            if unrest is None or time.monotonic() > until:
                return unrest
            await asyncio.sleep(_POLL_SECONDS)

    async def settled(self, within_seconds: float = 30.0) -> Snapshot:
        """Waits until the shop is quiet, then checks all invariants.

        :raises AssertionError: naming every violation.
        """
        unrest = await self.rest(within_seconds)
        snapshot = await self.read()
        wrong = [str(violation) for violation in violations_of(snapshot, self.initial_stock())]
        if unrest:
            wrong.append(f"not quiet within {within_seconds:g} s: {unrest}")
        assert not wrong, "\n".join(wrong)
        return snapshot

    async def _authorized_open_cents(self) -> int:
        url = f"{self._sandbox_url()}/sandbox/ledger"
        async with (
            aiohttp.ClientSession() as session,
            session.get(url, params={"limit": 1}) as response,
        ):
            assert response.status == 200, response
            return (await response.json())["totals"]["authorized_open_cents"]


@contextlib.asynccontextmanager
async def open_books(shop: Shop) -> AsyncGenerator[Books]:
    """The books of a shop, which may run or not; the ledger needs it to run."""
    url = shop.environment.get("DATABASE_URL", f"sqlite:///{shop.data.resolve()}")
    stock_file = shop.environment.get("STOCK_FILE")
    async with open_books_at(
        url,
        sandbox_url=lambda: shop.sandbox_url,
        stock_file=Path(stock_file) if stock_file else InventorySettings().stock_file,
    ) as books:
        yield books


@contextlib.asynccontextmanager
async def open_books_at(
    database_url: str, *, sandbox_url: Callable[[], str], stock_file: Path
) -> AsyncGenerator[Books]:
    """The books behind a URL whose user may read every service's database."""
    async with open_stores(database_url) as stores:
        yield Books(stores, sandbox_url=sandbox_url, stock_file=stock_file)
