"""One step of an order is slow, and one service logs nothing about its part."""

from __future__ import annotations

import json
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from labs.errors import LabError
from labs.finding import Finding, judged, right, wrong
from labs.lab import ChartExercise, Lab
from labs.meshed import MeshedShop
from labs.records import own_milliseconds
from labs.visitor import CATALOGUE, Answer, Visitor
from labs.waiting import eventually

_ORDERS = 4
# The fault adds 800. The quickest of several orders is not slowed down by chance.
_SLOW_MS = 300.0
# Those that an order waits for.
_SERVICES = frozenset({"order", "user", "product", "inventory", "payment", "shipping"})
_LOG_SECONDS = 8.0


class Placed(NamedTuple):
    """What some orders have shown.

    :ivar traces: their trace ids, one for each that was placed.
    :ivar orders_ms: the time of the slowest step of an order: of each step the shortest time,
        without the calls inside it.
    :ivar catalogue_ms: the same of the catalogue.
    """

    traces: list[str]
    orders_ms: float
    catalogue_ms: float


class OneTrace(ChartExercise):
    """All of it is in the chart: both meshes carry traces in the same way."""

    values: ClassVar[Mapping[str, Any]] = {
        "services": {
            "inventory": {
                "environment": {
                    "FAULT_LATENCY_SECONDS": "0.8",
                    "FAULT_OPERATIONS": "InventoryService/Commit",
                }
            },
            "shipping": {"environment": {"LOG_LEVEL": "error"}},
        }
    }

    async def check(self, shop: MeshedShop) -> AsyncIterator[Finding]:
        async with shop.visitor() as visitor:
            placed = await _orders(visitor)
        yield judged(
            len(placed.traces) == _ORDERS,
            f"{_ORDERS} orders were placed",
            f"only {len(placed.traces)} of {_ORDERS} orders were placed",
            f"kubectl -n {shop.where.namespace} get deployments: are all of them ready?",
        )
        yield judged(
            placed.orders_ms < _SLOW_MS,
            f"no step of an order takes more than {_SLOW_MS:.0f} ms, without the calls inside it",
            f"one step of each order takes {placed.orders_ms:.0f} ms or more, without the calls "
            "inside it",
            "the record of an order, as README.md prints it: which step is always slow?",
        )
        yield judged(
            placed.catalogue_ms < _SLOW_MS,
            f"no call for the catalogue takes more than {_SLOW_MS:.0f} ms, without the calls "
            "inside it",
            f"one call for the catalogue takes {placed.catalogue_ms:.0f} ms or more: the fault has "
            "moved",
            "the environment of the service that was slow: which of its RPCs is slow now?",
        )
        if placed.traces:
            yield await _logged(shop, placed.traces)
        yield await shop.audit()


async def _orders(visitor: Visitor) -> Placed:
    """Places orders, each in a trace of its own that is to be kept, up to the first that fails."""
    traces: list[str] = []
    orders, catalogue = _Times(), _Times()
    for _ in range(_ORDERS):
        catalogue.add(await visitor.send("GET", CATALOGUE))
        trace = secrets.token_hex(16)
        headers = {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"}
        answer = await visitor.insist(headers=headers)
        if answer.status != 201 or answer.served is None:
            break  # each further one would keep the student waiting for a minute
        traces.append(trace)
        orders.add(answer)
        await visitor.cancel(answer.body["order_id"])
    return Placed(traces, orders.slowest_ms, catalogue.slowest_ms)


class _Times:
    """The milliseconds of calls, without the calls inside them, by callee and operation."""

    def __init__(self) -> None:
        self._by_step: defaultdict[tuple[str, str], list[float]] = defaultdict(list)

    def add(self, answer: Answer) -> None:
        """Adds the calls that were made for an answer."""
        for call in answer.calls:
            self._by_step[call.callee, call.operation].append(own_milliseconds(call))

    @property
    def slowest_ms(self) -> float:
        """The longest of the shortest times."""
        return max(map(min, self._by_step.values()), default=0.0)


async def _logged(shop: MeshedShop, traces: Sequence[str]) -> Finding:
    """Whether the logs of all services that had a part in some orders have their traces: one of
    several pods may be silent.
    """
    silent, cut = _SERVICES, traces[-1]

    async def are_whole() -> bool:
        nonlocal silent, cut
        telling = await _telling(shop, traces)
        missing = {trace: names for trace in traces if (names := _SERVICES - telling[trace])}
        silent = frozenset[str]().union(*missing.values())
        cut = next(reversed(missing), cut)
        return not silent

    look = (
        f"kubectl -n {shop.where.namespace} get deployments -o yaml: which LOG_LEVEL do they have "
        "(docs/observability.md)?"
    )
    try:
        await eventually(are_whole, "the logs have all traces", _LOG_SECONDS, poll_seconds=1)
    except LabError:
        names = ", ".join(sorted(silent))
        return wrong(f"the trace {cut} is not complete: its id is in no log of {names}", look)
    return right(
        f"the logs of all {len(_SERVICES)} services have {len(traces)} traces, such as {cut}"
    )


async def _telling(shop: MeshedShop, traces: Sequence[str]) -> Mapping[str, set[str]]:
    """The services in whose logs a trace id stands, by trace id."""
    said = await shop.kubectl(
        *("logs", "--selector", "app.kubernetes.io/part-of=meshmart", "--all-containers"),
        *("--tail=-1", "--since=60s", "--max-log-requests=100"),
    )
    telling: defaultdict[str, set[str]] = defaultdict(set)
    for line in said.splitlines():
        for trace in traces:
            if trace in line and line.startswith("{"):
                service = str(json.loads(line).get("service")).removesuffix("-service")
                telling[trace].add(service)
    return telling


LAB = Lab(
    Path(__file__).parent,
    meshed=OneTrace(Path(__file__).parent),
    hints=(
        "There are two faults: a step that is slow in each order, and a service that logs nothing "
        "about its part. Buy with your own traceparent, as README.md does. Then look at the record "
        "of the answer, and at the logs with that trace id.",
        "The slow step is one RPC of one service. The service's other RPCs are quick, so its "
        "average hides the slow one. The silent service does log errors: what is its LOG_LEVEL?",
        "inventory has FAULT_LATENCY_SECONDS for InventoryService/Commit, and shipping has "
        "LOG_LEVEL=error. `helm upgrade shop helm/ -n ecommerce --reuse-values --wait --set-string "
        "services.inventory.environment.FAULT_LATENCY_SECONDS=0,"
        "services.shipping.environment.LOG_LEVEL=info`",
    ),
)
