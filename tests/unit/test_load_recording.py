"""What a run leaves behind, and the reports that are made of it."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import pytest

from loadtest import charts, report
from loadtest.charts import ChartBar, ChartPoint
from loadtest.recording import (
    RequestTally,
    ThresholdResult,
    Timeline,
    percentile,
    read_run,
    rounded_ms,
)
from loadtest.settings import BadFile
from tests.unit.load_runs import made_up_run, took


@pytest.mark.parametrize(
    ("times_ms", "expected"),
    [({}, None), ({7: 1}, 7), ({1: 95, 2: 5}, 1), ({2: 6, 1: 94}, 2), ({1: 19, 9: 1}, 1)],
)
def test_the_percentile_is_that_of_the_nearest_rank(
    times_ms: Mapping[int, int], expected: int | None
):
    assert percentile(times_ms, 0.95) == expected


@pytest.mark.parametrize(
    ("milliseconds", "expected"), [(0.4, 0), (99.4, 99), (147, 150), (3432, 3400), (58760, 59000)]
)
def test_times_have_two_digits_as_in_locust(milliseconds: float, expected: int):
    assert rounded_ms(milliseconds) == expected


def test_processes_are_counted_together():
    first, second, master = Timeline(), Timeline(), Timeline()
    first.count("pages: home", 1000.2, 12, has_failed=False)
    second.count("pages: product", 1000.9, 12, has_failed=True)
    second.count("orders: inbox", 1002.0, 30, has_failed=False)

    for worker in (first, second, first):
        master.add(worker.take())

    found = {(each.at, each.group): each.tally for each in master.series(1000.0)}
    assert found == {
        (0, "pages"): RequestTally(requests=2, failures=1, times_ms={12: 2}),
        (2, "orders"): RequestTally(requests=1, times_ms={30: 1}),
    }


def test_a_time_between_counts_whole_seconds_only():
    run = made_up_run([10], lambda _: took(3, 10))

    assert run.between(2, 4).requests == 6
    assert run.between(2.5, 4).requests == 3


def test_a_run_can_be_read_again(tmp_path: Path):
    run = made_up_run([10, 20], lambda level: took(int(level), 10))

    report.keep(run, tmp_path)

    assert read_run(tmp_path) == run == read_run(tmp_path / "run.json")
    with (tmp_path / "steps.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"step": "pages: home", "requests": "300", "failures": "0"}
        | {"p50 ms": "10", "p95 ms": "10", "p99 ms": "10"}
    ]


@pytest.mark.parametrize("content", [None, b"{}", b"no JSON"])
def test_what_is_no_run_is_told(tmp_path: Path, content: bytes | None):
    if content is not None:
        (tmp_path / "run.json").write_bytes(content)

    with pytest.raises(BadFile, match=r"run\.json: (the file cannot be read|this is not a run)"):
        read_run(tmp_path)


def test_the_page_says_what_was_missed_and_escapes_what_it_shows():
    slow = ThresholdResult(what="p95 of <b>", measured="9 ms", limit="<= 5 ms", is_met=False)
    run = made_up_run([10], lambda _: took(3, 10, failures=1)).judged_further(slow, "this & that")

    page = report.page(run)

    assert "1 of 1 thresholds missed" in page
    assert "p95 of &lt;b&gt;" in page
    assert "this &amp; that" in page
    assert "30, 3.0 per second; 10 failed (33.33%)" in page


def test_a_table_has_each_step_below_its_group():
    run = made_up_run([10], lambda _: took(3, 10))

    text = "".join(ElementTree.fromstring(report.steps_table(run)).itertext())  # noqa: S314  our own

    assert text.index("all requests") < text.index("pages") < text.index("  home")


@pytest.mark.parametrize(
    ("highest", "labels"),
    [(0, ["0", "1"]), (21, ["0", "5", "10", "15", "20", "25"]), (0.9, ["0", "0.2", "0.8", "1"])],
)
def test_an_axis_has_round_numbers(highest: float, labels: list[str]):
    picture = charts.line_chart("Load", "s", {"load": [ChartPoint(100, highest)]})

    root = ElementTree.fromstring(picture)  # noqa: S314  our own
    shown = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert set(labels) <= set(shown), shown


def test_pictures_are_svg():
    lines = {
        "a < b": [ChartPoint(0, 1), ChartPoint(1, None), ChartPoint(2, 5)],
        "c": [ChartPoint(0, 0)],
    }
    bars = [ChartBar("pages", (10, 20)), ChartBar("orders", (0, 3.5))]

    picture = charts.stacked(
        [
            charts.line_chart("Times, ms & more", "s", lines),
            charts.line_chart("Nothing", "s", {}),
            charts.bar_chart("p95, ms", ("before", "after"), bars),
        ]
    )

    root = ElementTree.fromstring(picture)  # noqa: S314  our own
    assert root.tag.endswith("svg")
    drawn = [each.get("d", "") for each in root.iter("{http://www.w3.org/2000/svg}path")]
    # A gap interrupts a line.
    assert any(each.count("M") == 2 and "L" not in each for each in drawn)
