"""A slower shop, and one that makes other calls or writes, misses the limits; another does not."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import pytest

from tests.bench.check import JourneyLimits, measured_ratios, missed, read_limits, with_limits
from tests.bench.floor.plan import Hop, Plan
from tests.bench.journeys import NAMES
from tests.bench.rounds import Figures, Findings, Spread
from tests.bench.shops import TOPOLOGY
from tests.bench.sides import FLOOR

LIMITS = {"home": JourneyLimits(measured=6.8, ratio=9.0, calls=1, writes=1)}


def hop(number: int, *stages: tuple[Hop, ...], writes: tuple[int, ...] = ()) -> Hop:
    return Hop(
        id=f"home.{number}",
        service="frontend",
        protocol="http",
        operation="GET /",
        request_bytes=0,
        answer_bytes=1,
        stages=stages,
        writes=writes,
    )


USUAL = Plan(journeys={"home": hop(0, (hop(1, writes=(5,)),))})


def ratio(shop_ms: float, floor_ms: float) -> Spread:
    findings = Findings()
    findings.add("home", TOPOLOGY, Figures({"frontend": shop_ms}, rate=100.0))
    findings.add("home", FLOOR, Figures({"frontend": floor_ms}, rate=800.0))
    return findings.cpu_ratio("home", TOPOLOGY, FLOOR)


@pytest.mark.parametrize("slowness", [1.0, 4.0])
def test_the_shop_as_it_was_is_within_the_limits_on_any_machine(slowness: float) -> None:
    assert not list(missed(LIMITS, {"home": ratio(8.5 * slowness, 1.25 * slowness)}, USUAL))


def test_a_slower_shop_misses_its_limit() -> None:
    (problem,) = missed(LIMITS, {"home": ratio(12.0, 1.25)}, USUAL)
    assert problem == "home needs 9.60 times the floor's CPU time (limit 9; it was 6.8)"


@pytest.mark.parametrize("again_ms", [8.5, 12.0])
def test_only_a_journey_that_misses_its_limit_is_measured_again_for_longer(
    again_ms: float,
) -> None:
    limits = {**LIMITS, "cart": JourneyLimits(measured=6.8, ratio=9.0, calls=0, writes=0)}
    seen: list[tuple[list[str], float]] = []

    def measured(names: Collection[str], seconds: float) -> Mapping[str, Spread]:
        seen.append((list(names), seconds))
        if len(seen) == 1:
            return {"home": ratio(12.0, 1.25), "cart": ratio(8.5, 1.25)}
        return {"home": ratio(again_ms, 1.25)}

    ratios = measured_ratios(limits, measured, 0.5)

    assert seen == [(["home", "cart"], 0.5), (["home"], 2.5)]
    assert ratios == {"home": ratio(again_ms, 1.25), "cart": ratio(8.5, 1.25)}


def test_another_number_of_calls_or_writes_misses_its_limit() -> None:
    """The ratio hides these, as the floor makes them as well."""
    usual = {"home": ratio(8.5, 1.25)}
    more_calls = Plan(journeys={"home": hop(0, (hop(1), hop(2)))})
    assert list(missed(LIMITS, usual, more_calls)) == [
        "home makes 2 calls, not 1",
        "home makes 0 writes, not 1",
    ]
    more_writes = Plan(journeys={"home": hop(0, (hop(1, writes=(5, 5)),))})
    assert list(missed(LIMITS, usual, more_writes)) == ["home makes 2 writes, not 1"]


def test_every_journey_has_limits_with_headroom() -> None:
    limits = read_limits()
    assert set(limits) == set(NAMES)
    for name, limit in limits.items():
        assert 1.2 * limit.measured < limit.ratio < 2 * limit.measured, name


def test_a_journey_without_limits_is_told(tmp_path: Path) -> None:
    file = tmp_path / "limits.yaml"
    file.write_text("home: {measured: 5, ratio: 7, calls: 4, writes: 0}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"limits.yaml has limits of \['home'\]"):
        read_limits(file)


def test_written_limits_are_those_that_are_read(tmp_path: Path) -> None:
    ratios = {name: ratio(8.5, 1.25) for name in NAMES}
    plan = Plan(journeys=dict.fromkeys(NAMES, USUAL.journeys["home"]))
    file = tmp_path / "limits.yaml"
    file.write_text(with_limits("# why\nold: 1\n", ratios, plan), encoding="utf-8")
    assert file.read_text(encoding="utf-8").startswith("# why\nhome: ")
    assert read_limits(file)["home"] == JourneyLimits(measured=6.8, ratio=10, calls=1, writes=1)
