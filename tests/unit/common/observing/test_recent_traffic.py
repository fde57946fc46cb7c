"""What a process keeps of its latest calls: windows that slide, percentiles that are nearly exact,
and bounds that hold whatever is called.
"""

from __future__ import annotations

import math
from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from services.common.call_record import REFUSED, Call
from services.common.observing.label_values import OTHER
from services.common.observing.recent_traffic import (
    KEPT_SECONDS,
    MAX_EDGES,
    MAX_TIME_ERROR,
    MAX_TRACES,
    MAX_VERSIONS,
    SLOT_SECONDS,
    TREND_POINTS,
    WINDOWS_SECONDS,
    ProcessReport,
    RecentTraffic,
    Tally,
    TrafficReport,
    WayReport,
)
from tests.unit.common.kit import ManualClock

TIMES = st.lists(st.floats(0.1, 60_000), min_size=1, max_size=200)
# Seconds since the call before, and whether it failed.
EVENTS = st.lists(st.tuples(st.floats(0, 200), st.booleans()), max_size=60)


def call(callee: str = "order", status: str = "200", version: str = "v1", ms: float = 5.0) -> Call:
    return Call(callee, "GET /x", version, f"{callee}-1" if version else "", ms, status)


def one(report: TrafficReport) -> WayReport:
    (way,) = report.ways
    return way


@given(TIMES, st.integers(1, 100))
def test_a_percentile_is_nearly_that_of_the_nearest_rank(times: list[float], percent: int) -> None:
    recent = RecentTraffic(ManualClock())
    for milliseconds in times:
        recent.called("frontend", call(ms=milliseconds))
    exact = sorted(times)[math.ceil(percent / 100 * len(times)) - 1]
    found = one(recent.report(60)).tally.percentile_ms(percent)
    assert found == pytest.approx(exact, rel=MAX_TIME_ERROR + 1e-9)


def test_nothing_has_no_percentile() -> None:
    assert Tally().percentile_ms(99) is None


@given(EVENTS, st.sampled_from(WINDOWS_SECONDS))
def test_a_window_holds_what_happened_in_it_and_nothing_else(
    events: list[tuple[float, bool]], window_seconds: int
) -> None:
    clock = ManualClock()
    recent = RecentTraffic(clock)
    at: list[tuple[float, bool]] = []
    for pause_seconds, is_bad in events:
        clock.advance(pause_seconds)
        recent.called("frontend", call(status="503" if is_bad else "200"))
        recent.served("GET /x", 0.005, is_error=is_bad)
        at.append((clock(), is_bad))
    report = recent.report(window_seconds)
    assert window_seconds - SLOT_SECONDS <= report.seconds <= window_seconds
    within = [is_bad for moment, is_bad in at if moment >= clock() - report.seconds]
    tally = one(report).tally if events else Tally()
    assert (tally.calls, tally.errors) == (len(within), sum(within))
    assert (report.served.calls, report.served.errors) == (len(within), sum(within))


@given(EVENTS)
def test_what_two_processes_kept_adds_up(events: list[tuple[float, bool]]) -> None:
    clock = ManualClock()
    both, first, second = RecentTraffic(clock), RecentTraffic(clock), RecentTraffic(clock)
    for number, (milliseconds, is_bad) in enumerate(events):
        made = call(status="503" if is_bad else "200", ms=milliseconds)
        both.called("frontend", made)
        (first if number % 2 else second).called("frontend", made)
    sum_ = Tally()
    for recent in (first, second):
        for way in recent.report(60).ways:
            sum_.add(way.tally)
    assert sum_ == (one(both.report(60)).tally if events else Tally())


@pytest.mark.parametrize("window_seconds", WINDOWS_SECONDS)
def test_a_trend_shows_when_it_was(window_seconds: int) -> None:
    clock = ManualClock()
    recent = RecentTraffic(clock)
    point_seconds = window_seconds / TREND_POINTS
    for number in range(TREND_POINTS):
        for _ in range(number):
            recent.called("frontend", call())
        clock.advance(point_seconds)
    assert one(recent.report(window_seconds)).trend == list(map(float, range(TREND_POINTS)))


