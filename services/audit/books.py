"""Reads what every service has stored, beside the running services."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from services.audit.snapshot import Collected, Ledger, Model, Shelf, Snapshot
from services.common.documents import Collection, DocumentStore, Index, open_store
from services.common.documents.api import Position, Query
from services.inventory.model import Reservation
from services.notification.model import Message
from services.order.model import Order
from services.payment.model import Payment
from services.shipping.model import Shipment
from services.user.model import User

SERVICES = ("order", "inventory", "payment", "shipping", "notification", "user")
"""The services that know of orders, and of those who place them."""

_PAGE = 20_000
_PAGE_SECONDS = 120.0

Stores = Mapping[str, DocumentStore]
ReadLedger = Callable[[], Awaitable[Ledger]]


@asynccontextmanager
async def open_stores(database_url: str) -> AsyncGenerator[Stores]:
    """The services' stores behind a URL whose user may read every service's database."""
    stores = {service: _open(database_url, service) for service in SERVICES}
    try:
        yield stores
    finally:
        for store in stores.values():
            await store.close()


async def read_snapshot(stores: Stores, read_ledger: ReadLedger) -> Snapshot:
    """Returns all documents and Stripe's ledger, the orders first.

    One consistent whole it is only of a quiet shop. Of one that sells it is a bit of each moment:
    what seems to disagree may be an order that was changed in between.
    """
    orders = await read_all(stores, "order", "orders", Order)
    stock = await read_all(stores, "inventory", "stock", Shelf)
    reservations = await read_all(stores, "inventory", "reservations", Reservation)
    later_stock = await read_all(stores, "inventory", "stock", Shelf)
    return Snapshot(
        orders=orders,
        stock=later_stock,
        reservations=reservations,
        payments=await read_all(stores, "payment", "payments", Payment),
        shipments=await read_all(stores, "shipping", "shipments", Shipment),
        messages=await read_all(stores, "notification", "messages", Message),
        ledger=await read_ledger(),
        user_ids=frozenset(await read_all(stores, "user", "users", User)),
        moving=frozenset(
            product_id
            for product_id in stock.keys() | later_stock.keys()
            if stock.get(product_id) != later_stock.get(product_id)
        ),
    )


async def read_all(
    stores: Stores, service: str, collection: str, model: type[Model]
) -> Collected[Model]:
    """Returns every document of one collection."""
    # Of all that the service declares, `all` is enough here, and no store needs to be told.
    every = Index("all")
    view = Collection(collection, indexes=(every,))
    collected = Collected(model)
    after: Position | None = None
    while True:
        query = Query(every, (), None, None, False, _PAGE, after)
        records = await stores[service].find(view, query)
        for record in records:
            collected.add(record.id, record.body)
        if len(records) < _PAGE:
            return collected
        after = Position(None, records[-1].id)


def _open(url: str, service: str) -> DocumentStore:
    if url.startswith("mongodb"):
        from services.common.documents.mongo import MongoStore  # noqa: PLC0415  as in open_store

        # A page of everything takes longer than a service may wait for an answer.
        return MongoStore(url, service, timeout_seconds=_PAGE_SECONDS)
    return open_store(url, service)
