"""The load test's shapes: how many users there are at each time."""

from __future__ import annotations

import pytest

from loadtest.shapes import SHAPES, Course, course


def planned(name: str, *, seconds: float | None = 100, is_open: bool = False) -> Course:
    return course(name, peak=40, seconds=seconds, steps=4, warm_up_seconds=10, is_open=is_open)


@pytest.mark.parametrize("name", SHAPES)
def test_a_run_has_its_warm_up_and_then_its_time(name: str):
    plan = planned(name)

    assert plan.seconds == pytest.approx(110)
    assert plan.level(0) == plan.level(9.9) == plan.stages[0].level
    assert plan.level(109.9) is not None
    assert plan.level(110.1) is None


@pytest.mark.parametrize("name", SHAPES)
def test_no_level_is_above_the_highest(name: str):
    levels = [stage.level for stage in planned(name).stages]

    assert min(levels) > 0
    assert max(levels) <= 40


def test_steps_go_up_evenly():
    assert [window.level for window in planned("steps").windows()] == [10, 20, 30, 40]
    assert [window.begin for window in planned("steps").windows()] == [10, 35, 60, 85]


def test_a_spike_comes_and_goes():
    levels = [planned("spike").level(at) for at in (11, 39, 41, 79, 81, 109)]

    assert levels == [10, 10, 40, 40, 10, 10]


def test_a_wave_reaches_the_top_twice():
    levels = [round(stage.level, 6) for stage in planned("wave").stages]

    assert levels.count(40) == 2
    assert min(levels) == pytest.approx(4)


def test_smoke_needs_two_users():
    assert planned("smoke").level(50) == 2


def test_without_options_a_shape_has_its_own_values():
    own = course("steps", peak=None, seconds=None, steps=10, warm_up_seconds=0, is_open=False)
    rates = course("steps", peak=None, seconds=None, steps=10, warm_up_seconds=0, is_open=True)

    assert own.seconds == pytest.approx(SHAPES["steps"].seconds)
    assert own.stages[-1].level == SHAPES["steps"].users
    assert rates.stages[-1].level == SHAPES["steps"].users / 10