def test_it_tells_apart_what_went_wrong() -> None:
    recent = RecentTraffic(ManualClock())
    recent.called("frontend", call(status="denied"))
    recent.called("frontend", call(status="denied"))
    recent.called("frontend", call(status="403", version=""))
    recent.called("frontend", call(status=REFUSED, version=""))
    recent.called("frontend", call(status="unavailable", version=""), is_retry=True)
    by_version = {way.version: way.tally for way in recent.report(60).ways}
    service, nobody = by_version["v1"], by_version[""]
    assert (service.calls, service.denied, service.denied_before) == (2, 2, 0)
    assert (nobody.calls, nobody.denied, nobody.denied_before) == (2, 0, 1)
    assert (nobody.errors, nobody.retries, nobody.refused) == (1, 1, 1)


def test_the_latest_traces_are_kept_as_long_as_the_window() -> None:
    clock = ManualClock()
    recent = RecentTraffic(clock)
    for number in range(MAX_TRACES + 3):
        recent.called("frontend", call(), trace_id=f"trace-{number}")
        clock.advance(1)
    recent.called("frontend", call())
    traces = one(recent.report(60)).traces
    assert [trace.trace_id for trace in traces] == [f"trace-{7 - n}" for n in range(MAX_TRACES)]
    assert traces[0].age_seconds == 1
    clock.advance(100)
    assert one(recent.report(60)).traces == []
    assert len(one(recent.report(300)).traces) == MAX_TRACES


def test_versions_are_bounded_whoever_answers() -> None:
    recent = RecentTraffic(ManualClock())
    for number in range(3 * MAX_VERSIONS):
        recent.called("frontend", call(version=f"v{number}"))
    recent.called("frontend", call(version='"} 1\nfake'))
    versions = {way.version for way in recent.report(60).ways}
    assert versions == {*(f"v{number}" for number in range(MAX_VERSIONS)), OTHER}
    assert sum(way.tally.calls for way in recent.report(60).ways) == 3 * MAX_VERSIONS + 1


def test_edges_are_bounded_and_make_room_when_they_are_old() -> None:
    clock = ManualClock()
    recent = RecentTraffic(clock)
    for number in range(MAX_EDGES + 50):
        recent.called("frontend", call(f"service-{number}"))
    assert len(recent.report(60).ways) == MAX_EDGES
    clock.advance(KEPT_SECONDS + 2 * SLOT_SECONDS)
    recent.called("frontend", call("a-new-one"))
    assert [way.callee for way in recent.report(900).ways] == ["a-new-one"]


def test_versions_of_made_up_services_are_bounded_too() -> None:
    recent = RecentTraffic(ManualClock())
    for number in range(MAX_EDGES):
        assert recent.bounded(f"service-{number}", "v1") == "v1"
    assert recent.bounded("service-0", "v2") == "v2"
    assert (recent.bounded("one-more", "v1"), recent.bounded("one-more", "")) == (OTHER, "")


def test_what_is_ignored_is_not_counted() -> None:
    recent = RecentTraffic(ManualClock())
    recent.ignored.add("GET /mesh")
    recent.served("GET /mesh", 0.1, is_error=False)
    assert recent.report(60).served == Tally()


def test_a_report_survives_the_wire() -> None:
    recent = RecentTraffic(ManualClock())
    recent.called("frontend", call(ms=3.3), trace_id="t")
    told = ProcessReport("frontend", "v1", "frontend-1", ["order"], recent.report(60))
    wire = orjson.dumps(told, option=orjson.OPT_NON_STR_KEYS)
    assert TypeAdapter(ProcessReport).validate_python(orjson.loads(wire)) == told


@given(st.floats(0, 5000), st.floats(1, 5000), st.integers(1, 99))
def test_times_of_which_only_bounds_are_known_count_as_evenly_spread(
    above_ms: float, width_ms: float, percent: int
) -> None:
    tally = Tally()
    tally.add_times(100, above_ms=above_ms, up_to_ms=above_ms + width_ms)
    assert sum(tally.times.values()) == pytest.approx(100)
    # As histogram_quantile: https://prometheus.io/docs/prometheus/latest/querying/functions/
    linear = above_ms + width_ms * percent / 100
    found = tally.percentile_ms(percent)
    assert found == pytest.approx(linear, rel=2 * MAX_TIME_ERROR, abs=0.06)


def test_tallies_are_not_shared() -> None:
    first = Tally()
    first.add(replace(Tally(), calls=1, times={3: 1.0}))
    assert Tally().times == {}
