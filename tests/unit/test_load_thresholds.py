"""The load test's verdict. That locust asks for it and heeds it is what `make load-check` shows."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterable, Mapping

import pytest

from loadtest.thresholds import (
    CONFIRMED,
    OUT_OF_STOCK,
    Limits,
    Verdict,
    add_options,
    judge,
    limits_of,
    percentile,
)
from tests.unit.load_steps import LoadStep


def limits(*options: str) -> Limits:
    parser = ArgumentParser()
    add_options(parser)
    return limits_of(parser.parse_args(options))


def missed(verdict: Verdict) -> list[str]:
    return [check.what for check in verdict.checks if not check.is_met]


def verdict_of(
    entries: Iterable[LoadStep] = (), *options: str, orders: int = 10, crashes: int = 0
) -> Verdict:
    """The verdict on enough requests and some orders, together with what is given."""
    usual = [LoadStep("pages: home", 500), LoadStep(CONFIRMED, orders)]
    return judge([*usual, *entries], limits(*options), crashes=crashes)


def test_a_good_run_meets_all_thresholds():
    verdict = verdict_of()

    assert verdict.is_met
    assert "0 of 9 thresholds missed" in str(verdict)


def test_by_default_one_failure_is_too_many():
    failure = LoadStep("orders: inbox", 1, num_failures=1)

    assert missed(verdict_of([failure])) == ["failures"]
    assert verdict_of([failure], "--max-failure-ratio", "0.01").is_met


def test_a_mistake_in_the_journey_is_never_accepted():
    verdict = verdict_of((), "--max-failure-ratio", "1", crashes=1)

    assert missed(verdict) == ["crashes of the journey"]


@pytest.mark.parametrize(
    ("option", "what"),
    [("--min-requests", "requests"), ("--min-confirmed-orders", "confirmed orders")],
)
def test_too_few_are_told(option: str, what: str):
    assert missed(verdict_of((), option, "1000000")) == [what]


def test_a_failed_checkout_confirms_nothing():
    failed = LoadStep(CONFIRMED, 2, num_failures=2)
    options = ("--max-failure-ratio", "1", "--min-confirmed-orders", "2")

    assert missed(verdict_of([failed], *options, orders=1)) == ["confirmed orders"]


def test_response_times_are_held_against_the_threshold_of_their_group():
    slow = [
        LoadStep("account: log in", 100, response_times={10: 94, 900: 6}),
        LoadStep("account: register", 0),
        LoadStep("orders: inbox", 100, response_times={10: 94, 900: 6}),
    ]

    verdict = verdict_of(slow, "--p95-account-ms", "899", "--p95-orders-ms", "900")

    assert missed(verdict) == ["p95 of account"]


def test_steps_of_a_group_are_taken_together():
    steps = [
        LoadStep("orders: inbox", 1, response_times={5000: 1}),
        LoadStep("orders: history", 99, response_times={10: 99}),
    ]

    assert verdict_of(steps).is_met


def test_out_of_stock_is_counted_and_is_no_failure():
    verdict = verdict_of([LoadStep(OUT_OF_STOCK, 7)])

    assert verdict.is_met
    assert verdict.out_of_stock == 7


def test_a_step_without_a_threshold_is_refused():
    with pytest.raises(KeyError):
        verdict_of([LoadStep("nowhere: at all", 1)])


@pytest.mark.parametrize(
    ("times_ms", "expected"),
    [({}, None), ({7: 1}, 7), ({1: 95, 2: 5}, 1), ({2: 6, 1: 94}, 2), ({1: 19, 9: 1}, 1)],
)
def test_the_percentile_is_that_of_the_nearest_rank(
    times_ms: Mapping[int, int], expected: int | None
):
    assert percentile(times_ms, 0.95) == expected
