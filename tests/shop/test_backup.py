"""Backups of a shop that sells meanwhile, and what they are restored to."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import aiohttp

from services.common.serving.process import EXIT_CONFIGURATION
from tests.shop.conftest import OpenShop
from tests.testkit.books import open_books
from tests.testkit.customer import Client, Customer
from tests.testkit.shop import Shop
from tests.testkit.waiting import eventually

BOARD = "oak-serving-board"
_BACKUPS = 2
_CUSTOMERS = 4
# Of the copies, too: a process takes up its own orders at once, those of others after a while.
_REPLICAS = ("--replicas", "order=2,payment=2")


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """``python -m services`` with these arguments, to its end."""
    command = [sys.executable, "-m", "services", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


async def _buy(customer: Customer, orders: list[str]) -> None:
    while True:
        answer = await customer.place({BOARD: 1})
        if answer.status == 201:
            orders.append(answer.body["order_id"])


async def _has(orders: list[str], number: int) -> bool:
    return len(orders) >= number


async def test_a_backup_of_a_busy_shop_is_of_one_moment(
    open_shop: OpenShop, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    stock = {BOARD: 100_000}
    shop = open_shop(*_REPLICAS, name="original", stock=stock)
    customers = [await Customer.register(Client(http, shop.url)) for _ in range(_CUSTOMERS)]
    orders: list[str] = []
    known: list[list[str]] = []
    buying = [asyncio.create_task(_buy(customer, orders)) for customer in customers]
    for number in range(_BACKUPS):
        enough = len(orders) + 10
        await eventually(lambda n=enough: _has(orders, n), "more orders")
        known.append(list(orders))
        made = await asyncio.to_thread(run, "backup", tmp_path / f"{number}", "--data", shop.data)
        assert made.returncode == 0, made.stderr
    for task in buying:
        task.cancel()
    ends = await asyncio.gather(*buying, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ends), ends

    for number in range(_BACKUPS):
        data = tmp_path / f"restored-{number}"
        restored = await asyncio.to_thread(run, "restore", tmp_path / f"{number}", "--data", data)
        assert restored.returncode == 0, restored.stderr
        copy = open_shop(*_REPLICAS, name=f"copy-{number}", data=data, stock=stock)
        async with open_books(copy) as books:
            snapshot = await books.settled()
        assert set(known[number]) <= snapshot.orders.keys()
        assert not copy.logged_errors()
        copy.stop()
        audited = await asyncio.to_thread(run, "audit", "--data", data)
        assert audited.returncode == 0, audited.stdout


def test_what_cannot_be_copied_or_restored_is_said_in_a_sentence(
    tmp_path: Path, open_shop: OpenShop
) -> None:
    def refusal(*arguments: str | Path) -> str:
        ended = run(*arguments)
        assert ended.returncode == EXIT_CONFIGURATION, ended
        return ended.stderr

    shop = open_shop()
    backup = tmp_path / "backup"
    assert run("backup", backup, "--data", shop.data).returncode == 0
    damaged = tmp_path / "damaged"
    assert run("backup", damaged, "--data", shop.data).returncode == 0
    with (damaged / "order.db").open("ab") as file:
        file.write(b"x")
    partial = tmp_path / "partial"
    assert run("restore", backup, "--data", partial).returncode == 0
    (partial / "payment.db").unlink()

    assert "has no data of a shop" in refusal("backup", tmp_path / "new", "--data", tmp_path)
    assert "is not empty" in refusal("backup", backup, "--data", shop.data)
    assert "Another shop" in refusal("restore", backup, "--data", shop.data)
    assert "has no complete backup" in refusal("restore", tmp_path, "--data", tmp_path / "new")
    assert "is not what was backed up" in refusal("restore", damaged, "--data", tmp_path / "new")
    (damaged / "order.db").unlink()
    lacking = refusal("restore", damaged, "--data", tmp_path / "new")
    assert f"The backup in {damaged} is incomplete: order.db cannot be read" in lacking
    assert not (tmp_path / "new").exists()
    assert "payment.db is missing" in refusal("backup", tmp_path / "less", "--data", partial)
    assert not (tmp_path / "less").exists()
    assert "has no data of a shop" in refusal("audit", "--data", tmp_path / "none")


def test_a_restored_shop_is_the_one_that_was_backed_up(tmp_path: Path, open_shop: OpenShop) -> None:
    """What was sold since is not, the customer's cookie is still good, and the log is kept."""
    shop = open_shop()
    backup = tmp_path / "backup"
    assert run("backup", backup, "--data", shop.data).returncode == 0
    kept = asyncio.run(_bought_since(shop))
    secret = (shop.data / "frontend.secret").read_text()
    assert shop.stop() == 0

    assert run("restore", backup, "--data", shop.data).returncode == 0

    assert (shop.data / "frontend.secret").read_text() == secret
    assert (shop.data / "logs" / "order.log").exists()
    shop.launch()
    shop.wait_open()
    assert asyncio.run(_orders(shop)) == []
    assert kept


async def _bought_since(shop: Shop) -> str:
    async with aiohttp.ClientSession() as http:
        customer = await Customer.register(Client(http, shop.url))
        return await customer.bought({BOARD: 1})


async def _orders(shop: Shop) -> list[str]:
    async with open_books(shop) as books:
        return list((await books.settled()).orders)
