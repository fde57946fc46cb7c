"""Medians, quartiles, percentiles and ratios, and what a page makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

import pytest

from tests.bench.floor.plan import Hop, Plan
from tests.bench.picture import bar_pairs, drawn
from tests.bench.report import (
    MeasuredRound,
    Measurement,
    Surroundings,
    generated_part,
    with_part,
)
from tests.bench.rounds import GENERATOR, Figures, Findings, Spread, percentile, spread
from tests.bench.shops import TOPOLOGY
from tests.bench.sides import FLOOR


def figures(ms: float, rate: float = 100.0, latencies: Sequence[float] = (5.0,)) -> Figures:
    return Figures({"frontend": ms, "stripe": 7.0, GENERATOR: 9.0}, rate, latencies)


def test_quartiles_are_those_of_all_rounds() -> None:
    assert spread([5.0, 1.0, 3.0, 2.0, 4.0]) == Spread(2.0, 3.0, 4.0)
    assert spread([4.0]) == Spread(4.0, 4.0, 4.0)


@pytest.mark.parametrize(("percent", "value"), [(1, 1.0), (50, 50.0), (99, 99.0), (100, 100.0)])
def test_a_percentile_is_a_value_that_was_measured(percent: int, value: float) -> None:
    assert percentile([float(number) for number in range(100, 0, -1)], percent) == value


def test_there_is_no_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_the_generator_and_stripe_are_no_part_of_a_services_total() -> None:
    assert figures(2.0).total_cpu_ms == 2.0


def test_the_ratio_is_that_of_each_round() -> None:
    """A round in which the machine is half as fast changes neither side's ratio."""
    findings = Findings()
    for slowness in (1.0, 2.0, 1.0):
        findings.add("home", TOPOLOGY, figures(6.0 * slowness))
        findings.add("home", FLOOR, figures(2.0 * slowness))
    assert findings.cpu_ratio("home", TOPOLOGY, FLOOR) == Spread(3.0, 3.0, 3.0)
    assert findings.cpu_ms("home", TOPOLOGY) == Spread(6.0, 6.0, 9.0)


def test_a_round_in_which_a_busy_machine_hides_the_floor_is_left_out() -> None:
    findings = Findings()
    for floor_ms in (2.0, 0.0, 2.0):
        findings.add("home", TOPOLOGY, figures(6.0))
        findings.add("home", FLOOR, figures(floor_ms))
        findings.add("home", "nothing", figures(0.0))
    assert findings.cpu_ratio("home", TOPOLOGY, FLOOR) == Spread(3.0, 3.0, 3.0)
    with pytest.raises(ValueError, match="the machine is too busy"):
        findings.cpu_ratio("home", FLOOR, "nothing")


def measurement() -> Measurement:
    sides = {FLOOR: 1.25, TOPOLOGY: 8.5, "off": 7.5}
    hop = Hop(
        id="home.0",
        service="frontend",
        protocol="http",
        operation="GET /",
        request_bytes=0,
        answer_bytes=26_000,
    )
    return Measurement(
        surroundings=Surroundings(
            command="make bench",
            date="2026-11-30",
            processor="a processor",
            cpus=2,
            memory_gib=8.0,
            system="Linux",
            python="3.11",
            libraries={"uvicorn": "1"},
            revision="abc",
            load_average=0.1,
        ),
        rounds=1,
        seconds=1.0,
        connections=8,
        tracings=("off", TOPOLOGY),
        abouts={"home": "home page"},
        plan=Plan(journeys={"home": hop}),
        measured=[
            MeasuredRound(journey="home", side=side, figures=figures(ms))
            for side, ms in sides.items()
        ],
    )


def test_the_page_says_what_was_measured_and_where() -> None:
    part = generated_part(measurement())
    assert "8.50 ms (8.50 to 8.50) | 1.25 ms (1.25 to 1.25) | 6.80 (6.80 to 6.80)" in part
    assert "2 CPUs (a processor)" in part
    assert "| … the floor | 1.25 |" in part


def test_a_kept_measurement_makes_the_same_page() -> None:
    kept = Measurement.model_validate_json(measurement().model_dump_json())
    assert generated_part(kept) == generated_part(measurement())


def test_the_picture_shows_each_side_and_leaves_out_what_is_outside() -> None:
    picture = ElementTree.fromstring(drawn(bar_pairs(measurement())))  # noqa: S314  our own
    texts = ["".join(element.itertext()) for element in picture.iter()]
    assert "8.50 ms (shop)" in texts
    assert "1.25 ms (floor)" in texts


def test_the_text_around_the_generated_part_stays() -> None:
    assert with_part("a\n<b>\nold\n<e>\nz\n", "new\n", "<b>\n", "<e>\n") == (
        "a\n<b>\nnew\n<e>\nz\n"
    )
    with pytest.raises(ValueError, match="are missing"):
        with_part("a\n<b>\nold\n", "new\n", "<b>\n", "<e>\n")
