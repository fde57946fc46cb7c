"""What a run must keep to: no failures, answers in time, enough of them, orders that come through.

Nothing here needs locust, which hands in its figures and asks for the verdict (`running`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from loadtest.recording import (
    ARRIVALS,
    SHED,
    VISITS,
    RequestTally,
    ThresholdResult,
    group_of,
    merged,
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
_FRACTIONS = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class AuditResult:
    """What an audit of the shop after the run has found.

    :ivar said: its last line.
    """

    is_balanced: bool
    said: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """All thresholds of a run."""

    checks: Sequence[ThresholdResult]
    notes: Sequence[str]

    @property
    def is_met(self) -> bool:
        """Whether the run has kept to all of them."""
        return all(check.is_met for check in self.checks)

    def __str__(self) -> str:
        rows = [("threshold", "measured", "limit", "")]
        rows += [
            (check.what, check.measured, check.limit, "ok" if check.is_met else "MISSED")
            for check in self.checks
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            f"{what:<{widths[0]}}  {measured:>{widths[1]}}  {limit:>{widths[2]}}  {state}".rstrip()
            for what, measured, limit, state in rows
        ]
        missed = sum(not check.is_met for check in self.checks)
        lines.append(f"{missed} of {len(self.checks)} thresholds missed")
        return "\n".join([*lines, *self.notes])


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
    requests = merged(_requests(steps))
    turned_away = steps.get(TURNED_AWAY, RequestTally()).requests
    balance = _balance(books, limits)
    if seeks_knee:
        return Verdict([_at_most("crashes of the journey", crashes, 0), *balance], _notes(books))
    checks = [
        ThresholdResult(
            what="requests",
            measured=str(requests.requests),
            limit=f">= {limits.requests.min}",
            is_met=requests.requests >= limits.requests.min,
        ),
        _failures(requests, limits),
        _at_most("crashes of the journey", crashes, 0),
        ThresholdResult(
            what="confirmed orders",
            measured=str(_succeeded(steps, CONFIRMED)),
            limit=f">= {limits.purchases.min_confirmed}",
            is_met=_succeeded(steps, CONFIRMED) >= limits.purchases.min_confirmed,
        ),
        _at_most("failed purchases", _failed_purchases(steps), limits.purchases.max_failed),
    ]
    checks += balance
    if late_ms.requests or turned_away:
        unfinished = steps.get(UNFINISHED, RequestTally()).requests
        checks.append(_at_most("turned away", turned_away, limits.arrivals.max_turned_away))
        checks.append(_at_most("unfinished visits", unfinished, limits.arrivals.max_unfinished))
        limit_ms = limits.arrivals.max_late_ms
        if limit_ms is not None:
            checks.append(_time("p99 of late arrivals", late_ms.percentile_ms(0.99), limit_ms))
    checks += _times(steps, limits)
    sold_out = _succeeded(steps, OUT_OF_STOCK)
    note = f"{sold_out} orders found something out of stock, which is no failure"
    return Verdict(checks, [note, *_notes(books)])


def reason_to_abort(steps: Mapping[str, RequestTally], limits: Limits) -> str | None:
    """Returns the threshold that a run has missed before its end; None while there is none.

    A run that has too few requests or orders can still get them, so these do not count.
    """
    requests = merged(_requests(steps))
    checks = [_at_most("failed purchases", _failed_purchases(steps), limits.purchases.max_failed)]
    if requests.requests >= _MIN_ANSWERS_TO_ABORT:
        checks.append(_failures(requests, limits))
    checks += _times(steps, limits, min_answers=_MIN_ANSWERS_TO_ABORT)
    for check in checks:
        if not check.is_met:
            return f"{check.what} is {check.measured}, and may be {check.limit}"
    return None


def _balance(books: AuditResult | None, limits: Limits) -> Iterator[ThresholdResult]:
    if books is not None and limits.purchases.books_balanced:
        yield ThresholdResult(
            what="sold = charged",
            measured="yes" if books.is_balanced else "no",
            limit="yes",
            is_met=books.is_balanced,
        )


def _notes(books: AuditResult | None) -> list[str]:
    return [] if books is None else [f"books: {books.said}"]


def _requests(steps: Mapping[str, RequestTally]) -> Iterator[RequestTally]:
    return (tally for step, tally in steps.items() if group_of(step) != VISITS)


def _failures(requests: RequestTally, limits: Limits) -> ThresholdResult:
    ratio = requests.failures / max(requests.requests, 1)
    limit = limits.failures.max_ratio
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
    tally = steps.get(step, RequestTally())
    return tally.requests - tally.failures


def _times(
    steps: Mapping[str, RequestTally], limits: Limits, *, min_answers: int = 1
) -> Iterator[ThresholdResult]:
    """Compares the percentiles of each group that has a limit."""
    groups: dict[str, list[RequestTally]] = {name: [] for name in limits.groups}
    for step, tally in steps.items():
        groups[group_of(step)].append(tally)
    for name, limit in limits.groups.items():
        tally = merged(groups[name])
        if name == SHED and not tally.requests:
            continue  # only with --accept-shedding
        for percentile_name, fraction in _FRACTIONS.items():
            limit_ms: int | None = getattr(limit, f"{percentile_name}_ms")
            if limit_ms is not None and (tally.requests >= min_answers or min_answers == 1):
                measured_ms = tally.percentile_ms(fraction)
                yield _time(f"{percentile_name} of {name}", measured_ms, limit_ms)


def _time(what: str, measured_ms: int | None, limit_ms: int) -> ThresholdResult:
    return ThresholdResult(
        what=what,
        measured="none" if measured_ms is None else f"{measured_ms} ms",
        limit=f"<= {limit_ms} ms",
        is_met=measured_ms is None or measured_ms <= limit_ms,
    )


def _at_most(what: str, measured: int, limit: int) -> ThresholdResult:
    return ThresholdResult(
        what=what, measured=str(measured), limit=f"<= {limit}", is_met=measured <= limit
    )
