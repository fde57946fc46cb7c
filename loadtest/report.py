"""The reports of a run: a page with pictures, tables as CSV, and the record as JSON."""

from __future__ import annotations

import csv
import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from loadtest import knee
from loadtest.charts import ChartPoint, line_chart
from loadtest.recording import FILE, RequestTally, RunRecord

_FRACTIONS = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
_MAX_POINTS = 240
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .7rem;text-align:right}
td:first-child,th:first-child{text-align:left;white-space:pre}
tr{border-bottom:1px solid #8884}
svg{max-width:100%;height:auto}.missed{color:#b00020;font-weight:bold}pre{overflow:auto}
:root{color-scheme:light dark}
"""


def keep(run: RunRecord, folder: Path, verdict: str) -> None:
    """Writes all reports of a run into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_text(run.model_dump_json(indent=1), encoding="utf-8")
    (folder / "report.html").write_text(page(run, verdict), encoding="utf-8")
    with (folder / "steps.csv").open("w", encoding="utf-8", newline="") as file:
        _write(file, ("step", *_HEADINGS), ((name, *_row(of)) for name, of in run.steps.items()))
    with (folder / "seconds.csv").open("w", encoding="utf-8", newline="") as file:
        rows = ((each.at, each.group, *_row(each.tally)) for each in run.series)
        _write(file, ("second", "group", *_HEADINGS), rows)
    with (folder / "failures.csv").open("w", encoding="utf-8", newline="") as file:
        failures = ((each.step, each.reason, each.count) for each in run.failures)
        _write(file, ("step", "reason", "count"), failures)


def page(run: RunRecord, verdict: str) -> str:
    """Returns the report as one HTML file that needs no other."""
    state = "all thresholds met" if run.is_met else "missed a threshold"
    facts = (
        f"{run.base_url}, {run.began_at:%Y-%m-%d %H:%M:%S} UTC, shape {run.shape}, "
        f"{'arrival rate' if run.is_open else 'closed loop'}, {run.seconds:.0f} s "
        f"(warm-up {run.warm_up_seconds:.0f} s), processes: {run.processes}"
    )
    parts = [
        f"<h1>Load test: {html.escape(run.label)}</h1>",
        f"<p>{html.escape(facts)}</p>",
        f'<p class="{"met" if run.is_met else "missed"}">{state}</p>',
        f"<pre>{html.escape(verdict)}</pre>",
        *charts(run),
    ]
    if run.shape == "steps":
        parts.append(f"<h2>The knee</h2><pre>{html.escape(knee.table(run))}</pre>")
    rows = [(group, *_row(run.of_group(group))) for group in run.groups()]
    rows += [(f"  {name}", *_row(tally)) for name, tally in run.steps.items()]
    parts.append(table(("group, step", *_HEADINGS), rows))
    if run.failures:
        failures = [(each.step, each.reason, str(each.count)) for each in run.failures]
        parts.append("<h2>Failures</h2>" + table(("step", "reason", "count"), failures))
    return document(f"Load test: {run.label}", parts)


def document(title: str, parts: Iterable[str]) -> str:
    """Returns a whole page."""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style>{''.join(parts)}</html>\n"
    )


def charts(run: RunRecord) -> Sequence[str]:
    """Returns pictures of what happened when."""
    level = [ChartPoint(0, run.windows[0].level)] if run.windows else []
    for window in run.windows:
        level += [ChartPoint(window.begin, window.level), ChartPoint(window.end, window.level)]
    return [
        line_chart(f"Load, {run.unit}", "s", {"load": level}),
        line_chart("Requests per second", "s", rates(run)),
        line_chart("Response time of all requests, ms", "s", times(run)),
    ]


def rates(run: RunRecord) -> dict[str, Sequence[ChartPoint]]:
    """Returns the requests per second, with and without failures, over the run."""
    answered: list[ChartPoint] = []
    failed: list[ChartPoint] = []
    for begin, end in _spans(run):
        tally = run.between(begin, end)
        width = end - begin
        answered.append(ChartPoint(begin, (tally.requests - tally.failures) / width))
        failed.append(ChartPoint(begin, tally.failures / width))
    return {"answered": answered, "failed": failed}


def times(run: RunRecord) -> dict[str, Sequence[ChartPoint]]:
    """Returns the percentiles of the response times, in milliseconds, over the run."""
    spans = [(begin, run.between(begin, end)) for begin, end in _spans(run)]
    return {
        name: [ChartPoint(begin, tally.percentile_ms(fraction)) for begin, tally in spans]
        for name, fraction in _FRACTIONS.items()
    }


def _spans(run: RunRecord) -> Sequence[tuple[int, int]]:
    first, last = int(run.warm_up_seconds), max((each.at for each in run.series), default=0) + 1
    width = max(1, (last - first) // _MAX_POINTS)
    return [(begin, begin + width) for begin in range(first, max(last - width + 1, first), width)]


_HEADINGS = ("requests", "failures", "p50 ms", "p95 ms", "p99 ms")


def _row(tally: RequestTally) -> tuple[str, ...]:
    percentiles = [tally.percentile_ms(fraction) for fraction in _FRACTIONS.values()]
    shown = ["" if each is None else str(each) for each in percentiles]
    return (str(tally.requests), str(tally.failures), *shown)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns an HTML table."""
    head = "".join(f"<th>{html.escape(each)}</th>" for each in headings)
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _write(file: object, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    writer = csv.writer(file)  # pyright: ignore[reportArgumentType]
    writer.writerow(headings)
    writer.writerows(rows)
