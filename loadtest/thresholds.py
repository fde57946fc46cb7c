"""What a run must keep to: no failures, answers in time, enough of them, orders that come through.

Nothing here needs locust, which hands in its figures and asks for the verdict (`locustfile`).
"""

from __future__ import annotations

import math
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

# Steps whose number matters. All steps are named ``group: what``.
CONFIRMED = "checkout: confirmed"
OUT_OF_STOCK = "checkout: out of stock"

# Groups, and how many milliseconds 95 of 100 answers of each may take. Generous: for a shop and a
# load generator that share two cores with other work.
P95_MS: Mapping[str, int] = {
    "pages": 1500,
    "catalogue": 1000,
    "account": 1500,
    "checkout": 3000,
    "orders": 1500,
}


class Entry(Protocol):
    """locust's figures of one step. `response_times` counts answers by milliseconds, rounded."""

    @property
    def name(self) -> str: ...
    @property
    def response_times(self) -> Mapping[int, int]: ...
    @property
    def num_requests(self) -> int: ...
    @property
    def num_failures(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """The thresholds of a run."""

    max_failure_ratio: float
    min_requests: int
    min_confirmed_orders: int
    p95_ms: Mapping[str, int]


class Check(NamedTuple):
    """One threshold, and how the run stands to it."""

    what: str
    measured: str
    limit: str
    is_met: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """All thresholds of a run."""

    checks: Sequence[Check]
    out_of_stock: int

    @property
    def is_met(self) -> bool:
        """Whether the run has kept to all of them."""
        return all(check.is_met for check in self.checks)

    def __str__(self) -> str:
        rows = [("threshold", "measured", "limit", "")]
        rows += [
            (check.what, check.measured, check.limit, "ok" if check.is_met else "MISSED")
            for check in self.checks
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            f"{what:<{widths[0]}}  {measured:>{widths[1]}}  {limit:>{widths[2]}}  {state}".rstrip()
            for what, measured, limit, state in rows
        ]
        missed = sum(not check.is_met for check in self.checks)
        lines.append(f"{missed} of {len(self.checks)} thresholds missed")
        lines.append(
            f"{self.out_of_stock} orders found something out of stock, which is no failure"
        )
        return "\n".join(lines)


def add_options(parser: ArgumentParser) -> None:
    """One option for each threshold."""
    group = parser.add_argument_group("Thresholds; a run that misses one ends with status 1")
    group.add_argument(
        "--max-failure-ratio",
        type=float,
        default=0.0,
        metavar="<ratio>",
        help="Requests that may fail or be answered wrongly, of all requests (0)",
    )
    group.add_argument(
        "--min-requests", type=int, default=200, metavar="<number>", help="Requests (200)"
    )
    group.add_argument(
        "--min-confirmed-orders",
        type=int,
        default=3,
        metavar="<number>",
        help="Orders that are confirmed (3)",
    )
    for name, milliseconds in P95_MS.items():
        group.add_argument(
            f"--p95-{name}-ms",
            type=int,
            default=milliseconds,
            metavar="<ms>",
            help=f"95th percentile of the response times of {name} ({milliseconds})",
        )


def limits_of(options: Namespace) -> Limits:
    """The thresholds that the command line asks for."""
    return Limits(
        max_failure_ratio=options.max_failure_ratio,
        min_requests=options.min_requests,
        min_confirmed_orders=options.min_confirmed_orders,
        p95_ms={name: getattr(options, f"p95_{name}_ms") for name in P95_MS},
    )


def judge(entries: Iterable[Entry], limits: Limits, *, crashes: int) -> Verdict:
    """Holds the figures of a run against its thresholds.

    :param crashes: exceptions that were no failed answers: mistakes in the journey itself.
    :raises KeyError: a step is of no group that has a threshold.
    """
    requests = failures = 0
    succeeded: Counter[str] = Counter()
    times_ms = {name: Counter[int]() for name in limits.p95_ms}
    for entry in entries:
        requests += entry.num_requests
        failures += entry.num_failures
        succeeded[entry.name] += entry.num_requests - entry.num_failures
        times_ms[entry.name.partition(":")[0]].update(entry.response_times)
    ratio, confirmed = failures / max(requests, 1), succeeded[CONFIRMED]
    checks = [
        Check(
            "failures",
            f"{ratio:.2%}",
            f"{limits.max_failure_ratio:.2%}",
            ratio <= limits.max_failure_ratio,
        ),
        Check("crashes of the journey", str(crashes), "0", crashes == 0),
        _at_least("requests", requests, limits.min_requests),
        _at_least("confirmed orders", confirmed, limits.min_confirmed_orders),
    ]
    for name, limit_ms in limits.p95_ms.items():
        p95_ms = percentile(times_ms[name], 0.95)
        measured = "none" if p95_ms is None else f"{p95_ms} ms"
        is_met = p95_ms is None or p95_ms <= limit_ms
        checks.append(Check(f"p95 of {name}", measured, f"{limit_ms} ms", is_met))
    return Verdict(checks, out_of_stock=succeeded[OUT_OF_STOCK])


def percentile(times_ms: Mapping[int, int], fraction: float) -> int | None:
    """The nearest-rank percentile of values that are counted; None when there are none."""
    rank, seen = math.ceil(fraction * sum(times_ms.values())), 0
    for milliseconds in sorted(times_ms):
        seen += times_ms[milliseconds]
        if seen >= rank:
            return milliseconds
    return None


def _at_least(what: str, measured: int, limit: int) -> Check:
    return Check(what, str(measured), f">= {limit}", measured >= limit)
