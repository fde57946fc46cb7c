"""People who keep buying while something happens to the shop."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

import aiohttp

from services.inventory.seed import read_stock_file
from services.inventory.settings import InventorySettings
from services.order.model import OrderState
from tests.testkit.customer import Answer, Client, Customer, Items
from tests.testkit.waiting import eventually

_BUYERS = 6
_PAUSE_SECONDS = 0.3


@dataclass(slots=True)
class Purchases:
    """What came of them.

    :ivar watched: how many of the confirmed were still being worked on when the answer came.
    """

    confirmed: list[str] = field(default_factory=list[str])
    watched: int = 0
    failures: Counter[str] = field(default_factory=Counter[str])

    def __str__(self) -> str:
        failed = ", ".join(f"{count}x {what}" for what, count in self.failures.items()) or "none"
        confirmed = f"{len(self.confirmed)} purchases confirmed ({self.watched} after the answer)"
        return f"{confirmed}; failed: {failed}"


Buy = Callable[[Customer, Items], Awaitable[Answer]]


def in_turn() -> Iterator[Items]:
    """One of each product in turn, without end, so that a long test sells nothing out."""
    products = itertools.cycle(read_stock_file(InventorySettings().stock_file))
    return ({product: 1} for product in products)


async def buy_once(customer: Customer, items: Items) -> Answer:
    """Looks at the first page, sends one request for the order, and watches the order where that is
    not done when the answer comes (202).
    """
    page = await customer.send("GET", "/")
    if page.status != 200:
        return page
    placed = await customer.place(items)
    if placed.status != 202:
        return placed

    async def look() -> Answer | None:
        seen = await customer.order(placed.body["order_id"])
        return None if seen.status == 200 and seen.body["state"] == OrderState.WORKING else seen

    return await eventually(look, f"an end of the order {placed.body['order_id']}", 60)


async def buy_patiently(customer: Customer, items: Items) -> Answer:
    """Repeats the request under its Idempotency-Key until there is an answer."""
    return await customer.insist(items, uuid.uuid4().hex)


async def buying_during(
    happening: Callable[[], None], client: Client, buy: Buy, *, at_least: int
) -> Purchases:
    """Lets people buy until something has happened, and until enough of them have.

    :param happening: blocks, and is run beside them.
    """
    purchases = Purchases()
    is_over = asyncio.Event()
    wanted = in_turn()
    customers = [await Customer.register(client) for _ in range(_BUYERS)]

    async def keep_buying(customer: Customer) -> None:
        while not (is_over.is_set() and len(purchases.confirmed) >= at_least):
            try:
                answer = await buy(customer, next(wanted))
            except aiohttp.ClientError as error:
                purchases.failures[repr(error)] += 1
            else:
                if answer.status in {200, 201} and answer.body["state"] == OrderState.CONFIRMED:
                    purchases.confirmed.append(answer.body["order_id"])
                    purchases.watched += answer.status == 200
                else:
                    purchases.failures[f"{answer.status} {answer.body}"] += 1
            if sum(purchases.failures.values()) > at_least:
                return  # it has failed; no need to wait for what does not come
            await asyncio.sleep(_PAUSE_SECONDS)

    async def happen() -> None:
        try:
            await asyncio.to_thread(happening)
        finally:
            is_over.set()

    await asyncio.gather(happen(), *(keep_buying(customer) for customer in customers))
    return purchases
