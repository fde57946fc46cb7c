"""Whatever is killed at whatever step of a checkout, the order ends, and nothing is left behind.

An order is held at a step by pausing the process whose answer that step needs. While one is paused
the next one is paused too before the first goes on, so the order walks from step to step and cannot
run away.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import aiohttp
import pytest

from services.order.model import Order, OrderState, Step, order_id_for
from tests.testkit.books import Books, open_books
from tests.testkit.customer import Client, Customer
from tests.testkit.metrics import requests_served
from tests.testkit.shop import Shop
from tests.testkit.waiting import eventually

BOARD = "oak-serving-board"
GET_PRODUCTS = "ProductService/GetProducts"

# Those that an order needs while it is driven, and those that are asked only before it is stored.
DRIVING = ("inventory", "payment", "stripe_sandbox", "shipping", "notification", "order")
BEFORE = ("frontend", "auth", "user", "product")


@dataclass(frozen=True, slots=True)
class Point:
    """A point of a checkout: where an order waits for the process `holder`."""

    name: str
    holder: str
    is_reached: Callable[[Order], bool]


def _at_step(step: Step, holder: str) -> Point:
    return Point(step.value, holder, lambda order: order.step is step)


def _telling(state: OrderState) -> Point:
    return Point(
        f"tell {state}", "notification", lambda order: order.state is state and bool(order.events)
    )


CHECKOUT = (
    _at_step(Step.RESERVE, "inventory"),
    _at_step(Step.AUTHORIZE, "stripe_sandbox"),
    _at_step(Step.SHIP, "shipping"),
    _at_step(Step.CAPTURE, "stripe_sandbox"),
    _at_step(Step.COMMIT, "inventory"),
    _at_step(Step.DISPATCH, "shipping"),
    _telling(OrderState.CONFIRMED),
)
CANCELLATION = (
    _at_step(Step.RECALL, "shipping"),
    _at_step(Step.REFUND, "stripe_sandbox"),
    _at_step(Step.RELEASE, "inventory"),
    _telling(OrderState.CANCELLED),
)


def _cases(path: Sequence[Point]) -> list[object]:
    return [
        pytest.param(path[: end + 1], killed, id=f"{path[end].name}-{killed}")
        for end in range(len(path))
        for killed in DRIVING
    ]


@pytest.fixture(scope="module")
def fragile_shop(tmp_path_factory: pytest.TempPathFactory) -> Generator[Shop]:
    """A shop in which processes are killed."""
    with Shop(tmp_path_factory.mktemp("fragile")) as shop:
        yield shop


@pytest.fixture(autouse=True)
def nothing_stays_paused(fragile_shop: Shop) -> Generator[None]:
    """A test that fails leaves the shop usable for the next one."""
    yield
    fragile_shop.resume_all()


@pytest.fixture
async def books(fragile_shop: Shop) -> AsyncGenerator[Books]:
    async with open_books(fragile_shop) as books:
        yield books


@pytest.fixture
async def customer(fragile_shop: Shop, http: aiohttp.ClientSession) -> Customer:
    return await Customer.register(Client(http, fragile_shop.url))


@pytest.mark.parametrize("killed", BEFORE + DRIVING)
async def test_a_crash_while_the_order_is_priced(
    killed: str,
    fragile_shop: Shop,
    books: Books,
    customer: Customer,
    http: aiohttp.ClientSession,
) -> None:
    (product,) = fragile_shop.of_service("product")
    before = await requests_served(http, product.internal_url)
    fragile_shop.pause("shipping")  # the quote is the last thing that a new order waits for
    placing = asyncio.create_task(customer.insist({BOARD: 1}, key=uuid.uuid4().hex))

    async def is_priced() -> bool:
        now = await requests_served(http, product.internal_url)
        return now[GET_PRODUCTS] > before[GET_PRODUCTS]

    await eventually(is_priced, "the products of the order were asked for")
    await _kill(killed, fragile_shop, holder="shipping")

    answer = await placing
    assert (answer.status, answer.body["state"]) == (201, "confirmed")
    await books.settled()


@pytest.mark.parametrize(("path", "killed"), _cases(CHECKOUT))
async def test_a_crash_during_a_checkout(
    path: Sequence[Point], killed: str, fragile_shop: Shop, books: Books, customer: Customer
) -> None:
    key = uuid.uuid4().hex
    fragile_shop.pause(path[0].holder)
    placing = asyncio.create_task(customer.insist({BOARD: 1}, key=key))

    await _walk(order_id_for(customer.user_id, key), path, fragile_shop, books)
    await _kill(killed, fragile_shop, holder=path[-1].holder)

    answer = await placing
    assert (answer.status, answer.body["state"]) == (201, "confirmed")
    snapshot = await books.settled()
    assert snapshot.orders[answer.body["order_id"]].state is OrderState.CONFIRMED


@pytest.mark.parametrize(("path", "killed"), _cases(CANCELLATION))
async def test_a_crash_during_a_cancellation(
    path: Sequence[Point], killed: str, fragile_shop: Shop, books: Books, customer: Customer
) -> None:
    order_id = (await customer.insist({BOARD: 1}, key=uuid.uuid4().hex)).body["order_id"]
    await books.settled()
    fragile_shop.pause(path[0].holder)
    cancelling = asyncio.create_task(_insist_on_cancelling(customer, order_id))

    await _walk(order_id, path, fragile_shop, books)
    await _kill(killed, fragile_shop, holder=path[-1].holder)

    await cancelling
    snapshot = await books.settled()
    assert snapshot.orders[order_id].state is OrderState.CANCELLED
    assert snapshot.ledger.refunded(order_id) == snapshot.orders[order_id].total_cents


async def _walk(order_id: str, path: Sequence[Point], shop: Shop, books: Books) -> None:
    """Lets an order, held at the first point of a path, go on to the last."""
    await _reached(order_id, path[0], books)
    for point, following in pairwise(path):
        shop.pause(following.holder)
        shop.resume(point.holder)
        await _reached(order_id, following, books)


async def _reached(order_id: str, point: Point, books: Books) -> None:
    async def look() -> bool:
        order = await books.order(order_id)
        return order is not None and point.is_reached(order)

    await eventually(look, f"{order_id} is at {point.name}")


async def _kill(killed: str, shop: Shop, *, holder: str) -> None:
    """Kills a process, lets the order's holder go on, and waits for the runner to replace it."""
    pid = shop.kill(killed)
    if killed != holder:
        shop.resume(holder)
    await shop.back(killed, pid)


async def _insist_on_cancelling(customer: Customer, order_id: str) -> None:
    async def look() -> bool:
        try:
            answer = await customer.cancel(order_id)
        except aiohttp.ClientError:
            return False
        return answer.status == 200 and answer.body["state"] == "cancelled"

    await eventually(look, f"{order_id} is cancelled", 60)
