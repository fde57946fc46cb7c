"""Checks in about a minute that the shop has not become slower: compares each journey's number of
calls and writes, and its CPU time as a multiple of the floor's, with limits.yaml.

A time would depend on the machine; the ratio hardly does, since both sides run on it in turns.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter

from tests.bench.floor.plan import Plan
from tests.bench.journeys import NAMES
from tests.bench.load import generator
from tests.bench.meter import needs_linux
from tests.bench.rounds import Findings, MeasuredSide, Spread, measure
from tests.bench.shops import TOPOLOGY
from tests.bench.sides import FLOOR, opened_sides
from tests.endurance.measure import table

LIMITS = Path(__file__).with_name("limits.yaml")
_CONNECTIONS = 8
# For a machine that does much else: there a floor that is cheap varies most.
_HEADROOM = 1.5
# Other work on the machine can make a short load look like a slower shop, a long one hardly.
_LONGER = 5


class JourneyLimits(BaseModel):
    """The limits of one journey.

    :ivar measured: the ratio when the limit was set.
    :ivar ratio: the highest ratio of the CPU time to the floor's.
    :ivar calls: the exact number for one request, through all services.
    :ivar writes: the same.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    measured: float
    ratio: float
    calls: int
    writes: int


def read_limits(file: Path = LIMITS) -> Mapping[str, JourneyLimits]:
    """Returns the limits of all journeys, by name.

    :raises ValueError: the file is wrong, or a journey is missing in it or unknown.
    """
    raw = yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    limits = TypeAdapter(dict[str, JourneyLimits]).validate_python(raw)
    if set(limits) != set(NAMES):
        raise ValueError(f"{file.name} has limits of {sorted(limits)}, not of {sorted(NAMES)}")
    return limits


def measured_ratios(
    limits: Mapping[str, JourneyLimits],
    measured: Callable[[Collection[str], float], Mapping[str, Spread]],
    seconds: float,
) -> Mapping[str, Spread]:
    """Returns each journey's ratio. One that misses its limit is measured again, for longer.

    :param measured: measures some journeys, each load for some seconds.
    :param seconds: how long each load takes the first time.
    """
    ratios = dict(measured(limits, seconds))
    slow = [name for name, limit in limits.items() if _is_slow(ratios[name], limit)]
    if slow:
        ratios.update(measured(slow, _LONGER * seconds))
    return ratios


def missed(
    limits: Mapping[str, JourneyLimits], ratios: Mapping[str, Spread], plan: Plan
) -> Iterator[str]:
    """Yields a sentence for each limit that a journey misses."""
    for name, limit in limits.items():
        ratio, hop = ratios[name], plan.journeys[name]
        if _is_slow(ratio, limit):
            yield (
                f"{name} needs {ratio.low:.2f} times the floor's CPU time (limit {limit.ratio:g}; "
                f"it was {limit.measured:g})"
            )
        if hop.calls != limit.calls:
            yield f"{name} makes {hop.calls} calls, not {limit.calls}"
        if hop.all_writes != limit.writes:
            yield f"{name} makes {hop.all_writes} writes, not {limit.writes}"


def _is_slow(ratio: Spread, limit: JourneyLimits) -> bool:
    # The lower quartile: other work on the machine spoils some rounds, a slower shop all.
    return ratio.low > limit.ratio


def _with_journeys(side: MeasuredSide, names: Collection[str]) -> MeasuredSide:
    return replace(side, journeys={name: side.journeys[name] for name in names})


def _described(findings: Findings, limits: Mapping[str, JourneyLimits], plan: Plan) -> str:
    rows: list[tuple[str, ...]] = []
    for name, limit in limits.items():
        ratio, hop = findings.cpu_ratio(name, TOPOLOGY, FLOOR), plan.journeys[name]
        rows.append(
            (
                name,
                f"{findings.cpu_ms(name, TOPOLOGY).median:.2f}",
                f"{findings.cpu_ms(name, FLOOR).median:.2f}",
                f"{ratio.median:.2f}",
                f"{ratio.low:.2f} to {ratio.high:.2f}",
                f"{limit.ratio:g}",
                f"{hop.calls}",
                f"{hop.all_writes}",
            )
        )
    head = ("", "CPU ms", "floor", "ratio", "quartiles", "limit", "calls", "writes")
    return table(head, rows)


def with_limits(text: str, ratios: Mapping[str, Spread], plan: Plan) -> str:
    """Returns the text of a file of limits with those of a measurement. The comment stays."""
    comment = [line for line in text.splitlines() if line.startswith("#")]
    lines = [
        f"{name}: {{measured: {ratio.median:.3g}, ratio: {ratio.median * _HEADROOM:.2g}, "
        f"calls: {plan.journeys[name].calls}, writes: {plan.journeys[name].all_writes}}}"
        for name, ratio in ratios.items()
    ]
    return "\n".join([*comment, *lines, ""])


def main() -> int:
    """Returns the exit status: 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.6, help="of each load")
    parser.add_argument(
        "--write",
        action="store_true",
        help="set the limits by what is measured; needs a quiet machine",
    )
    arguments = parser.parse_args()
    needs_linux()
    limits, began = read_limits(), time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        generator() as sending,
        opened_sides(Path(folder), [TOPOLOGY]) as (plan, sides),
    ):

        def measured(names: Collection[str], seconds: float) -> Mapping[str, Spread]:
            print(f"{', '.join(names)}: {seconds:g} s for each load", flush=True)
            findings = measure(
                [_with_journeys(side, names) for side in sides],
                sending,
                rounds=arguments.rounds,
                seconds=seconds,
                connections=_CONNECTIONS,
                with_latencies=(),
                say=lambda text: print(text, flush=True),
            )
            print(_described(findings, {name: limits[name] for name in names}, plan), flush=True)
            return {name: findings.cpu_ratio(name, TOPOLOGY, FLOOR) for name in names}

        ratios = measured_ratios(limits, measured, arguments.seconds)
    print(f"after {time.monotonic() - began:.0f} s")
    if arguments.write:
        LIMITS.write_text(with_limits(LIMITS.read_text("utf-8"), ratios, plan), encoding="utf-8")
        return 0
    problems = list(missed(limits, ratios, plan))
    for problem in problems:
        print(f"MISSED: {problem}")
    if problems:
        print("If the change is meant: make bench-check ARGS=--write, on a quiet machine.")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
