"""One service or version is slow; students find it without reading code."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

from labs.finding import Finding, judged
from labs.lab import ChartExercise, Lab, LocalExercise
from labs.local import LocalShop
from labs.meshed import MeshedShop
from labs.records import own_milliseconds
from labs.visitor import CATALOGUE, Visitor

_SLOW_MS = 300.0  # the fault adds 500
# On one machine versions take turns, so that even one in a hundred gets two of them.
_CATALOGUE_REQUESTS = 200
_ORDERS = 3


class SlowCanary(LocalExercise):
    """One version of one service is slow."""

    arguments: ClassVar[Sequence[str]] = (
        *("--versions", "product=v1:9,v2:1"),
        *("--slow", "product:v2=500ms"),
    )

    async def solve(self, shop: LocalShop) -> None:
        await shop.start("--versions", "product=v1")

    async def check(self, shop: LocalShop) -> AsyncIterator[Finding]:
        errors = 0
        times_ms: defaultdict[str, list[float]] = defaultdict(list)
        async with shop.visitor() as visitor:
            for _ in range(_CATALOGUE_REQUESTS):
                answer = await visitor.send("GET", CATALOGUE)
                if answer.status != 200 or answer.served is None:
                    errors += 1
                else:
                    times_ms[answer.served.version].append(answer.served.milliseconds)
        yield judged(
            not errors,
            f"{_CATALOGUE_REQUESTS} requests for the catalogue were answered",
            f"{errors} of {_CATALOGUE_REQUESTS} requests for the catalogue failed",
            f"{shop.folder}/logs/product.log: does product run?",
        )
        slowest_ms = max(map(median, times_ms.values()), default=0.0)
        yield judged(
            slowest_ms < _SLOW_MS,
            "each version that answers is quick",
            f"a version that answers for the catalogue takes {slowest_ms:.0f} ms",
            f"{shop.url}/mesh: the share and the p50 of each version",
        )


class SlowService(ChartExercise):
    """One of the services that an order needs is slow."""

    values: ClassVar[Mapping[str, Any]] = {
        "services": {"shipping": {"environment": {"FAULT_LATENCY_SECONDS": "0.5"}}}
    }

    async def check(self, shop: MeshedShop) -> AsyncIterator[Finding]:
        async with shop.visitor() as visitor:
            placed, slow = await slow_calls(visitor)
        yield judged(
            placed == _ORDERS,
            f"{placed} orders were placed",
            f"only {placed} of {_ORDERS} orders were placed",
            f"kubectl -n {shop.where.namespace} get deployments: are all of them ready?",
        )
        yield judged(
            not slow,
            f"no call for an order took more than {_SLOW_MS:.0f} ms, without the calls inside it",
            f"{slow.total()} calls for {_ORDERS} orders took more than {_SLOW_MS:.0f} ms, without "
            "the calls inside them",
            f"https://{shop.where.host}/mesh after an order, or at the foot of the order's page: "
            "How this page was made",
        )


async def slow_calls(visitor: Visitor) -> tuple[int, Counter[str]]:
    """Places orders, up to the first that cannot be placed. Returns how many, and for each service
    the number of its calls that were slow, without the calls inside them.
    """
    placed = 0
    slow: Counter[str] = Counter()
    for _ in range(_ORDERS):
        answer = await visitor.insist()
        if answer.status != 201 or answer.served is None:
            break  # each further one would keep the student waiting for a minute
        placed += 1
        slow.update(call.callee for call in answer.calls if own_milliseconds(call) > _SLOW_MS)
        await visitor.cancel(answer.body["order_id"])
    return placed, slow


HERE = Path(__file__).parent
_PAGE = (
    "Open the mesh page, `/mesh`. Send some traffic first: a version's share means little before "
    "about fifty requests."
)

LAB = Lab(
    HERE,
    local=SlowCanary(),
    meshed=SlowService(HERE),
    hints=(
        _PAGE,
        {
            "local": "Compare the times of the two versions in the large box of `product`.",
            "istio": "Buy something, and unfold *How this page was made* at the foot of the "
            "order's page. Which bar is long, and has no long bar below it?",
            "linkerd": "Buy something, and unfold *How this page was made* at the foot of the "
            "order's page. Which bar is long, and has no long bar below it?",
        },
        {
            "local": "v2 is slow. Stop the shop with `kill -INT PID`, where PID is parent_pid in "
            "`.data/shop.json`. Then start it with `make run`, which runs v1 alone.",
            "istio": "`shipping` has FAULT_LATENCY_SECONDS. `helm upgrade shop helm/ -n ecommerce "
            "--reuse-values --wait --set-string "
            "services.shipping.environment.FAULT_LATENCY_SECONDS=0`",
            "linkerd": "`shipping` has FAULT_LATENCY_SECONDS. `helm upgrade shop helm/ -n "
            "ecommerce --reuse-values --wait --set-string "
            "services.shipping.environment.FAULT_LATENCY_SECONDS=0`",
        },
    ),
)
