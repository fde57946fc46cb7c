"""The record of a run: its figures by second and by step, as a file that reports are made of.

Nothing here needs locust. Locust counts by step for the whole run. `Timeline` counts by second, in
every process; the first process adds up what all have counted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from loadtest.settings import BadFile
from loadtest.shapes import Window

FILE = "run.json"
# Groups whose entries are no requests.
VISITS = "visits"
ARRIVALS = "arrivals"
_NO_REQUESTS = frozenset({VISITS, ARRIVALS})
# The group of requests that were refused with 429 or 503 and Retry-After.
SHED = "shed"
PERCENTILES: Mapping[str, float] = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class RequestTally(_Record):
    """The number of requests, of failures among them, and of each response time in milliseconds."""

    requests: int = 0
    failures: int = 0
    times_ms: dict[int, int] = {}

    def percentile_ms(self, fraction: float) -> int | None:
        """Returns the nearest-rank percentile; None without requests."""
        return percentile(self.times_ms, fraction)

    def percentiles_ms(self) -> Mapping[str, int | None]:
        """Returns all that are reported, by name."""
        return {name: self.percentile_ms(fraction) for name, fraction in PERCENTILES.items()}

    @property
    def succeeded(self) -> int:
        """The number of requests that did not fail."""
        return self.requests - self.failures

    @property
    def failure_ratio(self) -> float:
        """The share of the requests that failed."""
        return self.failures / max(self.requests, 1)


class Second(_Record):
    """The figures of one group of steps in one second.

    :ivar at: whole seconds from the start of the run.
    """

    at: int
    group: str
    tally: RequestTally


class Failure(_Record):
    """Equal failures of one step, and their number."""

    step: str
    reason: str
    count: int


class ThresholdResult(_Record):
    """One threshold, and the measured value."""

    what: str
    measured: str
    limit: str
    is_met: bool


class Verdict(_Record):
    """Whether a run keeps to its thresholds.

    :ivar notes: what else its reader needs to know, a line each.
    """

    checks: list[ThresholdResult]
    notes: list[str]

    @property
    def is_met(self) -> bool:
        """Whether the run keeps to all of them."""
        return all(check.is_met for check in self.checks)

    @property
    def missed(self) -> str:
        """How many thresholds the run misses, as a phrase."""
        number = sum(not check.is_met for check in self.checks)
        return f"{number} of {len(self.checks)} thresholds missed"

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
        return "\n".join([*lines, self.missed, *self.notes])


class RunRecord(_Record):
    """A run.

    :ivar is_open: whether levels are shoppers per second; otherwise they are users.
    :ivar warm_up_seconds: the first seconds, which are in no figure.
    :ivar windows: the stages, in seconds from the start of the run.
    """

    label: str
    base_url: str
    began_at: datetime
    shape: str
    is_open: bool
    warm_up_seconds: float
    seconds: float
    processes: int
    windows: list[Window]
    steps: dict[str, RequestTally]
    series: list[Second]
    failures: list[Failure]
    verdict: Verdict

    @property
    def unit(self) -> str:
        """What a level counts."""
        return "arrivals/s" if self.is_open else "users"

    def rate(self, number: int) -> float:
        """Returns how often per second something happened, without the warm-up."""
        return number / max(self.seconds - self.warm_up_seconds, 1)

    def judged_further(self, check: ThresholdResult, note: str) -> RunRecord:
        """Returns the run with one more threshold, and a note."""
        verdict = Verdict(checks=[*self.verdict.checks, check], notes=[*self.verdict.notes, note])
        return self.model_copy(update={"verdict": verdict})

    def groups(self) -> list[str]:
        """Returns the groups of the run's steps, each once, requests first."""
        names = dict.fromkeys(group_of(step) for step in self.steps)
        return sorted(names, key=lambda name: (name == VISITS, name))

    def of_group(self, group: str) -> RequestTally:
        """Returns the figures of a group for the whole run."""
        return merged(tally for step, tally in self.steps.items() if group_of(step) == group)

    def all_requests(self) -> RequestTally:
        """Returns the figures of all requests, without visits."""
        return requests_in(self.steps)

    def between(self, begin: float, end: float, groups: Iterable[str] = ()) -> RequestTally:
        """Returns the figures of whole seconds, of some groups or of all requests."""
        wanted = set(groups)
        return merged(
            each.tally
            for each in self.series
            if begin <= each.at and each.at + 1 <= end
            if (each.group in wanted if wanted else each.group not in _NO_REQUESTS)
        )


