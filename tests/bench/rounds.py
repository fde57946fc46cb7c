"""Interleaved rounds: each journey through each side in turn, so that other work on the machine
affects all of them alike.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tests.bench.journeys import ShopJourney
from tests.bench.load import Load, LoadGenerator
from tests.bench.meter import CpuMeter

GENERATOR = "(load generator)"
# Processes that stand for other people's computers: shown, but no part of the shop's CPU time.
OUTSIDE = frozenset({GENERATOR, "stripe"})
_WARM_UP_SECONDS = 0.3
_REST_SECONDS = 3.0
_REST_LOOKS = 3


@dataclass(frozen=True, slots=True)
class MeasuredSide:
    """One side of a comparison: a shop, or the floor.

    :ivar pids: by service; the sandbox's as ``stripe``.
    """

    name: str
    url: str
    pids: Mapping[str, int]
    journeys: Mapping[str, ShopJourney]


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one journey in one round.

    :ivar cpu_ms: the CPU time per request, by service.
    :ivar rate: requests per second in the closed loop.
    :ivar latencies_ms: at half of that rate, by the clock; empty where they are not measured.
    """

    cpu_ms: Mapping[str, float]
    rate: float
    latencies_ms: Sequence[float] = ()

    @property
    def total_cpu_ms(self) -> float:
        """The CPU time per request of the side's own services."""
        return sum(ms for name, ms in self.cpu_ms.items() if name not in OUTSIDE)


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of several rounds, and their quartiles."""

    low: float
    median: float
    high: float


@dataclass(slots=True)
class Findings:
    """All rounds' figures, by journey and side."""

    figures: dict[tuple[str, str], list[Figures]] = field(
        default_factory=dict[tuple[str, str], list[Figures]]
    )

    def add(self, journey: str, side: str, found: Figures) -> None:
        """Adds the figures of a round."""
        self.figures.setdefault((journey, side), []).append(found)

    def cpu_ms(self, journey: str, side: str) -> Spread:
        """Returns the CPU time per request of all the side's services."""
        return spread([found.total_cpu_ms for found in self.figures[journey, side]])

    def cpu_ms_by_service(self, journey: str, side: str) -> Mapping[str, float]:
        """Returns the median CPU time per request of each process."""
        found = self.figures[journey, side]
        return {
            name: statistics.median(each.cpu_ms[name] for each in found) for name in found[0].cpu_ms
        }

    def rate(self, journey: str, side: str) -> Spread:
        """Returns the requests per second of the closed loop."""
        return spread([found.rate for found in self.figures[journey, side]])

    def latency_ms(self, journey: str, side: str, percent: int) -> Spread:
        """Returns a percentile of the latencies at half of the capacity."""
        return spread(
            [percentile(found.latencies_ms, percent) for found in self.figures[journey, side]]
        )

    def cpu_ratio(self, journey: str, side: str, to: str) -> Spread:
        """Returns the CPU time as a multiple of another side's, round by round, since the speed of
        the machine varies. Leaves out rounds in which the other side seems to use no CPU time, as
        it may on a very busy machine.

        :raises ValueError: no round is left.
        """
        pairs = zip(self.figures[journey, side], self.figures[journey, to], strict=True)
        ratios = [
            one.total_cpu_ms / other.total_cpu_ms for one, other in pairs if other.total_cpu_ms
        ]
        if not ratios:
            raise ValueError(
                f"{to} seems to use no CPU time for {journey}: the machine is too busy"
            )
        return spread(ratios)


def spread(values: Sequence[float]) -> Spread:
    """Returns the median and the quartiles; three times the value if there is only one."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(low, median, high)


def percentile(values: Sequence[float], percent: int) -> float:
    """Returns the nearest-rank percentile.

    :raises ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def measure(
    sides: Sequence[MeasuredSide],
    sending: LoadGenerator,
    *,
    rounds: int,
    seconds: float,
    connections: int,
    with_latencies: Collection[str],
    say: Callable[[str], None],
) -> Findings:
    """Measures all journeys through all sides.

    :param seconds: how long each load takes.
    :param with_latencies: the names of the sides whose latencies at half of their capacity are
        measured, too, under a second load.
    :raises WrongAnswer: of :mod:`tests.bench.load`.
    """
    for name, side in itertools.product(sides[0].journeys, sides):
        sending.send(_load(side, name, connections, _WARM_UP_SECONDS))
    meters = _meters(sides, sending.pid)  # when the work of the start and of first requests is done
    findings = Findings()
    for number in range(1, rounds + 1):
        say(f"round {number} of {rounds}")
        for name in sides[0].journeys:
            for side in sides[:: -1 if number % 2 else 1]:
                load = _load(side, name, connections, seconds)
                has_latencies = side.name in with_latencies
                found = _figures(meters[side.name], sending, load, has_latencies=has_latencies)
                findings.add(name, side.name, found)
    return findings


def _meters(sides: Sequence[MeasuredSide], generator_pid: int) -> Mapping[str, CpuMeter]:
    resting = {side.name: CpuMeter(side.pids) for side in sides}
    for meter in resting.values():
        meter.wait_quiet()
        meter.used_seconds()
    looks: dict[str, list[Mapping[str, float]]] = {name: [] for name in resting}
    for _ in range(_REST_LOOKS):
        time.sleep(_REST_SECONDS / _REST_LOOKS)
        for name, meter in resting.items():
            looks[name].append(meter.cpus_at_rest())
    return {
        side.name: CpuMeter({**side.pids, GENERATOR: generator_pid}, _usual(looks[side.name]))
        for side in sides
    }


def _usual(looks: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    """Returns the median of several looks, so that a single burst of work is not taken for rest."""
    return {name: statistics.median(look[name] for look in looks) for name in looks[0]}


def _load(side: MeasuredSide, name: str, connections: int, seconds: float) -> Load:
    return Load(side.url, side.journeys[name].requests, connections, seconds)


def _figures(
    meter: CpuMeter, sending: LoadGenerator, load: Load, *, has_latencies: bool
) -> Figures:
    meter.used_seconds()
    sent = sending.send(load)
    meter.wait_quiet()  # work after the answers belongs to them
    used = meter.used_seconds()
    requests = len(sent.latencies_seconds)
    cpu_ms = {process: 1e3 * cpu / requests for process, cpu in used.items()}
    if not has_latencies:
        return Figures(cpu_ms, sent.rate)
    at_half = sending.send(replace(load, rate=sent.rate / 2))
    meter.wait_quiet()
    latencies_ms = [1e3 * latency for latency in at_half.latencies_seconds]
    return Figures(cpu_ms, sent.rate, latencies_ms)
