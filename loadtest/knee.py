"""The knee of a shop: the highest load with which its throughput still grows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from loadtest.recording import PERCENTILES, RequestTally, RunRecord

# The first part of a step, in which the step before still has an effect.
_SETTLING = 0.25
# A step is beyond the knee if its throughput is below this share of what the steps before promise,
# if more than this share of its requests fails, or if its p95 is above this multiple of the first
# step's and above this time, which people notice.
_MIN_SHARE = 0.8
_MAX_FAILURES = 0.01
_MAX_SLOWDOWN = 10.0
_NOTICED_MS = 500


@dataclass(frozen=True, slots=True)
class LoadLevel:
    """One level of a run.

    :ivar requests_per_second: answered without a failure.
    :ivar why_beyond: why this level is too much; empty if it is not.
    """

    level: float
    requests_per_second: float
    tally: RequestTally
    why_beyond: str = ""


def steps_of(run: RunRecord) -> Sequence[LoadLevel]:
    """Returns the levels of a run, and for each that was too much, why."""
    steps: list[LoadLevel] = []
    for window in run.windows:
        begin = window.begin + _SETTLING * (window.end - window.begin)
        # Whole seconds only, of which the record consists.
        first, last = int(begin) + 1, int(window.end)
        tally = run.between(first, last)
        step = LoadLevel(window.level, tally.succeeded / max(last - first, 1), tally)
        why = _why_beyond(steps, step) if steps else _failing(step)
        steps.append(replace(step, why_beyond=why))
    return steps


def knee(steps: Sequence[LoadLevel]) -> LoadLevel | None:
    """Returns the last level before the first that is too much; None if the first is.

    If no level is too much, this is the last one, and the knee is above it: see `is_reached`.
    """
    found: LoadLevel | None = None
    for step in steps:
        if step.why_beyond:
            break
        found = step
    return found


def is_reached(steps: Sequence[LoadLevel]) -> bool:
    """Returns whether some level was too much."""
    return any(step.why_beyond for step in steps)


def table(run: RunRecord) -> str:
    """Returns the levels as text, with the knee in the last line."""
    steps = steps_of(run)
    heads = "".join(f"{name:>8}" for name in PERCENTILES)
    lines = [f"{run.unit:>11}  requests/s  failed{heads}"]
    for step in steps:
        times = step.tally.percentiles_ms().values()
        shown = "".join(f"{'none' if each is None else f'{each} ms':>8}" for each in times)
        lines.append(
            f"{step.level:>11.4g}  {step.requests_per_second:>10.1f}  "
            f"{step.tally.failure_ratio:>6.1%}{shown}  {step.why_beyond}".rstrip()
        )
    found = knee(steps)
    if found is None:
        lines.append("knee: below the first step; begin lower")
    elif not is_reached(steps):
        lines.append(f"knee: above {found.level:.4g} {run.unit}; go higher")
    else:
        lines.append(
            f"knee: {found.level:.4g} {run.unit}, with {found.requests_per_second:.1f} requests/s"
        )
    return "\n".join(lines)


def _why_beyond(before: Sequence[LoadLevel], step: LoadLevel) -> str:
    # All good steps together, since by chance a single one has too few or too many requests.
    good = [each for each in before if not each.why_beyond] or before
    rates, levels = (
        sum(each.requests_per_second for each in good),
        sum(each.level for each in good),
    )
    promised = rates / levels * step.level
    if step.requests_per_second < _MIN_SHARE * promised:
        share = step.requests_per_second / promised
        return f"only {share:.0%} of the throughput that the steps before promise"
    first_ms, step_ms = (each.tally.percentile_ms(0.95) or 0 for each in (before[0], step))
    if step_ms > max(_MAX_SLOWDOWN * first_ms, _NOTICED_MS):
        return f"p95 is {step_ms / max(first_ms, 1):.0f} times that of the first step"
    return _failing(step)


def _failing(step: LoadLevel) -> str:
    if step.tally.failure_ratio > _MAX_FAILURES:
        return "more than 1 % failed"
    return "" if step.tally.requests else "no answers"
