"""Whether an outage spreads: the requests that reach the neighbours of a service that is away,
compared with those of an ordinary time under the same load.

``python -m tests.endurance.amplification --seconds 60``

A service is away in two ways. `hung`: its processes are stopped, connections stay and nothing
answers. `dead`: they are killed and nobody starts them again, so connections are refused at once.
Fails when any neighbour gets more than 1.2 times the requests. The load is open and the same each
time, by its seed, and its customers repeat nothing, so whatever is more comes from within the shop.
Probes and scrapes do not count; background work does. The orders that an outage has left behind are
finished after the heal, which belongs to neither side of the comparison.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Mapping
from pathlib import Path

import aiohttp

from tests.endurance.measure import is_quiet, served, table
from tests.endurance.traffic import PLENTY, Regulars, open_loop
from tests.testkit.books import open_books
from tests.testkit.customer import Client, Customer
from tests.testkit.shop import Shop
from tests.testkit.waiting import eventually

MAX_RATIO = 1.2
# Each of six services fetches the keys of auth anew every five minutes, whenever that is.
SPARE_REQUESTS = 6

_CUSTOMERS = 32
_HEAL_SECONDS = 120.0
# Tokens that outlive the run: a customer who cannot log in must not try more often than usual.
ENVIRONMENT = {"ACCESS_TOKEN_SECONDS": "86400"}

Requests = Mapping[str, Counter[str]]


class Experiment:
    """The same load again and again, each time with another service away."""

    def __init__(
        self, shop: Shop, session: aiohttp.ClientSession, arguments: argparse.Namespace
    ) -> None:
        self._shop = shop
        self._session = session
        self._client = Client(session, shop.url)
        self._arguments = arguments

    async def normal(self) -> Requests:
        """How many requests reach each service while all are well."""
        # Caches fill and channels connect.
        await self._load(await self._regulars(), self._arguments.seconds / 3)
        await self._settled()
        regulars = await self._regulars()
        before = await served(self._session, self._shop)
        await self._load(regulars, self._arguments.seconds)
        assert not regulars.tally.unexpected, regulars.tally.unexpected
        return _between(before, await served(self._session, self._shop))

    async def outage_of(self, service: str, way: str) -> Requests:
        """How many reach each other service until the last request of the load has its answer,
        while `service` is away.
        """
        regulars = await self._regulars()
        before = await served(self._session, self._shop, without=service)
        async with _WAYS[way](self._shop, service):
            await self._load(regulars, self._arguments.seconds)
            after = await served(self._session, self._shop, without=service)
        tally = regulars.tally
        print(
            f"{service} {way}: {tally.unexpected.total()} of {tally.requests} requests failed",
            flush=True,
        )
        await self._settled()
        return _between(before, after)

    async def _regulars(self) -> Regulars:
        return await Regulars.gather(self._client, _CUSTOMERS, seed=self._arguments.seed)

    async def _load(self, regulars: Regulars, seconds: float) -> None:
        await open_loop(
            regulars.journey,
            per_second=self._arguments.per_second,
            seconds=seconds,
            seed=self._arguments.seed,
        )

    async def _settled(self) -> None:
        """Waits until the shop sells again and has finished all that was left."""
        customer = await Customer.register(self._client)

        async def sells() -> bool:
            return (await customer.place({"oak-serving-board": 1})).status == 201

        await eventually(sells, "the shop sells again", _HEAL_SECONDS)
        async with open_books(self._shop) as books:
            orders = books.orders
            await eventually(lambda: is_quiet(orders), "all orders are finished", _HEAL_SECONDS)


@contextlib.asynccontextmanager
async def _hung(shop: Shop, service: str) -> AsyncGenerator[None]:
    """All processes of a service are stopped."""
    instances = [process.instance for process in shop.of_service(service)]
    for instance in instances:
        shop.pause(instance)
    try:
        yield
    finally:
        for instance in instances:
            shop.resume(instance)


@contextlib.asynccontextmanager
async def _dead(shop: Shop, service: str) -> AsyncGenerator[None]:
    """All processes of a service are killed, and the runner, which would replace them, is stopped
    meanwhile.
    """
    shop.parent.send_signal(signal.SIGSTOP)
    try:
        killed = {p.instance: shop.kill(p.instance) for p in shop.of_service(service)}
        yield
    finally:
        shop.parent.send_signal(signal.SIGCONT)
    for instance, pid in killed.items():
        await shop.back(instance, pid)


_WAYS = {"hung": _hung, "dead": _dead}


def _between(before: Requests, after: Requests) -> Requests:
    return {service: after[service] - before[service] for service in after}


def _table(normal: Requests, outages: Mapping[str, Requests]) -> str:
    rows = [["requests", *(str(requests.total()) for requests in normal.values())]]
    for away, outage in outages.items():
        cells = [
            f"{outage[name].total() / usual.total():.2f}" if name in outage else "-"
            for name, usual in normal.items()
        ]
        rows.append([away, *cells])
    return table(["", *normal], rows)


def amplified(normal: Requests, outages: Mapping[str, Requests]) -> Iterator[str]:
    """A sentence for each neighbour that got too much, with the operations that grew."""
    for away, outage in outages.items():
        for neighbour, requests in outage.items():
            usual = normal[neighbour]
            if requests.total() > MAX_RATIO * usual.total() + SPARE_REQUESTS:
                grown = (requests - usual).most_common(3)
                how = ", ".join(f"{count} more {operation}" for operation, count in grown)
                yield (
                    f"{neighbour} got {requests.total()} requests, not {usual.total()}, "
                    f"while {away.replace(' ', ' was ')}: {how}"
                )


async def measure(shop: Shop, arguments: argparse.Namespace) -> list[str]:
    """Prints what was measured; gives what is wrong."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        experiment = Experiment(shop, session, arguments)
        normal = await experiment.normal()
        services = arguments.services.split(",") if arguments.services else list(normal)
        outages = {
            f"{service} {way}": await experiment.outage_of(service, way)
            for service in services
            for way in arguments.ways.split(",")
        }
    print(f"\n{_table(normal, outages)}\n")
    return list(amplified(normal, outages))


def main() -> int:
    """Gives the exit status: 1 when a neighbour got too much."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60, help="how long each outage lasts (60)")
    parser.add_argument("--per-second", type=float, default=12, help="customers' visits (12)")
    parser.add_argument("--services", default="", metavar="A,B", help="only these go away")
    parser.add_argument("--ways", default=",".join(_WAYS), metavar="A,B", help="hung, dead or both")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        Shop(Path(folder), environment=ENVIRONMENT, stock=PLENTY) as shop,
    ):
        wrong = asyncio.run(measure(shop, arguments))
    print("\n".join(f"VIOLATION: {each}" for each in wrong) or "no outage spread")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
