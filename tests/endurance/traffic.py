"""Everyday use of the shop: a seeded mix of customers' journeys, at a given rate or as fast as the
shop allows.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any

import aiohttp

from services.inventory.seed import read_stock_file
from services.inventory.settings import InventorySettings
from tests.testkit.customer import Answer, Client, Customer, Person, claims_of

PRODUCTS: Sequence[str] = tuple(read_stock_file(InventorySettings().stock_file))
# The stock of a shop that does not sell out.
PLENTY: Mapping[str, int] = dict.fromkeys(PRODUCTS, 1_000_000)

# Longer than the shop ever takes to answer, so that a missing answer is the shop's fault.
PATIENCE_SECONDS = 20.0

Journey = Callable[[int], Coroutine[Any, Any, None]]
_Visit = Callable[[Customer, random.Random], Awaitable[None]]

_DECLINED_SHARE = 0.05
_RENEW_SECONDS_BEFORE = 120


class Tally:
    """What came of the requests, by the name of the step that made them."""

    def __init__(self) -> None:
        self.milliseconds: defaultdict[str, list[float]] = defaultdict(list)
        self.unexpected: Counter[str] = Counter()
        self.journeys = 0
        self.orders = 0

    @property
    def requests(self) -> int:
        """How many requests were answered or given up."""
        return sum(len(each) for each in self.milliseconds.values())

    def percentile_ms(self, step: str, percent: int) -> float:
        """The nearest rank among the step's requests."""
        ordered = sorted(self.milliseconds[step])
        return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


class Regulars:
    """Customers with accounts. Journey number `n` is decided by the seed and `n` alone, so the same
    numbers are the same load again.

    Nobody repeats a request that failed.
    """

    def __init__(self, customers: Sequence[Customer], *, seed: int) -> None:
        self.tally = Tally()
        self._customers = list(customers)
        self._next_log_in = itertools.cycle(range(len(self._customers)))
        self._seed = seed
        # What people come for, and how often.
        self._visits: Mapping[_Visit, float] = {
            self._buy: 0.45,
            self._browse: 0.30,
            self._look_back: 0.15,
            self._come_back: 0.05,
            self._change_mind: 0.04,
            self._register: 0.01,
        }

    @classmethod
    async def gather(cls, client: Client, count: int, *, seed: int) -> Regulars:
        """As many customers, newly registered."""
        return cls([await Customer.register(client) for _ in range(count)], seed=seed)

    async def journey(self, number: int) -> None:
        """One visit to the shop."""
        chance = random.Random(f"{self._seed}:{number}")
        visit = chance.choices(list(self._visits), list(self._visits.values()))[0]
        customer = chance.choice(self._customers)
        if claims_of(customer.token)["exp"] - time.time() < _RENEW_SECONDS_BEFORE:
            await self._log_in(customer)
        await visit(customer, chance)
        self.tally.journeys += 1

    async def _browse(self, customer: Customer, chance: random.Random) -> None:
        get = customer.client.send
        product = chance.choice(PRODUCTS)
        word = product.rpartition("-")[2]
        await self._step("page: search", get("GET", "/products", query={"q": word}))
        await self._step("page: product", get("GET", f"/products/{product}"))
        await self._step("api: product", get("GET", f"/api/products/{product}"))

    async def _buy(self, customer: Customer, chance: random.Random) -> None:
        product = chance.choice(PRODUCTS)
        is_declined = chance.random() < _DECLINED_SHARE
        await self._step("page: product", customer.client.send("GET", f"/products/{product}"))
        card = "pm_card_visa_chargeDeclined" if is_declined else "pm_card_visa"
        placing = customer.place({product: chance.randint(1, 2)}, payment_method=card)
        answer = await self._step("checkout", placing, {402} if is_declined else {201})
        self.tally.orders += answer is not None and answer.status in {201, 202, 402}

    async def _look_back(self, customer: Customer, _: random.Random) -> None:
        answer = await self._step("api: orders", customer.send("GET", "/api/orders"))
        if answer is not None and answer.status == 200 and answer.body["items"]:
            order_id = answer.body["items"][0]["order_id"]
            await self._step("api: order", customer.order(order_id))
        await self._step("api: inbox", customer.send("GET", "/api/notifications"))

    async def _change_mind(self, customer: Customer, chance: random.Random) -> None:
        placing = customer.place({chance.choice(PRODUCTS): 1})
        answer = await self._step("checkout", placing, {201})
        if answer is None or answer.status != 201:
            return
        self.tally.orders += 1
        await self._step("cancel", customer.cancel(answer.body["order_id"]))

    async def _come_back(self, _: Customer, __: random.Random) -> None:
        await self._log_in(self._customers[next(self._next_log_in)])

    async def _register(self, customer: Customer, _: random.Random) -> None:
        """A new customer takes the place of one who was here before."""
        client = customer.client
        person = Person("Grace Hopper")
        sending = client.send("POST", "/api/auth/register", json=person.registration())
        answer = await self._step("register", sending, {201})
        if answer is not None and answer.status == 201:
            newcomer = Customer(client, answer.body, person)
            self._customers = [newcomer if each is customer else each for each in self._customers]

    async def _log_in(self, customer: Customer) -> None:
        credentials = customer.person.credentials()
        sending = customer.client.send("POST", "/api/auth/login", json=credentials)
        answer = await self._step("log in", sending)
        if answer is not None and answer.status == 200:
            customer.token = answer.body["access_token"]

    async def _step(
        self, name: str, sending: Awaitable[Answer], expected: Collection[int] = (200,)
    ) -> Answer | None:
        """Makes a request; None when there is no answer."""
        started = time.perf_counter()
        answer: Answer | None = None
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                answer = await sending
        except TimeoutError:
            self.tally.unexpected[f"{name}: no answer in {PATIENCE_SECONDS:g} s"] += 1
        except aiohttp.ClientError as error:
            self.tally.unexpected[f"{name}: {type(error).__name__}"] += 1
        self.tally.milliseconds[name].append(1000 * (time.perf_counter() - started))
        if answer is not None and answer.status not in expected:
            self.tally.unexpected[f"{name}: {answer.status}{_reason(answer)}"] += 1
        return answer


async def closed_loop(journey: Journey, *, clients: int, seconds: float) -> float:
    """Each client begins its next journey when the last one ends; gives the journeys per second."""
    numbers = itertools.count()
    started = time.monotonic()

    async def client() -> None:
        while time.monotonic() < started + seconds:
            await journey(next(numbers))

    async with asyncio.TaskGroup() as tasks:
        for _ in range(clients):
            tasks.create_task(client())
    return next(numbers) / (time.monotonic() - started)


async def open_loop(journey: Journey, *, per_second: float, seconds: float, seed: int) -> None:
    """Journeys begin at random moments (a Poisson process) whether the shop keeps up or not;
    returns when the last one has ended.
    """
    chance = random.Random(seed)
    began = time.monotonic()
    due_seconds = 0.0
    async with asyncio.TaskGroup() as tasks:
        for number in itertools.count():
            due_seconds += chance.expovariate(per_second)
            if due_seconds > seconds:
                return
            await asyncio.sleep(began + due_seconds - time.monotonic())
            tasks.create_task(journey(number))


def _reason(answer: Answer) -> str:
    """The code of a problem, or the state of an order."""
    if answer.body is None:
        return ""
    return f" {answer.body.get('code') or answer.body.get('state')}"
