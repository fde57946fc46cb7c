"""A lease lapses by the observer's clock alone."""

from __future__ import annotations

import pytest

from services.common.background.leases import LeaseWatch


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watch(clock: Clock) -> LeaseWatch:
    return LeaseWatch(20.0, clock)


def test_what_is_seen_for_the_first_time_has_not_lapsed(watch: LeaseWatch) -> None:
    assert not watch.has_lapsed("a", 1)


def test_it_lapses_when_nothing_changes_for_its_length(watch: LeaseWatch, clock: Clock) -> None:
    watch.has_lapsed("a", 1)
    clock.now += 19.9
    assert not watch.has_lapsed("a", 1)
    clock.now += 0.1
    assert watch.has_lapsed("a", 1)


def test_any_change_renews_it(watch: LeaseWatch, clock: Clock) -> None:
    watch.has_lapsed("a", 1)
    clock.now += 20.0
    assert not watch.has_lapsed("a", 2)
    clock.now += 19.0
    assert not watch.has_lapsed("a", 2)


def test_each_key_has_a_lease_of_its_own(watch: LeaseWatch, clock: Clock) -> None:
    watch.has_lapsed("a", 1)
    clock.now += 20.0
    assert not watch.has_lapsed("b", 1)
    assert watch.has_lapsed("a", 1)


def test_what_was_forgotten_begins_anew(watch: LeaseWatch, clock: Clock) -> None:
    watch.has_lapsed("a", 1)
    watch.has_lapsed("b", 1)
    clock.now += 20.0
    watch.forget_others({"b"})
    assert not watch.has_lapsed("a", 1)
    assert watch.has_lapsed("b", 1)
