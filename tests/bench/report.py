"""A measurement, and the part of docs/performance.md that is made of it."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel

from services.common.topology import load_topology
from tests.bench.floor.plan import STRIPE, Hop, Plan
from tests.bench.rounds import GENERATOR, Figures, Findings, Spread
from tests.bench.shops import TOPOLOGY
from tests.bench.sides import FLOOR

PICTURE = "performance.svg"
_LIBRARIES = ("uvicorn", "fastapi", "grpcio", "aiohttp", "opentelemetry-sdk", "pydantic")


class Surroundings(BaseModel):
    """The command, the machine and the versions of a run."""

    command: str
    date: str
    processor: str
    cpus: int
    memory_gib: float
    system: str
    python: str
    libraries: dict[str, str]
    revision: str
    load_average: float

    def __str__(self) -> str:
        libraries = ", ".join(f"{name} {version}" for name, version in self.libraries.items())
        return (
            f"`{self.command}`, {self.date}, revision {self.revision}. Machine: {self.cpus} CPUs "
            f"({self.processor}), {self.memory_gib:.0f} GiB, {self.system}; its load average "
            f"before the run was {self.load_average:.1f}. Python {self.python}, {libraries}."
        )


class MeasuredRound(BaseModel):
    """The figures of one journey through one side in one round."""

    journey: str
    side: str
    figures: Figures


class Measurement(BaseModel):
    """All figures of one run, as kept in a file.

    :ivar abouts: the titles of the journeys, by name.
    """

    surroundings: Surroundings
    rounds: int
    seconds: float
    connections: int
    tracings: tuple[str, ...]
    abouts: dict[str, str]
    plan: Plan
    measured: list[MeasuredRound]

    def findings(self) -> Findings:
        """Returns the figures by journey and side."""
        findings = Findings()
        for each in self.measured:
            findings.add(each.journey, each.side, each.figures)
        return findings


def surroundings(target: str) -> Surroundings:
    """Returns the facts about this run and its machine.

    :param target: of the Makefile; the options are those of this process.
    """
    given = " ".join(sys.argv[1:])
    return Surroundings(
        command=f'make {target} ARGS="{given}"' if given else f"make {target}",
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        processor=_processor(),
        cpus=len(os.sched_getaffinity(0)),
        memory_gib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        libraries={name: importlib.metadata.version(name) for name in _LIBRARIES},
        revision=_revision(),
        load_average=os.getloadavg()[0],
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _revision() -> str:
    if shutil.which("git") is None:
        return "unknown"
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


def generated_part(measurement: Measurement) -> str:
    """Returns the part of the page that the measurement makes, as Markdown."""
    findings = measurement.findings()
    tables = (
        ("", _overview(measurement, findings)),
        ("### By service", _by_service(measurement, findings)),
        ("### Tracing", _by_tracing(measurement, findings)),
        ("### The floor's calls", _calls(measurement)),
    )
    parts = [
        f"{measurement.surroundings}",
        f"{measurement.rounds} rounds, {measurement.seconds:g} s for each load, "
        f"{measurement.connections} connections. Each figure is the median of the rounds, with "
        "the quartiles in parentheses.",
        f"![CPU time per request by service, beside the floor]({PICTURE})",
    ]
    for heading, lines in tables:
        parts += [*([heading] if heading else []), "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def _overview(measurement: Measurement, findings: Findings) -> Iterator[str]:
    yield from head(
        "",
        "CPU time",
        "the floor's",
        "ratio",
        "requests per second",
        "the floor's",
        "of the floor's rate",
        "p50, p99 at half of that rate",
        "the floor's",
    )
    for name, about in measurement.abouts.items():
        rate, floor_rate = findings.rate(name, TOPOLOGY), findings.rate(name, FLOOR)
        yield row(
            about,
            _ms(findings.cpu_ms(name, TOPOLOGY)),
            _ms(findings.cpu_ms(name, FLOOR)),
            _plain(findings.cpu_ratio(name, TOPOLOGY, FLOOR)),
            f"{rate.median:,.0f}",
            f"{floor_rate.median:,.0f}",
            f"{rate.median / floor_rate.median:.0%}",
            _latencies(findings, name, TOPOLOGY),
            _latencies(findings, name, FLOOR),
        )


def _latencies(findings: Findings, name: str, side: str) -> str:
    p50, p99 = (findings.latency_ms(name, side, percent).median for percent in (50, 99))
    return f"{p50:.1f} ms, {p99:.1f} ms"


def _by_service(measurement: Measurement, findings: Findings) -> Iterator[str]:
    services = [*load_topology().services, STRIPE, GENERATOR]
    titles = {STRIPE: "Stripe's stand-in", GENERATOR: "load generator"}
    yield from head("CPU ms per request", *(titles.get(name, name) for name in services))
    for name, about in measurement.abouts.items():
        for side, what in ((TOPOLOGY, about), (FLOOR, "… the floor")):
            used = findings.cpu_ms_by_service(name, side)
            cells = (used.get(service, 0.0) for service in services)
            yield row(what, *(f"{ms:.2f}" if ms >= 0.005 else "" for ms in cells))


def _by_tracing(measurement: Measurement, findings: Findings) -> Iterator[str]:
    yield from head(
        "CPU time",
        *measurement.tracings,
        *(f"ratio to the floor, {tracing}" for tracing in measurement.tracings),
    )
    for name, about in measurement.abouts.items():
        yield row(
            about,
            *(_ms(findings.cpu_ms(name, tracing)) for tracing in measurement.tracings),
            *(
                f"{findings.cpu_ratio(name, tracing, FLOOR).median:.2f}"
                for tracing in measurement.tracings
            ),
        )


def _calls(measurement: Measurement) -> Iterator[str]:
    yield from head("", "calls", "writes", "the answer", "the calls, in turn (+: at once)")
    for name, about in measurement.abouts.items():
        hop = measurement.plan.journeys[name]
        yield row(
            about,
            f"{hop.calls}",
            f"{hop.all_writes}",
            f"{hop.answer_bytes / 1000:.1f} KB",
            ", ".join(_named(hop)) or "none",
        )


def _named(hop: Hop) -> Iterator[str]:
    """Yields the stages below a hop, with what those call in turn in parentheses."""
    for stage in hop.stages:
        yield " + ".join(_whole(each) for each in stage)
    for each in hop.afterwards:
        yield f"afterwards {_whole(each)}"


def _whole(hop: Hop) -> str:
    name = f"{hop.service} `{hop.operation}`"
    below = ", ".join(_named(hop))
    return f"{name} ({below})" if below else name


def head(*cells: str) -> Sequence[str]:
    """Returns the first two lines of a table in Markdown."""
    return [row(*cells), "|" + "---|" * len(cells)]


def row(*cells: str) -> str:
    """Returns a line of a table in Markdown."""
    return "| " + " | ".join(cells) + " |"


def _ms(found: Spread) -> str:
    return f"{found.median:.2f} ms ({found.low:.2f} to {found.high:.2f})"


def _plain(found: Spread) -> str:
    return f"{found.median:.2f} ({found.low:.2f} to {found.high:.2f})"


def with_part(page: str, part: str, begin: str, end: str) -> str:
    """Returns a page with another text between two lines.

    :raises ValueError: a line is missing.
    """
    before, first, rest = page.partition(begin)
    _, last, after = rest.partition(end)
    if not first or not last:
        raise ValueError(f"the lines {begin.strip()} and {end.strip()} are missing")
    return before + first + part + last + after
