"""Sends a shop twice the load of its knee: ``python -m loadtest.overload --base-url URL``.

First the shape `steps` finds the knee, by arrival rates. Then the shape `spike` sends half of the
knee's rate, twice this rate, and half of it again. A shop passes if it refuses at once what is too
much (429 or 503 with Retry-After), loses no purchase, and is as fast as before within seconds.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from loadtest import knee, report
from loadtest.options import LOCUST
from loadtest.recording import SHED, RunRecord, ThresholdResult, Verdict, read_run
from loadtest.settings import BadFile
from loadtest.shapes import SHAPES
from loadtest.thresholds import at_least

_FACTOR = 2.0
_RECOVERY_SECONDS = 10
# The shop has recovered at the first interval of this length in which no request fails or is
# refused, and the p95 is at most this multiple of that before the overload, or this time.
_CALM_SECONDS = 3
_CALM_FACTOR = 2.0
_CALM_MS = 100
_WITHOUT_LIMIT = ("pages", "catalogue", "account", "checkout", "orders")


def recovery_seconds(run: RunRecord) -> int | None:
    """Returns how long after the overload the shop recovers; None if it does not.

    :param run: one with the shape `spike`.
    """
    calm, overload, after = run.windows
    before_ms = run.between(calm.begin, calm.end).percentile_ms(0.95) or 0
    limit_ms = max(_CALM_FACTOR * before_ms, _CALM_MS)
    first, last = int(overload.end) + 1, int(after.end) - _CALM_SECONDS
    for at in range(first, last + 1):
        tally = run.between(at, at + _CALM_SECONDS)
        refused = run.between(at, at + _CALM_SECONDS, [SHED]).requests
        is_fast = (tally.percentile_ms(0.95) or 0) <= limit_ms
        if tally.requests and not tally.failures and not refused and is_fast:
            return at - first
    return None


def judge(run: RunRecord) -> Verdict:
    """Returns the verdict on an overload: the run's own thresholds, shedding and recovery."""
    overload = run.windows[1]
    during = run.between(overload.begin, overload.end)
    refused = run.between(overload.begin, overload.end, [SHED])
    recovered = recovery_seconds(run)
    shown = "never" if recovered is None else f"{recovered} s"
    checks = [
        *run.verdict.checks,
        at_least("refused requests", refused.requests, 1),
        ThresholdResult(
            what="recovery",
            measured=shown,
            limit=f"<= {_RECOVERY_SECONDS} s",
            is_met=recovered is not None and recovered <= _RECOVERY_SECONDS,
        ),
    ]
    share = refused.requests / max(during.requests, 1)
    note = f"refused during the overload: {refused.requests} of {during.requests} ({share:.0%})"
    return Verdict(checks=checks, notes=[*run.verdict.notes, note])


def _run(options: Sequence[str]) -> None:
    # `judge` reads the run's record, so the exit status does not matter.
    subprocess.run([*LOCUST, *options], check=False)  # noqa: S603  the project's own program


def _find_knee(arguments: argparse.Namespace, folder: Path) -> float | None:
    """Returns the rate of the knee; None, after a message, if the steps do not reach it."""
    _run(
        [
            *("--host", arguments.base_url, "--shape", "steps", "--label", "steps"),
            *("--arrivals-per-second", str(arguments.rate), "--steps", str(arguments.steps)),
            *("--run-time", arguments.steps_time, "--report", str(folder / "steps")),
            *arguments.locust,
        ]
    )
    steps = knee.steps_of(read_run(folder / "steps"))
    found = knee.knee(steps)
    if found is None:
        print("The first step is too much already: use a lower --rate.", file=sys.stderr)
        return None
    if not knee.is_reached(steps):
        print("The last step is not too much yet: use a higher --rate.", file=sys.stderr)
        return None
    return found.level


def _overload(arguments: argparse.Namespace, folder: Path, rate: float) -> RunRecord:
    changes = [f"{group}.p95_ms=null" for group in _WITHOUT_LIMIT]
    _run(
        [
            *("--host", arguments.base_url, "--shape", "spike", "--accept-shedding"),
            *("--arrivals-per-second", str(_FACTOR * rate), "--label", "overload"),
            *("--run-time", arguments.spike_time, "--report", str(folder / "overload")),
            *(part for change in changes for part in ("--threshold", change)),
            *arguments.locust,
        ]
    )
    return read_run(folder / "overload")


def main() -> int:
    """Returns the exit status: 1 if the shop does not pass, 2 if the knee is not found."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.overload",
        description="Finds the knee of a shop, sends twice that load, and checks that the shop "
        "refuses fast, loses no purchase, and recovers. All options of the load test can follow.",
    )
    parser.add_argument("--base-url", required=True, metavar="URL", help="where the shop is")
    usual = SHAPES["steps"].users / 10
    parser.add_argument(
        "--rate",
        type=float,
        default=2 * usual,
        metavar="NUMBER",
        help=f"shoppers per second in the last step ({2 * usual:.0f})",
    )
    parser.add_argument("--steps", type=int, default=10, metavar="NUMBER", help="how many (10)")
    parser.add_argument(
        "--knee", type=float, metavar="NUMBER", help="shoppers per second, if it is known"
    )
    for name in ("steps", "spike"):
        seconds = f"{SHAPES[name].seconds:.0f}s"
        parser.add_argument(
            f"--{name}-time",
            default=seconds,
            metavar="TIME",
            help=f"how long this shape takes ({seconds})",
        )
    arguments, locust = parser.parse_known_args()
    arguments.locust = locust
    folder = report.new_folder(datetime.now(UTC), "overload")
    try:
        rate = arguments.knee or _find_knee(arguments, folder)
        if rate is None:
            return 2
        print(f"\nThe knee is {rate:.4g} arrivals/s; now twice that.\n", flush=True)
        verdict = judge(_overload(arguments, folder, rate))
    except BadFile as error:
        print(error, file=sys.stderr)
        return 2
    print(f"\nknee: {rate:.4g} arrivals/s\n{verdict}\nreports: {folder}")
    return 0 if verdict.is_met else 1


if __name__ == "__main__":
    sys.exit(main())
