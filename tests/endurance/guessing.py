"""Whether customers notice that somebody guesses passwords: they log in, buy and log out again and
again, first in peace, then under attack.

``python -m tests.endurance.guessing --seconds 60``

Each party has a network of its own, by its loopback address (so this is for Linux). One attacker
tries random addresses, one the first customer's. The first customer comes in a new browser each
time. The second one shares the attackers' network, and comes in the browser of before; their
address is guessed at from there, too. Fails when a customer is not let in, or the attackers get
more guesses than the limits leave them.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import math
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from services.auth.model.attempts import FAILURES_WINDOW_MS, FREE_ATTEMPTS
from services.auth.settings import AuthSettings
from tests.endurance.measure import table
from tests.endurance.traffic import PLENTY, open_loop
from tests.testkit.customer import Client, Person
from tests.testkit.shop import Shop
from tests.testkit.visitor import Visitor

MIN_GUESSES_PER_SECOND = 25.0
MAX_LOG_IN_SECONDS = 4.0

_ADAS_NETWORK, _ATTACKERS_NETWORK, _OTHER_NETWORK = "127.0.0.1", "127.0.0.2", "127.0.0.3"
_SPREAD_PER_SECOND = 30.0
_AIMED_PER_SECOND = 10.0
_WRONG = "wrong horse battery"
_BOARD = "oak-serving-board"
_SETTINGS = AuthSettings()
# What the testkit makes cheap and wide is here as in production.
ENVIRONMENT = {
    name.upper(): str(getattr(_SETTINGS, name))
    for name in (
        "password_hash_memory_kib",
        "password_hash_iterations",
        "password_hash_queue",
        "login_failures_per_minute",
    )
}


class ReturningCustomer:
    """A customer who comes, buys and leaves.

    :param network: the loopback address that they come from.
    :param keeps_browser: come in one browser, not in a new one each time.
    """

    def __init__(self, shop: Shop, network: str, *, keeps_browser: bool) -> None:
        self.person = Person()
        self.log_in_seconds: list[float] = []
        self.refusals: list[str] = []
        self._shop = shop
        self._network = network
        self._own = self._browser() if keeps_browser else None

    async def register(self) -> None:
        """Opens the account."""
        async with self._browsing() as visitor:
            await visitor.register(self.person)
            await visitor.log_out()

    async def buy(self) -> None:
        """From the log-in to the log-out."""
        async with self._browsing() as visitor:
            started = time.perf_counter()
            page = await visitor.log_in(self.person)
            if page.status != 200:
                self.refusals.append(f"{page.status} at {page.path}")
                return
            self.log_in_seconds.append(time.perf_counter() - started)
            await visitor.add_to_cart(_BOARD)
            page = await visitor.pay()
            if not page.path.startswith("/orders/"):
                self.refusals.append(f"{page.status} at {page.path}")
            await visitor.log_out()

    async def close(self) -> None:
        """Closes the browser that they keep."""
        if self._own is not None:
            await self._own.close()

    def _browser(self) -> Visitor:
        return Visitor(self._shop.url, source_address=self._network)

    @asynccontextmanager
    async def _browsing(self) -> AsyncGenerator[Visitor]:
        if self._own is not None:
            yield self._own
            return
        async with self._browser() as visitor:
            yield visitor


@dataclass(slots=True)
class Attacker:
    """Somebody who sends wrong passwords and does not wait for the answers.

    :param address: the e-mail address to try next.
    """

    client: Client
    per_second: float
    address: Callable[[], str]
    statuses: Counter[int] = field(default_factory=Counter[int])

    async def guess(self, _: int) -> None:
        """One wrong log-in."""
        body = {"email": self.address(), "password": _WRONG}
        answer = await self.client.send("POST", "/api/auth/login", json=body)
        self.statuses[answer.status] += 1


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of the attack."""

    seconds: float
    shoppers: Mapping[str, ReturningCustomer]
    attackers: Mapping[str, Attacker]

    def wrong(self) -> Iterator[str]:
        """A sentence for each thing that is not as it should be."""
        for name, shopper in self.shoppers.items():
            if shopper.refusals:
                yield f"{name} was refused: {shopper.refusals}"
            if not shopper.log_in_seconds:
                yield f"{name} never logged in"
            elif max(shopper.log_in_seconds) > MAX_LOG_IN_SECONDS:
                yield f"{name} waited {max(shopper.log_in_seconds):.1f} s to be let in"
        minutes = math.ceil(self.seconds * 1000 / FAILURES_WINDOW_MS) + 1
        # What is being looked at when the limit is reached is looked at to its end.
        spare = _SETTINGS.password_hash_threads
        limits = {
            "spread": minutes * _SETTINGS.login_failures_per_minute + spare,
            "aimed": minutes * 2 + FREE_ATTEMPTS,  # pauses begin with half a minute, and double
            "next door": minutes * 2 + FREE_ATTEMPTS,
        }
        for name, attacker in self.attackers.items():
            if attacker.statuses[401] > limits[name]:
                yield f"{name}: {attacker.statuses[401]} guesses, not {limits[name]}"
            # A machine that is slow may let an attacker wait for nothing.
            if set(attacker.statuses) - {401, 429, 503, 504}:
                yield f"{name}: {dict(attacker.statuses)}"
        sent = self.attackers["spread"].statuses.total()
        if sent < MIN_GUESSES_PER_SECOND * self.seconds:
            yield f"only {sent} wrong log-ins in {self.seconds:g} s: that is no attack"


