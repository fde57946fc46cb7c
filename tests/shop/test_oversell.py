"""The last pieces of a product go to as many buyers as there are pieces, and to no other."""

from __future__ import annotations

import asyncio
from collections import Counter

import aiohttp

from tests.shop.conftest import SCARCE, SCARCE_STOCK
from tests.testkit.books import open_books
from tests.testkit.customer import Client, Customer
from tests.testkit.shop import Shop

BUYERS = 200


async def test_200_buyers_at_once_for_the_last_50(
    replicated_shop: Shop, http: aiohttp.ClientSession
) -> None:
    client = Client(http, replicated_shop.url)
    buyers = await asyncio.gather(*(Customer.register(client) for _ in range(BUYERS)))

    answers = await asyncio.gather(
        *(buyer.insist({SCARCE: 1}, key=buyer.user_id) for buyer in buyers)
    )

    outcomes = Counter(answer.status if answer.status == 201 else answer.code for answer in answers)
    assert outcomes == {201: SCARCE_STOCK, "out-of-stock": BUYERS - SCARCE_STOCK}
    async with open_books(replicated_shop) as books:
        snapshot = await books.settled()
    stock = snapshot.stock[SCARCE]
    assert (stock.available, stock.reserved, stock.sold) == (0, 0, SCARCE_STOCK)
    charged = {
        order_id
        for order_id, order in snapshot.orders.items()
        if order.lines[0].product_id == SCARCE and snapshot.ledger.charges(order_id)
    }
    confirmed = {answer.body["order_id"] for answer in answers if answer.status == 201}
    assert charged == confirmed
