"""The load test's verdict. That locust asks for it and heeds it is what `make load-check` shows."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from loadtest.books import AuditResult
from loadtest.recording import RequestTally, Verdict
from loadtest.settings import Limits, read_limits
from loadtest.thresholds import (
    CONFIRMED,
    NOT_SETTLED,
    OUT_OF_STOCK,
    TURNED_AWAY,
    UNFINISHED,
    judge,
    reason_to_abort,
)

NOT_LATE = RequestTally()


def answered(requests: int, milliseconds: int = 10, *, failures: int = 0) -> RequestTally:
    """Requests that all took the same time."""
    return RequestTally(requests=requests, failures=failures, times_ms={milliseconds: requests})


def limits(*changes: str) -> Limits:
    """Those of the file, with some changes."""
    return read_limits(changes=changes)


def missed(verdict: Verdict) -> list[str]:
    return [check.what for check in verdict.checks if not check.is_met]


def verdict_of(
    more: Mapping[str, RequestTally] | None = None,
    *changes: str,
    orders: int = 10,
    crashes: int = 0,
    books: AuditResult | None = None,
    late_ms: RequestTally = NOT_LATE,
) -> Verdict:
    """The verdict on enough requests and some orders, together with what is given."""
    usual = {"pages: home": answered(500), CONFIRMED: answered(orders)}
    steps = {**usual, **(more or {})}
    return judge(steps, late_ms, limits(*changes), crashes=crashes, books=books)


def test_a_good_run_meets_all_thresholds():
    verdict = verdict_of()

    assert verdict.is_met
    assert "0 of 7 thresholds missed" in str(verdict)


def test_by_default_one_failure_is_too_many():
    failure = {"account: profile": answered(1, failures=1)}

    assert missed(verdict_of(failure)) == ["failures"]
    assert verdict_of(failure, "failures.max_ratio=0.01").is_met


def test_a_mistake_in_the_journey_is_never_accepted():
    verdict = verdict_of({}, "failures.max_ratio=1", crashes=1)

    assert missed(verdict) == ["crashes of the journey"]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("requests.min=1000000", "requests"),
        ("purchases.min_confirmed=1000000", "confirmed orders"),
    ],
)
def test_too_few_are_told(change: str, what: str):
    assert missed(verdict_of({}, change)) == [what]


def test_a_failed_checkout_confirms_nothing():
    failed = {CONFIRMED: answered(3, failures=2)}
    changes = ("failures.max_ratio=1", "purchases.min_confirmed=2", "purchases.max_failed=2")

    assert missed(verdict_of(failed, *changes)) == ["confirmed orders"]


@pytest.mark.parametrize("step", ["checkout: quote", NOT_SETTLED])
def test_a_failed_purchase_is_too_many_even_among_other_failures(step: str):
    failed = {step: answered(1, failures=1)}

    assert missed(verdict_of(failed, "failures.max_ratio=1")) == ["failed purchases"]


def test_response_times_are_compared_with_the_limit_of_their_group():
    slow = RequestTally(requests=100, times_ms={10: 94, 900: 6})
    steps = {"account: log in": slow, "account: register": RequestTally(), "orders: inbox": slow}

    verdict = verdict_of(steps, "account.p95_ms=899", "orders.p95_ms=900")

    assert missed(verdict) == ["p95 of account"]


def test_each_percentile_has_a_limit_of_its_own():
    steps = {"account: log in": RequestTally(requests=100, times_ms={10: 40, 300: 58, 900: 2})}
    changes = ("account.p50_ms=100", "account.p95_ms=400", "account.p99_ms=800")

    assert missed(verdict_of(steps, *changes)) == ["p50 of account", "p99 of account"]


def test_steps_of_a_group_are_taken_together():
    steps = {"orders: inbox": answered(1, 5000), "orders: history": answered(99)}

    assert verdict_of(steps).is_met


def test_visits_are_no_requests():
    verdict = verdict_of({"visits: Buyer.buy": answered(400, failures=400)})

    assert verdict.is_met
    assert verdict.checks[0].measured == "510"


@pytest.mark.parametrize(
    ("step", "what"), [(TURNED_AWAY, "turned away"), (UNFINISHED, "unfinished visits")]
)
def test_a_shopper_who_was_not_served_is_a_failure(step: str, what: str):
    late = answered(100, 1)

    assert missed(verdict_of({step: answered(1, failures=1)}, late_ms=late)) == [what]
    assert verdict_of(late_ms=late).is_met


def test_a_load_test_that_is_too_slow_itself_is_told():
    assert missed(verdict_of(late_ms=answered(100, 1100))) == ["p99 of late arrivals"]


def test_books_that_disagree_are_too_much():
    wrong = AuditResult(is_balanced=False, said="2 disagreements")

    assert missed(verdict_of(books=wrong)) == ["sold = charged"]
    assert "books: 2 disagreements" in str(verdict_of(books=wrong))
    assert verdict_of({}, "purchases.books_balanced=false", books=wrong).is_met
    assert verdict_of(books=AuditResult(is_balanced=True, said="nothing disagrees")).is_met


def test_refused_requests_must_be_refused_fast():
    slow = {"shed: pages: home": answered(100, 51)}

    assert missed(verdict_of(slow)) == ["p95 of shed"]


def test_out_of_stock_is_counted_and_is_no_failure():
    verdict = verdict_of({OUT_OF_STOCK: answered(7)})

    assert verdict.is_met
    assert "7 orders found something out of stock" in str(verdict)


def test_a_step_without_a_group_in_the_file_is_refused():
    with pytest.raises(KeyError):
        verdict_of({"nowhere: at all": answered(1)})


def test_a_run_is_not_aborted_for_what_it_can_still_get():
    assert reason_to_abort({"pages: home": answered(1)}, limits()) is None


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ({"pages: home": answered(200, failures=1)}, "failures: 0.50% (limit <= 0.00%)"),
        ({"pages: home": answered(10, failures=1)}, None),
        (
            {"checkout: quote": answered(1, failures=1)},
            "failed purchases: 1 (limit <= 0)",
        ),
        (
            {"pages: home": answered(100, 2000)},
            "p95 of pages: 2000 ms (limit <= 1500 ms)",
        ),
        ({"pages: home": answered(99, 2000)}, None),
    ],
)
def test_a_run_is_aborted_for_what_it_cannot_make_good(
    steps: Mapping[str, RequestTally], reason: str | None
):
    assert reason_to_abort(steps, limits()) == reason


def test_a_run_that_seeks_the_knee_may_be_too_much():
    steps = {"pages: home": answered(100, 9000, failures=50)}

    def judged(crashes: int, books: AuditResult | None = None) -> Verdict:
        return judge(steps, NOT_LATE, limits(), crashes=crashes, books=books, seeks_knee=True)

    assert judged(0).is_met
    assert missed(judged(1)) == ["crashes of the journey"]
    assert missed(judged(0, AuditResult(is_balanced=False, said=""))) == ["sold = charged"]
