"""The reports of a run: a page with pictures, tables as CSV, and the record as JSON."""

from __future__ import annotations

import csv
import html
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from loadtest import knee
from loadtest.charts import ChartPoint, line_chart
from loadtest.recording import FILE, PERCENTILES, RequestTally, RunRecord, Verdict, group_of
from loadtest.shapes import Window

_REPORTS = Path("build/load")
_HEADINGS = ("requests", "failures", *(f"{name} ms" for name in PERCENTILES))
_PAGE_HEADINGS = ("requests", "per second", "failures", "failed", *_HEADINGS[2:], "slowest ms")
_MAX_POINTS = 240
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;margin:1rem 0}
td,th{padding:.2rem .7rem;text-align:right;vertical-align:top}
td:first-child,th:first-child{text-align:left;white-space:pre}
tr{border-bottom:1px solid #8884}tr.group{font-weight:bold}
.facts td{text-align:left}.facts td:first-child{opacity:.7}
svg{display:block;width:100%;height:auto;margin:1rem 0}
.met{color:#1a7f37;font-weight:bold}.missed{color:#b00020;font-weight:bold}
pre{overflow:auto}:root{color-scheme:light dark}
@media(prefers-color-scheme:dark){.met{color:#4ac26b}.missed{color:#ff7b72}}
"""


def new_folder(began_at: datetime, name: str) -> Path:
    """Returns where the reports of a run go, if its user does not say."""
    return _REPORTS / f"{began_at:%Y%m%d-%H%M%S}-{name}"


def summary(run: RunRecord) -> str:
    """Returns the verdict as text, and the knee if the run was to find it."""
    return f"{run.verdict}\n{knee.table(run)}" if run.shape == "steps" else f"{run.verdict}"


def keep(run: RunRecord, folder: Path) -> None:
    """Writes all reports of a run into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_text(run.model_dump_json(indent=1), encoding="utf-8")
    (folder / "report.html").write_text(page(run), encoding="utf-8")
    steps = ((name, *_row(of)) for name, of in run.steps.items())
    _write(folder / "steps.csv", ("step", *_HEADINGS), steps)
    seconds = ((each.at, each.group, *_row(each.tally)) for each in run.series)
    _write(folder / "seconds.csv", ("second", "group", *_HEADINGS), seconds)
    failures = ((each.step, each.reason, each.count) for each in run.failures)
    _write(folder / "failures.csv", ("step", "reason", "count"), failures)


def page(run: RunRecord) -> str:
    """Returns the report as one HTML file that needs no other."""
    parts = [
        f"<h1>Load test: {html.escape(run.label)}</h1>",
        _status(run.verdict),
        _facts(run),
        *(f"<p>{html.escape(note)}</p>" for note in run.verdict.notes),
        "<h2>Thresholds</h2>",
        _thresholds(run.verdict),
    ]
    if run.shape == "steps":
        parts.append(f"<h2>The knee</h2><pre>{html.escape(knee.table(run))}</pre>")
    parts += ["<h2>Over time</h2>", *charts(run), "<h2>By step</h2>", steps_table(run)]
    parts.append("<p>Response times have two significant digits, as locust counts them.</p>")
    if run.failures:
        failures = [(each.step, each.reason, str(each.count)) for each in run.failures]
        parts.append("<h2>Failures</h2>" + table(("step", "reason", "count"), failures))
    return document(f"Load test: {run.label}", parts)


def _status(verdict: Verdict) -> str:
    return f'<p class="{"met" if verdict.is_met else "missed"}">{verdict.missed}</p>'


def _facts(run: RunRecord) -> str:
    requests = run.all_requests()
    highest = max((window.level for window in run.windows), default=0)
    model = "open: shoppers arrive at a rate" if run.is_open else "closed: users wait for answers"
    facts = {
        "shop": run.base_url,
        "began": f"{run.began_at:%Y-%m-%d %H:%M:%S} UTC",
        "load": f"shape {run.shape}, up to {highest:.4g} {run.unit} ({model})",
        "duration": f"{run.seconds:.0f} s, of which {run.warm_up_seconds:.0f} s of warm-up are in "
        "no figure",
        "requests": f"{requests.requests:,}, {run.rate(requests.requests):.1f} per second; "
        f"{requests.failures:,} failed ({requests.failure_ratio:.2%})",
        "load test": f"{run.processes} process{'' if run.processes == 1 else 'es'}",
    }
    return f'<table class="facts">{"".join(map(_line, facts.items()))}</table>'


def _thresholds(verdict: Verdict) -> str:
    rows = "".join(
        _line(
            (check.what, check.measured, check.limit, "ok" if check.is_met else "MISSED"),
            "" if check.is_met else "missed",
        )
        for check in verdict.checks
    )
    return _table(("threshold", "measured", "limit", ""), rows)


def steps_table(run: RunRecord) -> str:
    """Returns a table of all requests, and of each group with its steps."""
    rows = [("all requests", run.all_requests())]
    for group in run.groups():
        rows.append((group, run.of_group(group)))
        rows += [
            (f"  {step.partition(': ')[2]}", tally)
            for step, tally in run.steps.items()
            if group_of(step) == group
        ]
    lines = "".join(
        _line((name, *_figures(run, tally)), "" if name.startswith(" ") else "group")
        for name, tally in rows
    )
    return _table(("group, step", *_PAGE_HEADINGS), lines)


def _figures(run: RunRecord, tally: RequestTally) -> Sequence[str]:
    times = [_or_nothing(each) for each in tally.percentiles_ms().values()]
    return (
        f"{tally.requests:,}",
        f"{run.rate(tally.requests):.1f}",
        f"{tally.failures:,}",
        f"{tally.failure_ratio:.2%}",
        *times,
        _or_nothing(max(tally.times_ms, default=None)),
    )


def document(title: str, parts: Iterable[str]) -> str:
    """Returns a whole page."""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style>{''.join(parts)}</html>\n"
    )


def charts(run: RunRecord) -> Sequence[str]:
    """Returns pictures of load, throughput and response times over one axis of time."""
    level: list[ChartPoint] = []
    for window in [Window(0, run.warm_up_seconds, run.windows[0].level), *run.windows]:
        level += [ChartPoint(window.begin, window.level), ChartPoint(window.end, window.level)]
    spans = _spans(run)
    every = f"each {_width(spans)} s" if _width(spans) > 1 else "each second"
    pictures: Mapping[str, Mapping[str, Sequence[ChartPoint]]] = {
        f"Load, {run.unit}": {"load": level},
        f"Requests per second, {every}": rates(run),
        f"Response times of all requests, ms, {every}": times(run),
    }
    end = max([window.end for window in run.windows] + [end for _, end in spans])
    return [
        line_chart(title, "s", lines, end=end, warm_up=run.warm_up_seconds)
        for title, lines in pictures.items()
    ]


def rates(run: RunRecord) -> dict[str, Sequence[ChartPoint]]:
    """Returns the requests per second, with and without failures, over the run."""
    answered: list[ChartPoint] = []
    failed: list[ChartPoint] = []
    for begin, end in _spans(run):
        tally = run.between(begin, end)
        width = end - begin
        answered.append(ChartPoint(begin, tally.succeeded / width))
        failed.append(ChartPoint(begin, tally.failures / width))
    return {"answered": answered, "failed": failed}


def times(run: RunRecord) -> dict[str, Sequence[ChartPoint]]:
    """Returns the percentiles of the response times, in milliseconds, over the run."""
    spans = [(begin, run.between(begin, end)) for begin, end in _spans(run)]
    return {
        name: [ChartPoint(begin, tally.percentile_ms(fraction)) for begin, tally in spans]
        for name, fraction in PERCENTILES.items()
    }


def _spans(run: RunRecord) -> Sequence[tuple[int, int]]:
    """Returns intervals of equal length, in whole seconds, so few that a picture shows them all."""
    first, last = int(run.warm_up_seconds), max((each.at for each in run.series), default=0) + 1
    width = max(1, (last - first) // _MAX_POINTS)
    return [(begin, begin + width) for begin in range(first, max(last - width + 1, first), width)]


def _width(spans: Sequence[tuple[int, int]]) -> int:
    return spans[0][1] - spans[0][0] if spans else 1


def _row(tally: RequestTally) -> Sequence[str]:
    times = [_or_nothing(each) for each in tally.percentiles_ms().values()]
    return (f"{tally.requests}", f"{tally.failures}", *times)


def _or_nothing(number: int | None) -> str:
    return "" if number is None else f"{number}"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns an HTML table."""
    return _table(headings, "".join(map(_line, rows)))


def _table(headings: Sequence[str], lines: str) -> str:
    head = "".join(f"<th>{html.escape(each)}</th>" for each in headings)
    return f"<table><tr>{head}</tr>{lines}</table>"


def _line(cells: Iterable[str], style: str = "") -> str:
    data = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
    return f'<tr class="{style}">{data}</tr>' if style else f"<tr>{data}</tr>"


def _write(file: Path, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as sink:
        writer = csv.writer(sink)
        writer.writerow(headings)
        writer.writerows(rows)
