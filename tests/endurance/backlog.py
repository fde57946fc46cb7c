"""How long the shop takes to finish a backlog: thousands of orders that an outage has left
unfinished, from the heal until the last one has ended and its customer is told.

``python -m tests.endurance.backlog --orders 2000``

Fails when that takes more than 60 s, or when the books are not in order afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import aiohttp
import psutil

from services.common.documents import Documents
from services.order.model import Order
from tests.endurance.measure import is_quiet
from tests.endurance.traffic import PLENTY, PRODUCTS
from tests.testkit.books import open_books
from tests.testkit.customer import Client, Customer
from tests.testkit.shop import Shop
from tests.testkit.waiting import eventually

MAX_SECONDS = 60.0

_CLIENTS = 32
_GIVE_UP_SECONDS = 300.0
_REPORT_SECONDS = 5.0
_REPLICAS = ("order-1", "order-2")

# Nobody waits for an order, and no order gives up.
_ENVIRONMENT = {"ORDER_ANSWER_SECONDS": "0.05", "ORDER_GIVE_UP_SECONDS": "3600"}

WAYS = {
    "plain": "the order processes live on",
    "killed": "both order processes are killed just before the heal",
    "stopped": "one order process hangs for good, so the other takes its orders over",
}


def open_shop(folder: Path) -> Shop:
    """The shop that gets a backlog."""
    return Shop(folder, "--replicas", "order=2", environment=_ENVIRONMENT, stock=PLENTY)


async def place_backlog(shop: Shop, session: aiohttp.ClientSession, count: int) -> None:
    """Orders that are all accepted."""
    client = Client(session, shop.url)
    answers = Counter[int]()

    async def place(begin: int) -> None:
        customer = await Customer.register(client)
        for number in range(begin, count, _CLIENTS):
            answers[(await customer.place({PRODUCTS[number % len(PRODUCTS)]: 1})).status] += 1

    async with asyncio.TaskGroup() as tasks:
        for begin in range(_CLIENTS):
            tasks.create_task(place(begin))
    assert answers.keys() <= {201, 202}, f"the answers to the orders placed are {dict(answers)}"


async def hang_between_writes(shop: Shop, instance: str) -> None:
    """Lets an order process hang where it does not hold SQLite's lock: with that it would keep the
    other from writing, too, until it dies.
    """
    process = psutil.Process(shop.process(instance).pid)

    async def look() -> bool:
        shop.pause(instance)
        await eventually(lambda: _is_stopped(process), f"{instance} hangs")
        if await asyncio.to_thread(_can_write, shop.data / "order.db"):
            return True
        shop.resume(instance)
        return False

    await eventually(look, f"{instance} hangs between two writes")


async def _is_stopped(process: psutil.Process) -> bool:
    return process.status() == psutil.STATUS_STOPPED


def _can_write(database: Path) -> bool:
    """Whether whoever writes there lets others do so, too."""
    with contextlib.closing(sqlite3.connect(database, timeout=1.0)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        connection.rollback()
    return True


async def finish(orders: Documents[Order]) -> float:
    """Waits until every order has ended and is told; gives the seconds that took."""
    began = time.monotonic()
    report = asyncio.create_task(_report(orders, began))
    try:
        await eventually(lambda: is_quiet(orders), "the backlog is finished", _GIVE_UP_SECONDS)
    finally:
        report.cancel()
    return time.monotonic() - began


async def _report(orders: Documents[Order], began: float) -> None:
    """Prints at intervals what stands where, until it is cancelled."""
    while True:
        left = await _unfinished(orders)
        where = ", ".join(f"{count} at {step}" for step, count in left.most_common())
        print(f"  {time.monotonic() - began:5.1f} s  {left.total():5} left: {where}", flush=True)
        await asyncio.sleep(_REPORT_SECONDS)


async def _unfinished(orders: Documents[Order]) -> Counter[str]:
    found = Counter[str]()
    cursor: str | None = None
    while True:
        page = await orders.find("unfinished", limit=500, cursor=cursor)
        found.update(stored.value.step or "tell" for stored in page.items)
        cursor = page.next_cursor
        if cursor is None:
            return found


async def measure(shop: Shop, way: str, arguments: argparse.Namespace) -> float:
    """Makes the backlog and heals; gives the seconds until it was finished.

    :raises AssertionError: the books are not in order afterwards.
    """
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
        open_books(shop) as books,
    ):
        orders = books.orders
        shop.pause(arguments.away)
        await place_backlog(shop, session, arguments.orders)
        unfinished = (await _unfinished(orders)).total()
        assert unfinished == arguments.orders, f"{unfinished} orders are unfinished"
        if way == "killed":
            for instance in _REPLICAS:
                shop.kill(instance)
        elif way == "stopped":
            await hang_between_writes(shop, _REPLICAS[-1])
        shop.resume(arguments.away)
        seconds = await finish(orders)
        # A process that wakes up from a long sleep must do no harm either.
        shop.resume_all()
        snapshot = await books.settled(_GIVE_UP_SECONDS)
    states = Counter(order.state.value for order in snapshot.orders.values())
    print(f"  {seconds:5.1f} s  done: {dict(states)}", flush=True)
    return seconds


def main() -> int:
    """Gives the exit status: 1 when a backlog took too long."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--orders", type=int, default=2000)
    parser.add_argument("--ways", default=",".join(WAYS), metavar="A,B", help=f"of {list(WAYS)}")
    parser.add_argument("--away", default="payment", help="whose outage it is (payment)")
    arguments = parser.parse_args()
    slowest_seconds = 0.0
    for way in arguments.ways.split(","):
        print(f"{way}: {arguments.away} was away, and {WAYS[way]}", flush=True)
        with tempfile.TemporaryDirectory() as folder, open_shop(Path(folder)) as shop:
            seconds = asyncio.run(measure(shop, way, arguments))
        slowest_seconds = max(slowest_seconds, seconds)
    if slowest_seconds > MAX_SECONDS:
        print(f"VIOLATION: a backlog took {slowest_seconds:.1f} s; {MAX_SECONDS:g} s are allowed")
    return int(slowest_seconds > MAX_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