def group_of(step: str) -> str:
    """Returns the group of a step, which is named ``group: what``."""
    return step.partition(":")[0]


def requests_in(steps: Mapping[str, RequestTally]) -> RequestTally:
    """Returns the sum of those steps that are requests, not visits."""
    return merged(tally for step, tally in steps.items() if group_of(step) not in _NO_REQUESTS)


def percentile(times_ms: Mapping[int, int], fraction: float) -> int | None:
    """Returns the nearest-rank percentile of values that are counted; None when there are none."""
    rank, seen = math.ceil(fraction * sum(times_ms.values())), 0
    for milliseconds in sorted(times_ms):
        seen += times_ms[milliseconds]
        if seen >= rank:
            return milliseconds
    return None


def merged(tallies: Iterable[RequestTally]) -> RequestTally:
    """Returns the sum of several figures."""
    requests = failures = 0
    times_ms: Counter[int] = Counter()
    for tally in tallies:
        requests += tally.requests
        failures += tally.failures
        times_ms.update(tally.times_ms)
    return RequestTally(requests=requests, failures=failures, times_ms=dict(times_ms))


def rounded_ms(milliseconds: float) -> int:
    """Returns a time with two significant digits, as locust counts it."""
    if milliseconds < 100:
        return round(milliseconds)
    digits = len(str(int(milliseconds))) - 2
    return int(round(milliseconds, -digits))


class Key(NamedTuple):
    """A second of Unix time, and a group."""

    second: int
    group: str


class Timeline:
    """Counts requests by second and by group, in one process or in several."""

    def __init__(self) -> None:
        self._requests: Counter[Key] = Counter()
        self._failures: Counter[Key] = Counter()
        self._times_ms: dict[Key, Counter[int]] = {}

    def count(self, step: str, ended_at: float, milliseconds: float, *, has_failed: bool) -> None:
        """Counts one request.

        :param ended_at: Unix time in seconds.
        """
        key = Key(int(ended_at), group_of(step))
        self._requests[key] += 1
        self._failures[key] += has_failed
        self._times_ms.setdefault(key, Counter())[rounded_ms(milliseconds)] += 1

    def take(self) -> list[Any]:
        """Returns all counts as plain values, to send to another process, and forgets them."""
        taken = [
            [*key, count, self._failures[key], dict(self._times_ms[key])]
            for key, count in self._requests.items()
        ]
        self.clear()
        return taken

    def add(self, taken: Iterable[Sequence[Any]]) -> None:
        """Adds what `take` has returned in another process."""
        for second, group, requests, failures, times_ms in taken:
            key = Key(second, group)
            self._requests[key] += requests
            self._failures[key] += failures
            self._times_ms.setdefault(key, Counter()).update(times_ms)

    def clear(self) -> None:
        """Forgets everything."""
        self._requests.clear()
        self._failures.clear()
        self._times_ms.clear()

    def series(self, began_at: float) -> Iterator[Second]:
        """Yields all seconds and groups in order.

        :param began_at: when the run began, Unix time in seconds.
        """
        for key in sorted(self._requests):
            tally = RequestTally(
                requests=self._requests[key],
                failures=self._failures[key],
                times_ms=dict(self._times_ms[key]),
            )
            yield Second(at=key.second - int(began_at), group=key.group, tally=tally)


def read_run(path: Path) -> RunRecord:
    """Returns the run in a folder or file.

    :raises BadFile: there is none.
    """
    file = path / FILE if path.is_dir() else path
    try:
        return RunRecord.model_validate_json(file.read_bytes())
    except OSError as error:
        raise BadFile(f"{file}: the file cannot be read ({error.strerror}).") from error
    except ValidationError as error:
        raise BadFile(f"{file}: this is not a run of the load test.") from error
