"""Records of runs, for the tests of what is made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from loadtest.recording import RequestTally, RunRecord, Second, Verdict, merged
from loadtest.shapes import Window


def made_up_run(
    levels: Sequence[float],
    second: Callable[[float], RequestTally],
    *,
    label: str = "made up",
    shape: str = "steps",
    is_open: bool = False,
    seconds_each: int = 10,
) -> RunRecord:
    """A run of several levels, without a warm-up.

    :param second: returns what happens in a second at a level.
    """
    windows = [
        Window(index * seconds_each, (index + 1) * seconds_each, level)
        for index, level in enumerate(levels)
    ]
    series = [
        Second(at=at, group="pages", tally=second(window.level))
        for window in windows
        for at in range(int(window.begin), int(window.end))
    ]
    return RunRecord(
        label=label,
        base_url="http://127.0.0.1:8080",
        began_at=datetime(2026, 8, 1, tzinfo=UTC),
        shape=shape,
        is_open=is_open,
        warm_up_seconds=0,
        seconds=seconds_each * len(levels),
        processes=1,
        windows=windows,
        steps={"pages: home": merged(each.tally for each in series)},
        series=series,
        failures=[],
        verdict=Verdict(checks=[], notes=[]),
    )


def took(requests: int, milliseconds: int, *, failures: int = 0) -> RequestTally:
    """Requests that all took the same time."""
    return RequestTally(requests=requests, failures=failures, times_ms={milliseconds: requests})
