"""When the books of a shop call it quiet."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.clock import now_ms
from services.common.documents import Documents, SqliteStore
from services.notification.model import MESSAGES, Message
from services.order.model import ORDERS
from services.shipping.model import SHIPMENTS, Shipment
from tests.testkit.books import open_books_at
from tests.unit.notification.examples import a_message
from tests.unit.shipping.examples import a_shipment

_MINUTE_MS = 60_000


@pytest.mark.parametrize(
    ("due_in_ms", "unrest"),
    [
        (0, "a parcel moves or is not told"),
        (5 * _MINUTE_MS, "a parcel moves or is not told"),  # a process with a wrong clock wrote it
        (60 * _MINUTE_MS, "a mail is not sent"),  # the carrier stands still: look at what is next
    ],
)
async def test_a_parcel_on_its_way_is_unrest(tmp_path: Path, due_in_ms: int, unrest: str) -> None:
    parcel = a_shipment(due_ms=now_ms() + due_in_ms)
    stores = {
        service: SqliteStore(tmp_path / f"{service}.db")
        for service in ("order", "shipping", "notification")
    }
    await stores["order"].prepare(ORDERS)
    await stores["shipping"].prepare(SHIPMENTS)
    await Documents(stores["shipping"], SHIPMENTS, Shipment).insert(parcel)
    await stores["notification"].prepare(MESSAGES)
    await Documents(stores["notification"], MESSAGES, Message).insert(a_message(due_ms=0))
    for store in stores.values():
        await store.close()

    url = f"sqlite:///{tmp_path}"
    async with open_books_at(url, sandbox_url=str, stock_file=tmp_path / "stock.yaml") as books:
        assert await books.unrest() == unrest
