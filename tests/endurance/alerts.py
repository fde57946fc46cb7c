"""Whether the alerts that are shipped tell what is wrong, that alone, and no longer than it is: an
outage of payment, a version that fails, and an order that hangs, before a real Prometheus.

``python -m tests.endurance.alerts`` takes a quarter of an hour, as the rules wait that long.
``--pace 10`` is the same ten times faster: the windows and patience of the rules, the intervals of
Prometheus and the shop's own give-up time.

The shops have three days of good business behind them, so that what happens now is weighed as in a
shop that has been open for a while.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import yaml

from services.common.topology import load_topology
from tests.endurance.traffic import PLENTY
from tests.testkit.customer import Answer, Client, Customer
from tests.testkit.prometheus import Counted, Prometheus, Target
from tests.testkit.shop import Shop
from tests.testkit.waiting import eventually

FOLDER = Path(__file__).parents[2] / "observability" / "prometheus" / "rules"
PROGRAMS = ("prometheus", "promtool")

_BOARD = {"oak-serving-board": 1}
_PAST_SECONDS = 3 * 86400.0
_PAST_ORDERS_PER_SECOND = 0.5
_PAST_PAGES_PER_SECOND = 5.0
_BETWEEN_SECONDS = 0.5
_SCRAPE_SECONDS = 10.0  # as the shipped Prometheus
_GIVE_UP_SECONDS = 60.0  # as the shipped shop
# Until the slowest of what is awaited has fired, and until the last one has resolved.
_FIRES_SECONDS, _RESOLVES_SECONDS = 900.0, 900.0
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_WINDOW = re.compile(r"\[(\d+[smhd])\]")
_FOR = re.compile(r"(?<=for: )\d+[smhd]$", re.MULTILINE)
_AGE = re.compile(r"(?<=_unfinished_seconds\) > )\d+")


@dataclass(frozen=True, slots=True)
class ShopFault:
    """Something that goes wrong in a shop of its own.

    :ivar alerts: those that must fire, and no others.
    :ivar begin: lets it go wrong.
    :ivar end: mends it.
    :ivar arguments: what the shop is started with.
    :ivar is_shared: others buy, too, while it goes wrong.
    """

    alerts: frozenset[str]
    begin: Callable[[Shop, Client], Awaitable[None]]
    end: Callable[[Shop], None]
    arguments: Sequence[str] = ()
    is_shared: bool = True


async def _payment_leaves(shop: Shop, _: Client) -> None:
    shop.pause("payment")


async def _an_order_hangs(shop: Shop, client: Client) -> None:
    """It is paid, on a slow machine a little later, and its customer cannot be told."""
    customer = await Customer.register(client)
    shop.pause("notification")
    answer = await customer.place(_BOARD)
    assert answer.status in {201, 202}, answer


_VERSIONS = ("--versions", "product=v1:3,v2:1")


async def _nothing_more(_: Shop, __: Client) -> None:
    """It goes wrong from the start."""


FAULTS: Mapping[str, ShopFault] = {
    "an outage of payment": ShopFault(
        frozenset({"CheckoutFailing", "CircuitOpen"}),
        _payment_leaves,
        lambda shop: shop.resume("payment"),
    ),
    "an order that hangs": ShopFault(
        frozenset({"OrderStuck", "CircuitOpen"}),
        _an_order_hangs,
        lambda shop: shop.resume("notification"),
        is_shared=False,
    ),
    "a version that fails": ShopFault(
        frozenset({"VersionFails"}),
        _nothing_more,
        lambda shop: shop.restart(*_VERSIONS),
        arguments=(*_VERSIONS, "--fail", "product:v2=20%"),
    ),
}


def at_pace(rules: str, pace: float) -> Any:
    """What a file of rules says, with all its times divided."""
    faster = _WINDOW.sub(lambda found: f"[{_faster(found[1], pace)}]", rules)
    faster = _FOR.sub(lambda found: _faster(found[0], pace), faster)
    return yaml.safe_load(_AGE.sub(lambda found: f"{float(found[0]) / pace:g}", faster))


def _faster(duration: str, pace: float) -> str:
    return f"{round(int(duration[:-1]) * _UNITS[duration[-1]] / pace * 1000)}ms"


class Watch:
    """What fires in the shops.

    :ivar fired: what has fired at some time, by shop.
    """

    def __init__(self, prometheus: Prometheus) -> None:
        self.fired: dict[str, set[str]] = {name: set() for name in FAULTS}
        self.prometheus = prometheus
        self._last: dict[str, set[str]] = {}
        self._began = time.monotonic()

    async def until(self, name: str, wanted: Set[str], within_seconds: float) -> None:
        """Until in that shop all of this fires, and nothing else.

        :raises AssertionError: it does not; says what was wanted and what fired.
        """

        async def is_so() -> bool:
            firing = {
                labels["alertname"]
                for labels in await self.prometheus.firing()
                # Who sums over all namespaces cannot say whose it is: then it is everybody's.
                if labels.get("namespace", name) == name
            }
            if firing != self._last.get(name, set()):
                after_seconds = time.monotonic() - self._began
                told = ", ".join(sorted(firing)) or "all is well"
                print(f"  {after_seconds:6.1f} s  {name}: {told}", flush=True)
            self._last[name] = firing
            self.fired[name] |= firing
            return firing == wanted

        what = f"{name}: {sorted(wanted) or 'nothing'} fires"
        try:
            await eventually(is_so, what, within_seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}, but {sorted(self._last[name])}") from None


async def measure(folder: Path, pace: float) -> Mapping[str, set[str]]:
    """Lets each thing go wrong in a shop of its own until its alerts fire, and mends it. Gives what
    has fired, by shop.

    :raises AssertionError: an alert did not fire, or did not resolve.
    """
    rules = [
        at_pace(file.read_text(encoding="utf-8"), pace) for file in sorted(FOLDER.glob("*.yaml"))
    ]
    with contextlib.ExitStack() as stack:
        shops: dict[str, Shop] = {}
        for number, (name, fault) in enumerate(FAULTS.items()):
            shops[name] = stack.enter_context(
                Shop(
                    folder / f"shop-{number}",
                    *fault.arguments,
                    environment={"ORDER_GIVE_UP_SECONDS": f"{_GIVE_UP_SECONDS / pace:g}"},
                    stock=PLENTY,
                )
            )
        prometheus = Prometheus(
            folder / "prometheus", rules, interval_seconds=_SCRAPE_SECONDS / pace
        )
        prometheus.read(_targets(shops))
        past = [counted for name in shops for counted in _good_business(name)]
        prometheus.remember(past, seconds=_PAST_SECONDS / pace, step_seconds=600 / pace)
        stack.enter_context(prometheus)
        watch = Watch(prometheus)
        async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as tasks:
            for name in shops:
                tasks.create_task(_go_wrong_and_mend(name, shops, http, watch, pace))
        return watch.fired


async def _go_wrong_and_mend(
    name: str, shops: Mapping[str, Shop], http: aiohttp.ClientSession, watch: Watch, pace: float
) -> None:
    fault, shop = FAULTS[name], shops[name]
    crowd = asyncio.create_task(_crowd(http, shop, buys=fault.is_shared))
    try:
        await fault.begin(shop, Client(http, shop.url))
        try:
            await watch.until(name, fault.alerts, _FIRES_SECONDS / pace)
        finally:
            await asyncio.to_thread(fault.end, shop)
        watch.prometheus.read(_targets(shops))
        await watch.until(name, frozenset(), _RESOLVES_SECONDS / pace)
    finally:
        crowd.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await crowd


async def _crowd(http: aiohttp.ClientSession, shop: Shop, *, buys: bool) -> None:
    """Every half second somebody looks at a page, and somebody buys, until cancelled. Nobody waits
    for the one before.
    """
    customer = await Customer.register(Client(http, shop.url))
    async with asyncio.TaskGroup() as visits:
        while True:
            customer.client = Client(http, shop.url) if shop.is_open else customer.client
            visits.create_task(_visit(customer.client.send("GET", "/products/oak-serving-board")))
            if buys:
                visits.create_task(_visit(customer.place(_BOARD)))
            await asyncio.sleep(_BETWEEN_SECONDS)


async def _visit(visit: Awaitable[Answer]) -> None:
    """Whoever comes while the shop is restarted goes away again."""
    with contextlib.suppress(aiohttp.ClientError):
        await visit


def _targets(shops: Mapping[str, Shop]) -> list[Target]:
    services = load_topology().services
    return [
        Target(
            urlsplit(process.internal_url).netloc,
            {
                "namespace": name,
                "app": services[process.service].workload,
                "version": process.instance,
            },
        )
        for name, shop in shops.items()
        if shop.is_open  # another one may be starting again
        for process in shop.processes()
        if process.service in services
    ]


def _good_business(name: str) -> list[Counted]:
    """Without an error. Less was bought than now, and more was looked at."""
    page = {
        "namespace": name,
        "protocol": "http",
        "operation": "GET /products/{product_id}",
        "status": "200",
    }
    return [
        Counted(
            "meshmart_checkouts_total", {"namespace": name, "reason": ""}, _PAST_ORDERS_PER_SECOND
        ),
        Counted("meshmart_request_seconds_count", page, _PAST_PAGES_PER_SECOND),
        Counted("meshmart_request_seconds_bucket", {**page, "le": "1.0"}, _PAST_PAGES_PER_SECOND),
    ]


def main() -> int:
    """Gives the exit status: 1 when an alert does not fire, fires wrongly, or does not resolve."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pace", type=float, default=1.0, help="how many times faster (1)")
    arguments = parser.parse_args()
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        parser.error(f"not on the PATH: {', '.join(missing)}")
    with tempfile.TemporaryDirectory() as name:
        try:
            fired = asyncio.run(measure(Path(name), arguments.pace))
        except* AssertionError as missed:
            fired = dict[str, set[str]]()
            for error in missed.exceptions:
                print(f"VIOLATION: {error}")
    return int(not is_exact(fired))


def is_exact(fired: Mapping[str, Set[str]]) -> bool:
    """Whether in each shop all of its alerts fired, and none else; prints what did else."""
    for name, alerts in fired.items():
        if superfluous := alerts - FAULTS[name].alerts:
            print(f"VIOLATION: {name}: {sorted(superfluous)} fired")
    return fired == {name: fault.alerts for name, fault in FAULTS.items()}


if __name__ == "__main__":
    sys.exit(main())
