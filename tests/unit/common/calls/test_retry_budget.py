"""The retry budget: failed retries are few, whatever happens; successful ones are free."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.calls.retry_budget import RetryBudget
from tests.unit.common.kit import ManualClock

LARGEST = 20
SHARE = 0.2
PER_SECOND = 1.0


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def budget(clock: ManualClock) -> RetryBudget:
    return RetryBudget(clock)


def spend(budget: RetryBudget) -> int:
    """Makes failing retries until one is refused; how many were made."""
    made = 0
    while budget.withdraw():
        made += 1
    return made


def test_it_starts_full(budget: RetryBudget) -> None:
    assert spend(budget) == LARGEST


def test_first_attempts_earn_a_fifth_of_a_retry_each(budget: RetryBudget) -> None:
    spend(budget)
    for _ in range(15):
        budget.deposit()
    assert spend(budget) == 3


def test_time_earns_one_retry_per_second(budget: RetryBudget, clock: ManualClock) -> None:
    spend(budget)
    clock.advance(2.5)
    assert spend(budget) == 2
    clock.advance(0.5)
    assert spend(budget) == 1


def test_a_retry_that_succeeds_is_free(budget: RetryBudget) -> None:
    spend(budget)
    for _ in range(5):
        budget.deposit()
    for _ in range(100):
        assert budget.withdraw()
        budget.give_back()
    assert spend(budget) == 1


def test_it_never_holds_more_than_the_largest_balance(
    budget: RetryBudget, clock: ManualClock
) -> None:
    for _ in range(1000):
        budget.deposit()
    clock.advance(3600.0)
    budget.give_back()
    assert spend(budget) == LARGEST


def test_the_end_of_an_outage_fills_it(budget: RetryBudget) -> None:
    spend(budget)
    budget.fill()
    assert spend(budget) == LARGEST


EVENTS = st.one_of(
    st.sampled_from(["first attempt", "failing retry", "succeeding retry"]), st.floats(0.0, 3.0)
)


@given(st.lists(EVENTS, max_size=300))
def test_failed_retries_stay_within_the_bound(events: list[str | float]) -> None:
    clock = ManualClock()
    budget = RetryBudget(clock)
    began_seconds = clock.now_seconds
    first_attempts = failed_retries = 0
    for event in events:
        if isinstance(event, float):
            clock.advance(event)
        elif event == "first attempt":
            first_attempts += 1
            budget.deposit()
        elif budget.withdraw():
            if event == "succeeding retry":
                budget.give_back()
            else:
                failed_retries += 1
        earned = SHARE * first_attempts + PER_SECOND * (clock.now_seconds - began_seconds)
        assert failed_retries <= LARGEST + earned + 1e-6
