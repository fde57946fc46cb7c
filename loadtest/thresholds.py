"""The thresholds of a run: few failures, fast answers, enough requests, orders that are confirmed.

Nothing here needs locust: `running` passes its figures in, and asks for the verdict.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from loadtest.books import AuditResult
from loadtest.recording import (
    ARRIVALS,
    PERCENTILES,
    VISITS,
    RequestTally,
    ThresholdResult,
    Verdict,
    group_of,
    merged,
    requests_in,
)
from loadtest.settings import Limits

# Steps whose number matters. All steps are named ``group: what``.
CONFIRMED = "checkout: confirmed"
OUT_OF_STOCK = "checkout: out of stock"
NOT_SETTLED = "orders: not settled yet"
TURNED_AWAY = f"{VISITS}: turned away"
UNFINISHED = f"{VISITS}: not finished"
LATE = f"{ARRIVALS}: late"

# A percentile of fewer answers says little, so a run is not aborted for it.
_MIN_ANSWERS_TO_ABORT = 100


def judge(
    steps: Mapping[str, RequestTally],
    late_ms: RequestTally,
    limits: Limits,
    *,
    crashes: int,
    books: AuditResult | None,
    seeks_knee: bool = False,
) -> Verdict:
    """Compares the figures of a run with its thresholds.

    :param steps: by name.
    :param late_ms: how late shoppers were let in, with an arrival rate.
    :param crashes: exceptions that were no failed answers: mistakes in the journey itself.
    :param books: None where they cannot be read.
    :param seeks_knee: whether the load was to become too much: then only what holds under any load
        is judged.
    :raises KeyError: a step is of no group that has thresholds.
    """
    always = [at_most("crashes of the journey", crashes, 0)]
    notes: list[str] = []
    if books is not None:
        if limits.purchases.books_balanced:
            always.append(balance(books))
        notes.append(f"books: {books.said}")
    if seeks_knee:
        return Verdict(checks=always, notes=notes)
    requests = requests_in(steps)
    checks = [
        at_least("requests", requests.requests, limits.requests.min),
        _failures(requests, limits),
        *always,
        at_least("confirmed orders", _succeeded(steps, CONFIRMED), limits.purchases.min_confirmed),
        at_most("failed purchases", _failed_purchases(steps), limits.purchases.max_failed),
        *_arrivals(steps, late_ms, limits),
        *_times(steps, limits),
    ]
    sold_out = _succeeded(steps, OUT_OF_STOCK)
    if sold_out:
        notes.append(f"{sold_out} orders found something out of stock, which is no failure")
    return Verdict(checks=checks, notes=notes)


def reason_to_abort(steps: Mapping[str, RequestTally], limits: Limits) -> str | None:
    """Returns which threshold a run misses already, as a sentence; None while it misses none.

    A run that has too few requests or orders can still get them, so these do not count.
    """
    requests = requests_in(steps)
    checks = [at_most("failed purchases", _failed_purchases(steps), limits.purchases.max_failed)]
    if requests.requests >= _MIN_ANSWERS_TO_ABORT:
        checks.append(_failures(requests, limits))
    checks += _times(steps, limits, min_answers=_MIN_ANSWERS_TO_ABORT)
    for check in checks:
        if not check.is_met:
            return f"{check.what}: {check.measured} (limit {check.limit})"
    return None


def balance(books: AuditResult) -> ThresholdResult:
    """Returns whether the books agree, as a threshold."""
    return ThresholdResult(
        what="sold = charged",
        measured="yes" if books.is_balanced else "no",
        limit="yes",
        is_met=books.is_balanced,
    )


def at_most(what: str, measured: int, limit: int) -> ThresholdResult:
    """Returns whether a number keeps to its upper limit."""
    return ThresholdResult(
        what=what, measured=f"{measured}", limit=f"<= {limit}", is_met=measured <= limit
    )


def at_least(what: str, measured: int, limit: int) -> ThresholdResult:
    """Returns whether a number keeps to its lower limit."""
    return ThresholdResult(
        what=what, measured=f"{measured}", limit=f">= {limit}", is_met=measured >= limit
    )


def _arrivals(
    steps: Mapping[str, RequestTally], late_ms: RequestTally, limits: Limits
) -> Iterator[ThresholdResult]:
    turned_away = steps.get(TURNED_AWAY, RequestTally()).requests
    if not late_ms.requests and not turned_away:
        return  # there is no arrival rate
    unfinished = steps.get(UNFINISHED, RequestTally()).requests
    yield at_most("turned away", turned_away, limits.arrivals.max_turned_away)
    yield at_most("unfinished visits", unfinished, limits.arrivals.max_unfinished)
    limit_ms = limits.arrivals.max_late_ms
    if limit_ms is not None:
        yield _time("p99 of late arrivals", late_ms.percentile_ms(0.99), limit_ms)


def _failures(requests: RequestTally, limits: Limits) -> ThresholdResult:
    ratio, limit = requests.failure_ratio, limits.failures.max_ratio
    return ThresholdResult(
        what="failures", measured=f"{ratio:.2%}", limit=f"<= {limit:.2%}", is_met=ratio <= limit
    )


def _failed_purchases(steps: Mapping[str, RequestTally]) -> int:
    return sum(
        tally.failures
        for step, tally in steps.items()
        if group_of(step) == group_of(CONFIRMED) or step == NOT_SETTLED
    )


def _succeeded(steps: Mapping[str, RequestTally], step: str) -> int:
    return steps.get(step, RequestTally()).succeeded


def _times(
    steps: Mapping[str, RequestTally], limits: Limits, *, min_answers: int = 1
) -> Iterator[ThresholdResult]:
    """Compares the percentiles of each group that has a limit."""
    groups: dict[str, list[RequestTally]] = {name: [] for name in limits.groups}
    for step, tally in steps.items():
        groups[group_of(step)].append(tally)
    for name, limit in limits.groups.items():
        tally = merged(groups[name])
        if tally.requests < min_answers:
            continue
        for percentile_name, fraction in PERCENTILES.items():
            limit_ms: int | None = getattr(limit, f"{percentile_name}_ms")
            if limit_ms is not None:
                measured_ms = tally.percentile_ms(fraction)
                yield _time(f"{percentile_name} of {name}", measured_ms, limit_ms)


def _time(what: str, measured_ms: int | None, limit_ms: int) -> ThresholdResult:
    return ThresholdResult(
        what=what,
        measured="none" if measured_ms is None else f"{measured_ms} ms",
        limit=f"<= {limit_ms} ms",
        is_met=measured_ms is None or measured_ms <= limit_ms,
    )