async def _repeat(shoppers: Mapping[str, ReturningCustomer], until: Callable[[], bool]) -> None:
    async def shop_on(shopper: ReturningCustomer) -> None:
        while not until():
            await shopper.buy()

    await asyncio.gather(*(shop_on(shopper) for shopper in shoppers.values()))


async def _under(attackers: Mapping[str, Attacker], seconds: float, work: Awaitable[None]) -> None:
    attacks = (
        open_loop(attacker.guess, per_second=attacker.per_second, seconds=seconds, seed=seed)
        for seed, attacker in enumerate(attackers.values())
    )
    await asyncio.gather(*attacks, work)


def _row(name: str, shopper: ReturningCustomer) -> list[str]:
    times = shopper.log_in_seconds
    return [
        name,
        str(len(times)),
        f"{1000 * statistics.median(times):.0f} ms" if times else "-",
        f"{1000 * max(times, default=0):.0f} ms",
        str(len(shopper.refusals)),
    ]


async def measure(shop: Shop, seconds: float) -> list[str]:
    """Prints what was measured; gives what is wrong.

    :param seconds: how long the attack lasts; before it, there are as many calm ones.
    """
    async with AsyncExitStack() as stack:

        async def client(network: str) -> Client:
            connector = aiohttp.TCPConnector(limit=0, local_addr=(network, 0))
            session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
            return Client(session, shop.url)

        def shopper(network: str, *, keeps_browser: bool) -> ReturningCustomer:
            made = ReturningCustomer(shop, network, keeps_browser=keeps_browser)
            stack.push_async_callback(made.close)
            return made

        def pair() -> dict[str, ReturningCustomer]:
            return {
                "a new browser": shopper(_ADAS_NETWORK, keeps_browser=False),
                "a known browser next door": shopper(_ATTACKERS_NETWORK, keeps_browser=True),
            }

        calm, attacked = pair(), pair()
        await asyncio.gather(*(each.register() for each in (*calm.values(), *attacked.values())))
        until = time.monotonic() + seconds
        await _repeat(calm, lambda: time.monotonic() > until)

        ada, grace = (each.person.email for each in attacked.values())
        anybody = (Person().email for _ in itertools.count())
        attackers = {
            "spread": Attacker(
                await client(_ATTACKERS_NETWORK), _SPREAD_PER_SECOND, lambda: next(anybody)
            ),
            "aimed": Attacker(await client(_OTHER_NETWORK), _AIMED_PER_SECOND, lambda: ada),
            "next door": Attacker(
                await client(_ATTACKERS_NETWORK), _AIMED_PER_SECOND, lambda: grace
            ),
        }
        ends = time.monotonic() + seconds
        await _under(attackers, seconds, _repeat(attacked, lambda: time.monotonic() > ends))

    rows = [
        *(_row(f"{name}, in peace", each) for name, each in calm.items()),
        *(_row(f"{name}, attacked", each) for name, each in attacked.items()),
    ]
    print(f"\n{table(['', 'log-ins', 'median', 'longest', 'refused'], rows)}\n")
    for name, attacker in attackers.items():
        print(f"{name}: {attacker.statuses.total() / seconds:.1f}/s, {dict(attacker.statuses)}")
    return list(Measured(seconds, attacked, attackers).wrong())


def main() -> int:
    """Gives the exit status: 1 when a customer noticed anything."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60, help="how long the attack lasts (60)")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        Shop(Path(folder), environment=ENVIRONMENT, stock=PLENTY) as shop,
    ):
        wrong = asyncio.run(measure(shop, arguments.seconds))
    print("\n".join(f"VIOLATION: {each}" for each in wrong) or "the customers noticed nothing")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
