"""All that the shop has written down: every service's store and the sandbox's ledger."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from services.common.clock import now_ms
from services.common.documents import (
    Collection,
    Documents,
    DocumentStore,
    Index,
    open_store,
)
from services.common.documents.api import Position, Query
from services.common.documents.mongo import MongoStore
from services.inventory.model import Reservation
from services.inventory.seed import read_stock_file
from services.inventory.settings import InventorySettings
from services.inventory.store import RESERVATIONS
from services.notification.model import MESSAGES, Message
from services.order.model import ORDERS, Order
from services.payment.model import Payment
from services.shipping.model import SHIPMENTS, Shipment
from tests.harness.invariants import violations_of
from tests.harness.shop import Shop
from tests.harness.snapshot import Collected, Intent, Ledger, Model, Refund, Shelf, Snapshot

_BOOKS = ("order", "inventory", "payment", "shipping", "notification")

# Few pages, since the MongoDB stand-in reads the whole collection for each.
_PAGE = 20_000
_PAGE_SECONDS = 120.0
_LEDGER_PAGE = 10_000  # the most that the sandbox gives
_POLL_SECONDS = 0.05
# A parcel that is not due by then is at rest, as with a carrier that does not move during a test.
# Longer than a chaos run's clocks are wrong and shipping pauses; such a carrier waits for longer.
_SOON_MS = 600_000


class Books:
    """Reads a shop's stores directly, beside the running services, and writes nothing.

    :param sandbox_url: where the Stripe sandbox is, once the shop runs.
    :param stock_file: what the shop began with.
    """

    def __init__(
        self,
        stores: Mapping[str, DocumentStore],
        *,
        sandbox_url: Callable[[], str],
        stock_file: Path,
    ) -> None:
        self._stores = stores
        self._sandbox_url = sandbox_url
        self._stock_file = stock_file
        self._orders = Documents(stores["order"], ORDERS, Order)
        self._reservations = Documents(stores["inventory"], RESERVATIONS, Reservation)
        self._shipments = Documents(stores["shipping"], SHIPMENTS, Shipment)
        self._messages = Documents(stores["notification"], MESSAGES, Message)

    async def order(self, order_id: str) -> Order | None:
        """One order as it is stored now."""
        stored = await self._orders.get(order_id)
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
        intents: defaultdict[str, list[Intent]] = defaultdict(list)
        refunds: defaultdict[str, list[Refund]] = defaultdict(list)
        asked: dict[str, str | int] = {"limit": _LEDGER_PAGE}
        async with aiohttp.ClientSession() as session:
            while True:
                page = await self._ledger_page(session, asked)
                for intent in page["payment_intents"]:
                    of_order = intents[intent["metadata"]["order_id"]]
                    of_order.append(Intent(*(intent[name] for name in Intent._fields)))
                    asked["payment_intents_after"] = intent["id"]
                for refund in page["refunds"]:
                    refunds[refund["payment_intent"]].append(Refund(refund["id"], refund["amount"]))
                    asked["refunds_after"] = refund["id"]
                if not page["payment_intents"] and not page["refunds"]:
                    return Ledger(intents, refunds)

    async def read(self) -> Snapshot:
        """Everything. Only of a quiet shop is it one consistent whole."""
        return Snapshot(
            orders=await self._all("order", "orders", Order),
            stock=await self._all("inventory", "stock", Shelf),
            reservations=await self._all("inventory", "reservations", Reservation),
            payments=await self._all("payment", "payments", Payment),
            shipments=await self._all("shipping", "shipments", Shipment),
            messages=await self._all("notification", "messages", Message),
            ledger=await self.ledger(),
        )

    async def unrest(self) -> str | None:
        """Something that the shop has still to do by itself; None when it is quiet."""
        soon_ms = now_ms() + _SOON_MS
        if (await self._orders.find("unfinished", limit=1)).items:
            return "an order is not settled and told"
        if (await self._shipments.find("due", below=soon_ms, limit=1)).items:
            return "a parcel moves or is not told"
        if (await self._messages.find("unsent", limit=1)).items:
            return "a mail is not sent"
        if (await self._reservations.find("unfinished", limit=1)).items:
            return "a reservation is between two states"
        stock = await self._all("inventory", "stock", Shelf)
        if any(shelf.holds or shelf.returns for shelf in stock.values()):
            return "stock is held"
        async with aiohttp.ClientSession() as session:
            ledger = await self._ledger_page(session, {"limit": 1})
        return "money is set aside" if ledger["totals"]["authorized_open_cents"] else None

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

    async def _ledger_page(
        self, session: aiohttp.ClientSession, query: Mapping[str, str | int]
    ) -> dict[str, Any]:
        url = f"{self._sandbox_url()}/sandbox/ledger"
        async with session.get(url, params=query) as response:
            assert response.status == 200, response
            return orjson.loads(await response.read())

    async def _all(self, service: str, collection: str, model: type[Model]) -> Collected[Model]:
        # Of all that the service declares, `all` is enough here, and no store needs to be told.
        every = Index("all")
        view = Collection(collection, indexes=(every,))
        collected = Collected(model)
        after: Position | None = None
        while True:
            query = Query(every, (), (), None, None, False, _PAGE, after)
            records = await self._stores[service].find(view, query)
            for record in records:
                collected.add(record.id, record.body)
            if len(records) < _PAGE:
                return collected
            after = Position(None, records[-1].id)


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
    stores = {service: _open(database_url, service) for service in _BOOKS}
    try:
        yield Books(stores, sandbox_url=sandbox_url, stock_file=stock_file)
    finally:
        for store in stores.values():
            await store.close()


def _open(url: str, service: str) -> DocumentStore:
    if url.startswith("mongodb"):
        # A page of everything takes longer than a service may wait for an answer.
        return MongoStore(url, service, timeout_seconds=_PAGE_SECONDS)
    return open_store(url, service)
