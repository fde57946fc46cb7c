"""Measures what each journey costs, beside the floor, and writes docs/performance.md."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from tests.bench.load import generator
from tests.bench.meter import needs_linux
from tests.bench.picture import bar_pairs, drawn
from tests.bench.report import (
    PICTURE,
    MeasuredRound,
    Measurement,
    generated_part,
    surroundings,
    with_part,
)
from tests.bench.rounds import measure
from tests.bench.shops import TOPOLOGY, TRACING
from tests.bench.sides import FLOOR, opened_sides

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/performance.md"
FOLDER = ROOT / "build/bench"
BEGIN = "<!-- figures: made by `make bench` -->\n"
END = "<!-- end of figures -->\n"


def measured(rounds: int, seconds: float, connections: int) -> Measurement:
    """Measures all journeys through all sides.

    :param seconds: how long each load takes.
    """
    here = surroundings("bench")  # with the load average before the run
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    with generator() as sending, opened_sides(FOLDER, list(TRACING)) as (plan, sides):
        findings = measure(
            sides,
            sending,
            rounds=rounds,
            seconds=seconds,
            connections=connections,
            with_latencies=(TOPOLOGY, FLOOR),
            say=lambda text: print(text, flush=True),
        )
    return Measurement(
        surroundings=here,
        rounds=rounds,
        seconds=seconds,
        connections=connections,
        tracings=tuple(TRACING),
        abouts={name: journey.about for name, journey in sides[0].journeys.items()},
        plan=plan,
        measured=[
            MeasuredRound(journey=journey, side=side, figures=figures)
            for (journey, side), found in findings.figures.items()
            for figures in found
        ],
    )


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each load")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--dry-run", action="store_true", help="print, and leave the page")
    parser.add_argument(
        "--of", type=Path, metavar="FILE", help="measure nothing: take what a run has kept"
    )
    arguments = parser.parse_args()
    if arguments.of is None:
        needs_linux()
        measurement = measured(arguments.rounds, arguments.seconds, arguments.connections)
        file = FOLDER / "measurement.json"
        file.write_text(measurement.model_dump_json(), encoding="utf-8")
        print(f"kept in {file.relative_to(ROOT)}")
    else:
        measurement = Measurement.model_validate_json(arguments.of.read_bytes())
    part = generated_part(measurement)
    print(part)
    if not arguments.dry_run:
        page = with_part(PAGE.read_text(encoding="utf-8"), part, BEGIN, END)
        PAGE.write_text(page, encoding="utf-8")
        PAGE.with_name(PICTURE).write_text(drawn(bar_pairs(measurement)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
