"""People who keep buying while something happens to the shop."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp

from services.inventory.seed import read_stock_file
from services.inventory.settings import InventorySettings
from tests.harness.customer import Answer, Client, Customer, Items

_BUYERS = 6
_PAUSE_SECONDS = 0.3


@dataclass(slots=True)
class Purchases:
    """What came of them."""

    confirmed: list[str] = field(default_factory=list[str])
    failures: Counter[str] = field(default_factory=Counter[str])

    def __str__(self) -> str:
        failed = ", ".join(f"{count}x {what}" for what, count in self.failures.items()) or "none"
        return f"{len(self.confirmed)} purchases confirmed; failed: {failed}"


Buy = Callable[[Customer, Items], Awaitable[Answer]]


async def buy_once(customer: Customer, items: Items) -> Answer:
    """Looks at the first page, and sends one request for the order."""
    page = await customer.send("GET", "/")
    return page if page.status != 200 else await customer.place(items)


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
    # Of everything in turn, so that nothing is sold out at the end of a long test.
    wanted = itertools.cycle(read_stock_file(InventorySettings().stock_file))
    customers = [await Customer.register(client) for _ in range(_BUYERS)]

    async def keep_buying(customer: Customer) -> None:
        while not (is_over.is_set() and len(purchases.confirmed) >= at_least):
            try:
                answer = await buy(customer, {next(wanted): 1})
            except aiohttp.ClientError as error:
                purchases.failures[repr(error)] += 1
            else:
                if answer.status == 201 and answer.body["state"] == "confirmed":
                    purchases.confirmed.append(answer.body["order_id"])
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
