"""An `Idempotency-Key` stands for one order, however often and wherever it arrives."""

from __future__ import annotations

import asyncio
import uuid

import aiohttp
import pytest

from tests.testkit.books import open_books
from tests.testkit.customer import Client, Customer, order_body
from tests.testkit.shop import Shop

BOARD = "oak-serving-board"


@pytest.fixture
def client(http: aiohttp.ClientSession, replicated_shop: Shop) -> Client:
    """Somebody without an account at the shop with two processes of `order`."""
    return Client(http, replicated_shop.url)


async def test_twenty_requests_at_once_are_one_order_and_one_charge(
    replicated_shop: Shop, customer: Customer
) -> None:
    key = uuid.uuid4().hex

    answers = await asyncio.gather(*(customer.place({BOARD: 2}, key=key) for _ in range(20)))

    assert {answer.status for answer in answers} == {201}
    first = answers[0].body
    assert [answer.body for answer in answers] == [first] * 20
    history = await customer.send("GET", "/api/orders")
    assert [order["order_id"] for order in history.body["items"]] == [first["order_id"]]
    async with open_books(replicated_shop) as books:
        snapshot = await books.settled()
    assert snapshot.ledger.charges(first["order_id"]) == [first["total_cents"]]
    assert len(snapshot.ledger.intents[first["order_id"]]) == 1


async def test_twenty_requests_at_once_are_declined_as_one(customer: Customer) -> None:
    key = uuid.uuid4().hex
    declining = "pm_card_visa_chargeDeclinedInsufficientFunds"

    answers = await asyncio.gather(
        *(customer.place({BOARD: 1}, payment_method=declining, key=key) for _ in range(20))
    )

    assert {(answer.status, answer.code) for answer in answers} == {(402, "insufficient-funds")}
    assert len({answer.body["fields"]["order_id"] for answer in answers}) == 1


async def test_the_same_key_with_another_body_is_refused(customer: Customer) -> None:
    key = uuid.uuid4().hex
    first = await customer.place({BOARD: 1}, key=key)

    second = await customer.place({BOARD: 2}, key=key)

    assert first.status == 201
    assert (second.status, second.code) == (422, "idempotency-key-reused")
    assert len((await customer.send("GET", "/api/orders")).body["items"]) == 1


async def test_a_key_belongs_to_its_customer(client: Client, customer: Customer) -> None:
    other = await Customer.register(client)
    key = uuid.uuid4().hex

    placed = [await each.place({BOARD: 1}, key=key) for each in (customer, other)]

    assert [answer.status for answer in placed] == [201, 201]
    assert placed[0].body["order_id"] != placed[1].body["order_id"]


async def test_a_key_is_remembered_when_every_order_process_was_replaced(
    replicated_shop: Shop, customer: Customer
) -> None:
    key = uuid.uuid4().hex
    first = await customer.place({BOARD: 1}, key=key)

    for instance in ("order-1", "order-2"):
        await replicated_shop.back(instance, replicated_shop.kill(instance))
    again = await customer.place({BOARD: 1}, key=key)

    assert (again.status, again.body) == (first.status, first.body)
    async with open_books(replicated_shop) as books:
        await books.settled()


async def test_the_key_is_required(customer: Customer) -> None:
    answer = await customer.send("POST", "/api/orders", json=order_body({BOARD: 1}))

    assert answer.status == 422
    assert [error["field"] for error in answer.body["errors"]] == ["header.Idempotency-Key"]
