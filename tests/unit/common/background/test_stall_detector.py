"""Work has stalled by the observer's clock alone."""

from __future__ import annotations

import pytest

from services.common.background.stall_detector import StallDetector
from tests.unit.common.kit import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def detector(clock: ManualClock) -> StallDetector:
    return StallDetector(20.0, clock)


def test_what_is_seen_for_the_first_time_has_not_stalled(detector: StallDetector) -> None:
    assert not detector.has_stalled("a", 1)


def test_it_has_stalled_when_nothing_changes_for_so_long(
    detector: StallDetector, clock: ManualClock
) -> None:
    detector.has_stalled("a", 1)
    clock.advance(19.9)
    assert not detector.has_stalled("a", 1)
    clock.advance(0.2)
    assert detector.has_stalled("a", 1)


def test_any_change_begins_the_time_again(detector: StallDetector, clock: ManualClock) -> None:
    detector.has_stalled("a", 1)
    clock.advance(20.0)
    assert not detector.has_stalled("a", 2)
    clock.advance(19.0)
    assert not detector.has_stalled("a", 2)


def test_each_key_has_a_time_of_its_own(detector: StallDetector, clock: ManualClock) -> None:
    detector.has_stalled("a", 1)
    clock.advance(20.0)
    assert not detector.has_stalled("b", 1)
    assert detector.has_stalled("a", 1)


def test_what_was_forgotten_begins_again(detector: StallDetector, clock: ManualClock) -> None:
    detector.has_stalled("a", 1)
    detector.has_stalled("b", 1)
    clock.advance(20.0)
    detector.forget_others({"b"})
    assert not detector.has_stalled("a", 1)
    assert detector.has_stalled("b", 1)
