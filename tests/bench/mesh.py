"""What a mesh costs: browsing and buying in two shops side by side in one cluster, one in the mesh
and one without, in turns. Needs the cluster of `make test-mesh`; removes both shops. A round's two
halves follow each other closely, so that the ratios hold on a machine that is not always as fast.

Latency is what the client sees. CPU and memory are those of all pods of a shop, its proxies and the
gateway included, the control plane and the sandbox not. The CPU is what requests need beyond what
the same pods need at rest; in it is the registration of the four people who send them.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import itertools
import json
import statistics
import sys
import time
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from services.inventory.seed import read_stock_file
from services.inventory.settings import InventorySettings
from tests.cluster.conftest import BASE_URL
from tests.cluster.release import Release, install, uninstall
from tests.mesh.conftest import MESHES
from tests.mesh.meshed import Mesh, Namespaced, install_certificate
from tests.testkit.cluster import Namespace, run
from tests.testkit.customer import Answer, Client, Customer
from tests.testkit.waiting import wait_until

_CLIENTS = 4
_SAMPLE_PATIENCE_SECONDS = 60.0
_REST_SECONDS = 30.0

Journey = Callable[[Customer, str], Awaitable[Answer]]


@dataclass(slots=True)
class Cost:
    """What requests have cost.

    :ivar seconds: how long each took.
    """

    seconds: list[float] = field(default_factory=list[float])
    cpu_seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.seconds + other.seconds, self.cpu_seconds + other.cpu_seconds)

    def __str__(self) -> str:
        cuts = statistics.quantiles(self.seconds, n=100)
        return (
            f"p50 {1e3 * cuts[49]:6.1f} ms  p99 {1e3 * cuts[98]:7.1f} ms  "
            f"CPU {1000 * self.cpu_per_request:6.2f} s/1,000"
        )

    @property
    def cpu_per_request(self) -> float:
        """In seconds."""
        return self.cpu_seconds / len(self.seconds)

    @property
    def median(self) -> float:
        """Of the seconds."""
        return statistics.median(self.seconds)


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two shops."""

    name: str
    client: Client
    namespace: str
    gateway: Namespaced | None


async def browse(customer: Customer, product: str) -> Answer:
    """The page of one product."""
    return await customer.client.send("GET", f"/products/{product}")


async def checkout(customer: Customer, product: str) -> Answer:
    """An order, paid."""
    return await customer.place({product: 1})


# What a journey's answer is, and how many there are in half a round: some fifteen seconds of them.
JOURNEYS: dict[str, tuple[Journey, int, int]] = {
    "browse": (browse, 200, 800),
    "checkout": (checkout, 201, 100),
}


def main() -> int:
    """Gives the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mesh", choices=("istio", "linkerd"), default="istio")
    parser.add_argument("--rounds", type=int, default=6)
    arguments = parser.parse_args()
    plain = Release(BASE_URL, Namespace("plain"), Namespace("stripe-plain"), "restricted")
    meshed = Release("", enforced="privileged")
    try:
        mesh = MESHES[arguments.mesh](meshed, install_certificate(arguments.mesh))
        return asyncio.run(_measure(plain, mesh, arguments.rounds))
    finally:
        uninstall(plain)
        uninstall(meshed)


async def _measure(plain: Release, mesh: Mesh, rounds: int) -> int:
    for release in (plain, mesh.release):
        uninstall(release)
    install(plain, "--set", f"stripe.sandbox.namespace={plain.stripe.name}")
    install(mesh.release, *mesh.chart_values())
    mesh.apply(*mesh.entry)
    plain.upgrade()
    mesh.release.upgrade()
    mesh.close()
    async with _plain_client(plain) as without, mesh.gateway() as within:
        sides = (
            Side("without", without, plain.namespace.name, gateway=None),
            Side(f"in {mesh.name}", within, mesh.namespace.name, gateway=mesh.way_in),
        )
        meter = await Meter.at_rest(sides)
        costs: dict[str, list[Mapping[str, Cost]]] = {name: [] for name in JOURNEYS}
        for number in range(rounds + 1):
            print(f"round {number} of {rounds}", flush=True)
            for name, kept in costs.items():
                found = await _round(sides[:: -1 if number % 2 else 1], name, meter)
                if number:  # in the first much is done once
                    kept.append(found)
        memory = {side.name: _memory_mib(side) for side in sides}
    for name, kept in costs.items():
        for side in sides:
            print(f"{name:<10}{side.name:<11}{sum((each[side.name] for each in kept), Cost())}")
        pairs = [[each[side.name] for side in sides] for each in kept]
        slower = _spread(within.median / without.median for without, within in pairs)
        busier = _spread(
            within.cpu_per_request / without.cpu_per_request for without, within in pairs
        )
        print(f"{name:<10}{'ratios':<11}p50 {slower}  CPU {busier}")
    for side, mib in memory.items():
        print(f"{'memory':<10}{side:<11}{mib:6.0f} MiB")
    return 0


def _spread(ratios: Iterable[float]) -> str:
    """The median round's, and the smallest and the greatest."""
    ordered = sorted(ratios)
    return f"{statistics.median(ordered):.2f} ({ordered[0]:.2f} to {ordered[-1]:.2f})"


