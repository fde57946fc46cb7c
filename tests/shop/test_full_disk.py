"""A full disk is an outage of the service that writes to it, and ends with it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Generator

import aiohttp
import psutil
import pytest

from tests.testkit.customer import Client, Customer
from tests.testkit.full_disk import full_disk
from tests.testkit.shop import Shop

BOARD = {"oak-serving-board": 1}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Generator[Shop]:
    with Shop(tmp_path_factory.mktemp("full_disk")) as shop:
        yield shop


async def test_an_order_that_cannot_be_stored_is_refused_until_there_is_room(shop: Shop) -> None:
    order = shop.process("order")
    key = uuid.uuid4().hex
    async with aiohttp.ClientSession() as http:
        customer = await Customer.register(Client(http, shop.url))
        await customer.bought(BOARD)

        with full_disk(order.pid):
            refused = await customer.place(BOARD, key=key)
            assert (refused.status, refused.code) == (503, "store-unavailable")
            read = await customer.send("GET", "/api/orders")
            assert (read.status, len(read.body["items"])) == (200, 1)

        assert (await customer.insist(BOARD, key)).status == 201
    assert shop.process("order").pid == order.pid
    assert shop.logged_errors() == []


async def test_a_step_that_cannot_be_stored_is_made_later(shop: Shop) -> None:
    inventory = shop.process("inventory")
    key = uuid.uuid4().hex
    async with aiohttp.ClientSession() as http:
        customer = await Customer.register(Client(http, shop.url))
        with full_disk(inventory.pid):
            assert (await customer.place(BOARD, key=key)).status in {202, 503}
        assert (await customer.insist(BOARD, key)).body["state"] == "confirmed"
    assert shop.process("inventory").pid == inventory.pid


def test_the_log_goes_on_with_whole_lines(shop: Shop) -> None:
    for file in (shop.data / "logs").glob("*.log"):
        for line in file.read_text(encoding="utf-8").splitlines():
            json.loads(line)


def test_the_limit_is_as_before_afterwards(shop: Shop) -> None:
    process = psutil.Process(shop.process("user").pid)
    before = process.rlimit(psutil.RLIMIT_FSIZE)
    with full_disk(process.pid):
        assert process.rlimit(psutil.RLIMIT_FSIZE)[0] == 0
    assert process.rlimit(psutil.RLIMIT_FSIZE) == before
