"""A store that is put back to an older copy, while the others are not."""

from __future__ import annotations

import shutil
from pathlib import Path

import aiohttp

from tests.shop.conftest import OpenShop
from tests.testkit.books import open_books
from tests.testkit.customer import Client, Customer

BOARD = "oak-serving-board"


def _files(data: Path, service: str) -> list[Path]:
    """The files of a service's store: SQLite's and its log."""
    return sorted(data.glob(f"{service}.db*"))


async def test_a_payment_that_its_store_has_lost_is_given_back(
    open_shop: OpenShop, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """The customer cancels an order whose captured intent only Stripe knows."""
    shop = open_shop(environment={"SHIPPING_STEP_SECONDS": "3600"})
    customer = await Customer.register(Client(http, shop.url))
    assert shop.stop() == 0

    copy = tmp_path / "copy"
    copy.mkdir()
    for file in _files(shop.data, "payment"):
        shutil.copy(file, copy)

    shop.launch()
    shop.wait_open()
    customer.client = Client(http, shop.url)
    order_id = await customer.bought({BOARD: 2})
    assert shop.stop() == 0

    for file in _files(shop.data, "payment"):
        file.unlink()
    for file in copy.iterdir():
        shutil.copy(file, shop.data)
    shop.launch()
    shop.wait_open()
    customer.client = Client(http, shop.url)
    cancelled = await customer.cancel(order_id)

    assert (cancelled.status, cancelled.body["state"]) == (200, "cancelled")
    async with open_books(shop) as books:
        ledger = await books.ledger()
    assert ledger.charges(order_id) == [cancelled.body["total_cents"]]
    assert ledger.refunded(order_id) == cancelled.body["total_cents"]