async def _round(sides: Sequence[Side], name: str, meter: Meter) -> Mapping[str, Cost]:
    """The same requests to each side, and what they have cost there."""
    costs: dict[str, Cost] = {}
    for side in sides:
        seconds = await _requests(side, name)
        costs[side.name] = Cost(seconds, meter.cpu_seconds()[side.name])
    return costs


async def _requests(side: Side, name: str) -> list[float]:
    """How long each took, in seconds."""
    journey, expected, requests = JOURNEYS[name]
    products = itertools.cycle(read_stock_file(InventorySettings().stock_file))
    customers = [await Customer.register(side.client) for _ in range(_CLIENTS)]
    seconds: list[float] = []

    async def keep_asking(customer: Customer) -> None:
        for _ in range(requests // _CLIENTS):
            product = next(products)
            began = time.monotonic()
            answer = await journey(customer, product)
            seconds.append(time.monotonic() - began)
            if answer.status != expected:
                raise SystemExit(f"{side.name}, {name} {product}: {answer.status} {answer.text}")

    await asyncio.gather(*(keep_asking(customer) for customer in customers))
    return seconds


@asynccontextmanager
async def _plain_client(release: Release) -> AsyncGenerator[Client]:
    async with aiohttp.ClientSession() as session:
        yield Client(session, release.url)


@dataclass(frozen=True, slots=True)
class Look:
    """What a side's pods have used since they were started.

    :ivar unix_time: when, on the average of the pods.
    """

    cpu_seconds: float
    unix_time: float


class Meter:
    """What the pods of some sides use beyond what they use at rest."""

    def __init__(self, sides: Sequence[Side], last: Mapping[str, Look]) -> None:
        self._sides = sides
        self._last = last
        self._cpus_at_rest = dict.fromkeys(last, 0.0)

    @classmethod
    async def at_rest(cls, sides: Sequence[Side]) -> Meter:
        """Looks on for a while, in which nobody may ask them anything."""
        meter = cls(sides, _look(sides))
        began = meter._last
        await asyncio.sleep(_REST_SECONDS)
        used = meter.cpu_seconds()
        for name, look in meter._last.items():
            elapsed_seconds = look.unix_time - began[name].unix_time
            meter._cpus_at_rest[name] = used[name] / elapsed_seconds
            print(f"{'at rest':<10}{name:<11}{1000 * meter._cpus_at_rest[name]:.0f} mCPU")
        return meter

    def cpu_seconds(self) -> Mapping[str, float]:
        """Of each side, since this was asked last."""
        last, self._last = self._last, _look(self._sides)
        return {
            name: look.cpu_seconds
            - last[name].cpu_seconds
            - self._cpus_at_rest[name] * (look.unix_time - last[name].unix_time)
            for name, look in self._last.items()
        }


def _look(sides: Iterable[Side]) -> Mapping[str, Look]:
    """A look at every side that begins now."""
    asked = time.time()

    def look() -> Mapping[str, Look] | None:
        looks: dict[str, Look] = {}
        for side in sides:
            pods = [pod["cpu"] for pod in _pods_of(side)]
            times = [_unix_time(cpu["time"]) for cpu in pods]
            if min(times) < asked:
                return None
            used = sum(cpu["usageCoreNanoSeconds"] for cpu in pods) / 1e9
            looks[side.name] = Look(used, statistics.mean(times))
        return looks

    return wait_until(look, "the kubelet has looked at every pod", _SAMPLE_PATIENCE_SECONDS)


def _memory_mib(side: Side) -> float:
    """The working set of the side's pods."""
    return sum(pod["memory"]["workingSetBytes"] for pod in _pods_of(side)) / 2**20


def _pods_of(side: Side) -> Iterator[Any]:
    for pod in _pods():
        namespace, name = pod["podRef"]["namespace"], pod["podRef"]["name"]
        is_gateway = side.gateway and Namespaced(namespace, name.rsplit("-", 2)[0]) == side.gateway
        has_ended = "usageCoreNanoSeconds" not in pod.get("cpu", {})
        if (namespace == side.namespace or is_gateway) and not has_ended:
            yield pod


def _pods() -> Iterator[Any]:
    for node in json.loads(run("kubectl", "get", "nodes", "-o", "json"))["items"]:
        path = f"/api/v1/nodes/{node['metadata']['name']}/proxy/stats/summary"
        yield from json.loads(run("kubectl", "get", "--raw", path))["pods"]


def _unix_time(text: str) -> float:
    """``2026-11-27T01:02:03Z``."""
    return datetime.datetime.fromisoformat(text).timestamp()


if __name__ == "__main__":
    sys.exit(main())
