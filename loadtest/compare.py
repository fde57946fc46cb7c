"""Compares two runs: ``python -m loadtest.compare BEFORE AFTER``.

BEFORE and AFTER are the folders of two runs, or their run.json. Prints a table, and writes a page
and a picture.
"""

from __future__ import annotations

import argparse
import html
import sys
from collections.abc import Sequence
from pathlib import Path

from loadtest import charts, report
from loadtest.charts import ChartBar
from loadtest.recording import PERCENTILES, RequestTally, RunRecord, read_run
from loadtest.settings import BadFile

_ALL = "all requests"
_NO_PERCENTILE = "none"


def comparison(before: RunRecord, after: RunRecord) -> list[list[str]]:
    """Returns a table: for all requests and for each group, both runs and their ratio."""
    labels = [label(before, after), label(after, before)]
    rows = [["", "", *labels, "ratio"]]
    for group in [_ALL, *_groups(before, after)]:
        old, new = _tally(before, group), _tally(after, group)
        rates = [before.rate(old.succeeded), after.rate(new.succeeded)]
        rows.append(
            [group, "per second", *(f"{rate:.1f}" for rate in rates), _ratio(*rates)],
        )
        rows.append(["", "failed", *(f"{each.failure_ratio:.2%}" for each in (old, new)), ""])
        for name, fraction in PERCENTILES.items():
            values = [each.percentile_ms(fraction) for each in (old, new)]
            shown = [_NO_PERCENTILE if each is None else f"{each} ms" for each in values]
            rows.append(["", name, *shown, _ratio(values[0] or 0, values[1] or 0)])
    return rows


def label(run: RunRecord, other: RunRecord) -> str:
    """Returns the name of a run, with its time if the other one has the same name."""
    return run.label if run.label != other.label else f"{run.label} {run.began_at:%H:%M:%S}"


def notes(before: RunRecord, after: RunRecord) -> list[str]:
    """Returns why the comparison is doubtful: the runs had different loads."""
    plans = [
        (run.shape, run.is_open, run.processes, [tuple(window) for window in run.windows])
        for run in (before, after)
    ]
    doubt = "Not the same load: shape, level, duration or processes differ."
    return [doubt] if plans[0] != plans[1] else []


def pictures(before: RunRecord, after: RunRecord) -> Sequence[str]:
    """Returns SVG elements: response times by group, and over the time of both runs."""
    labels = [label(before, after), label(after, before)]
    groups = [_ALL, *_groups(before, after)]
    bars = [
        charts.bar_chart(
            f"{name} of the response times, ms",
            labels,
            [
                ChartBar(
                    group,
                    [_tally(run, group).percentile_ms(fraction) or 0 for run in (before, after)],
                )
                for group in groups
            ],
        )
        for name, fraction in PERCENTILES.items()
    ]
    runs = dict(zip(labels, (before, after), strict=True))
    rates = {name: report.rates(run)["answered"] for name, run in runs.items()}
    times = {name: report.times(run)["p95"] for name, run in runs.items()}
    return [
        *bars,
        charts.line_chart("Answered requests per second", "s", rates),
        charts.line_chart("p95 of all requests, ms", "s", times),
    ]


def page(before: RunRecord, after: RunRecord) -> str:
    """Returns the comparison as one HTML file that needs no other."""
    headings, *rows = comparison(before, after)
    facts = "".join(
        f"<li>{html.escape(label(run, other))}: {html.escape(run.base_url)}, "
        f"{run.began_at:%Y-%m-%d %H:%M:%S} UTC, shape {run.shape}, {run.seconds:.0f} s, "
        f"{run.verdict.missed}</li>"
        for run, other in ((before, after), (after, before))
    )
    doubts = "".join(f'<p class="missed">{each}</p>' for each in notes(before, after))
    parts = [
        "<h1>Two runs of the load test</h1>",
        f"<ul>{facts}</ul>{doubts}",
        *pictures(before, after),
        report.table(headings, rows),
    ]
    return report.document("Two runs of the load test", parts)


def as_text(rows: Sequence[Sequence[str]]) -> str:
    """Returns a table as text."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if index < 2 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _groups(before: RunRecord, after: RunRecord) -> list[str]:
    return list(dict.fromkeys([*before.groups(), *after.groups()]))


def _tally(run: RunRecord, group: str) -> RequestTally:
    return run.all_requests() if group == _ALL else run.of_group(group)


def _ratio(before: float, after: float) -> str:
    return f"{after / before:.2f}" if before and after else ""


def main() -> int:
    """Returns the exit status: 2 if one of the runs cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.compare",
        description="Compares two runs of the load test. Prints a table, and writes a page "
        "(comparison.html) and a picture (comparison.svg).",
    )
    parser.add_argument("before", type=Path, metavar="BEFORE", help="the folder of the first run")
    parser.add_argument("after", type=Path, metavar="AFTER", help="the folder of the second run")
    arguments = parser.parse_args()
    try:
        before, after = read_run(arguments.before), read_run(arguments.after)
    except BadFile as error:
        print(error, file=sys.stderr)
        return 2
    given: Path = arguments.after
    folder = given if given.is_dir() else given.parent
    (folder / "comparison.html").write_text(page(before, after), encoding="utf-8")
    picture = charts.stacked(pictures(before, after))
    (folder / "comparison.svg").write_text(picture, encoding="utf-8")
    print(as_text(comparison(before, after)))
    for note in notes(before, after):
        print(note)
    print(f"report: {folder / 'comparison.html'}, {folder / 'comparison.svg'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
