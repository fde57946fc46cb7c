"""Checks the load test itself: ``python tools/with_shop.py -- python -m loadtest.check``.

Runs it for seconds each, against the shop of BASE_URL with its data in SHOP_DATA: all shapes, an
arrival rate, gRPC, several processes, missed thresholds, reports, and a comparison.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from loadtest.options import LOCUST
from loadtest.recording import RunRecord, read_run
from loadtest.shapes import SHAPES

_TIMEOUT_SECONDS = 300.0
_POLL_SECONDS = 0.1
_LINES = 40
# The machine may be busy with other work: here no figure is a matter of speed.
_PATIENT = tuple(
    part
    for group in ("pages", "catalogue", "account", "checkout", "orders", "rpc")
    for part in ("--threshold", f"{group}.p95_ms=20000")
)
_FEW = (
    *("--threshold", "requests.min=5", "--threshold", "purchases.min_confirmed=0"),
    *("--threshold", "arrivals.max_late_ms=20000"),
)
# For runs that do not need a correct answer to each request, since a busy machine may not
# answer in time. The first run checks that every answer is correct.
_TOLERANT = (
    *("--threshold", "failures.max_ratio=1"),
    *("--threshold", "purchases.max_failed=1000000"),
)
# So that in a few seconds there are orders of both kinds.
_MOSTLY_BUYERS = """
Browser: {weight: 1, think_seconds: 0.1, journeys: {look_at_product: 1}}
PageBuyer: {weight: 1, think_seconds: 0.1, journeys: {buy: 1}}
Buyer: {weight: 1, think_seconds: 0.1, journeys: {buy: 1}}
RpcCaller: {weight: 0, think_seconds: 0.1, journeys: {get_products: 1}}
"""


class Failed(Exception):
    """The load test does not work; the message says why."""


class Check:
    """Runs of the load test against one shop.

    :param folder: where their reports go.
    """

    def __init__(self, base_url: str, shop_data: str, folder: Path) -> None:
        self._base_url = base_url
        self._shop_data = shop_data
        self._folder = folder

    def run(self, name: str, *options: str, status: int = 0) -> str:
        """Runs the load test, and returns its output.

        :raises Failed: it ends with another status.
        """
        return self._finish(name, self._start(name, *options), status)

    def record(self, name: str) -> RunRecord:
        """Returns the record of a run that has ended."""
        return read_run(self._folder / name)

    def usual(self) -> None:
        """Checks a run of buyers, with metrics, reports, and balanced books."""
        changes = ("--threshold", "requests.min=20", "--threshold", "purchases.min_confirmed=1")
        metrics_port = _free_port()
        journeys = self._folder / "buyers.yaml"
        journeys.write_text(_MOSTLY_BUYERS, encoding="utf-8")
        process = self._start(
            "usual",
            *("--users", "6", "--run-time", "8", "--warm-up", "1", *changes),
            *("--journeys", str(journeys)),
            *("--metrics-port", str(metrics_port), "--shop-data", self._shop_data),
        )
        _wait_for_metrics(process, metrics_port)
        said = self._finish("usual", process, 0)
        _expect("sold = charged" in said, f"no audit of the books: {said}")
        record = self.record("usual")
        _expect(record.warm_up_seconds == 1, "the warm-up is not in the record")
        early = record.between(0, 1)
        _expect(early.requests == 0, "requests of the warm-up are counted")
        # An account is made once, often in the warm-up; orders are looked at now and then.
        groups = {"pages", "catalogue", "checkout"}
        _expect(groups <= set(record.groups()), f"steps of {record.groups()} only")
        for file in ("report.html", "locust.html", "steps.csv", "seconds.csv", "failures.csv"):
            _expect((self._folder / "usual" / file).stat().st_size > 0, f"{file} is empty")

    def missed_threshold(self) -> None:
        """Checks that a missed threshold ends with status 1, and that the verdict names it."""
        changes = ("--threshold", "requests.min=1000000")
        said = self.run("missed", "--users", "4", "--run-time", "2", *changes, status=1)
        _expect(any(_is_missed(line, "requests") for line in said.splitlines()), said)

    def abort(self) -> None:
        """Checks that a run ends as soon as it misses a threshold."""
        began = time.monotonic()
        changes = ("--abort-on-fail", *_TOLERANT, "--threshold", "pages.p95_ms=1")
        said = self.run("abort", "--users", "20", "--run-time", "300", *changes, status=1)
        _expect(time.monotonic() - began < 100, "the run was not aborted")
        _expect("aborted: p95 of pages" in said, said)
        _expect(any(_is_missed(line, "p95 of pages") for line in said.splitlines()), said)

    def shape(self, name: str, *options: str, users: int | None = None) -> Callable[[], None]:
        """Returns the check of a shape.

        :param users: the highest level; None for that of the shape.
        """
        given = () if users is None else ("--users", f"{users}")

        def check() -> None:
            said = self.run(name, "--shape", name, *given, *_TOLERANT, *options)
            record = self.record(name)
            _expect(record.all_requests().requests > 0, f"{name}: no requests")
            highest = max(window.level for window in record.windows)
            _expect(highest == (users or SHAPES[name].users), f"{name}: up to {highest} users")
            if name == "steps":
                _expect(len(record.windows) == 2, f"{name}: {record.windows}")
                _expect("knee: " in said, said)

        return check

    def arrivals(self) -> None:
        """Checks an arrival rate in two processes."""
        said = self.run(
            "arrivals",
            *("--arrivals-per-second", "4", "--run-time", "8", "--processes", "2"),
            *(*_TOLERANT, "Browser"),
        )
        record = self.record("arrivals")
        _expect(record.is_open and record.processes == 2, "not an arrival rate in two processes")
        visits = record.of_group("visits").requests
        # 32 on average, and fewer on a machine so busy that its processes start late. By chance
        # there are more than this once in 90,000 runs.
        _expect(2 < visits < 60, f"{visits} visits instead of about 32")
        _expect("p99 of late arrivals" in said, said)

    def turned_away(self) -> None:
        """Checks that shoppers whom the load test cannot let in are counted as failures."""
        said = self.run(
            "turned-away",
            *("--arrivals-per-second", "5", "--run-time", "3", "--max-visits", "0"),
            *("--threshold", "requests.min=0"),
            status=1,
        )
        _expect(any(_is_missed(line, "turned away") for line in said.splitlines()), said)

    def rpc(self) -> None:
        """Checks calls by gRPC."""
        self.run(
            "rpc",
            *("--users", "2", "--run-time", "3", "--shop-data", self._shop_data),
            *("--threshold", "purchases.books_balanced=false", "RpcCaller"),
        )
        steps = {name for name in self.record("rpc").steps if name.startswith("rpc: ")}
        _expect(bool(steps), "there are no calls")

    def wrong_file(self) -> None:
        """Checks the message about a mistake in a file."""
        file = self._folder / "journeys.yaml"
        file.write_text("Browser: {weight: 1}\n", encoding="utf-8")
        said = self.run("wrong-file", "--journeys", str(file), status=1)
        _expect(f"{file}: Browser.think_seconds: field required." in said, said)

    def compare(self) -> None:
        """Checks the comparison of two runs."""
        folders = [str(self._folder / name) for name in ("smoke", "usual")]
        command = [sys.executable, "-m", "loadtest.compare", *folders]
        said = subprocess.run(  # noqa: S603  the project's own program
            command, capture_output=True, text=True, check=True, timeout=_TIMEOUT_SECONDS
        ).stdout
        _expect("all requests" in said and "ratio" in said, said)
        for file in ("comparison.html", "comparison.svg"):
            _expect("<svg" in (self._folder / "usual" / file).read_text("utf-8"), f"no {file}")

    def _start(self, name: str, *options: str) -> subprocess.Popen[str]:
        command = [
            *(*LOCUST, "--loglevel", "WARNING"),
            # A base URL may end with a slash.
            *("--host", f"{self._base_url}/", "--host-header", "shop.example.com"),
            *("--think-seconds", "0.1", "--warm-up", "0", "--report", str(self._folder / name)),
            *(*_PATIENT, *_FEW, "--shop-data", str(self._folder / "none")),
            *options,
        ]
        return subprocess.Popen(  # noqa: S603  the project's own program
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def _finish(self, name: str, process: subprocess.Popen[str], status: int) -> str:
        try:
            said, _ = process.communicate(timeout=_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired as expired:
            process.kill()
            raise Failed(f"{name} did not end in {_TIMEOUT_SECONDS:.0f} s") from expired
        if process.returncode != status:
            raise Failed(
                f"{name} ended with status {process.returncode}, not {status}:\n{_end(said)}"
            )
        return said


def _expect(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise Failed(otherwise)


def _end(said: str) -> str:
    return "\n".join(said.splitlines()[-_LINES:])


def _is_missed(line: str, threshold: str) -> bool:
    return line.startswith(f"{threshold} ") and line.endswith("MISSED")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def _wait_for_metrics(process: subprocess.Popen[str], port: int) -> None:
    """Returns when Prometheus can read figures of steps.

    :raises Failed: the run ends before.
    """
    while process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                if b"\nmeshmart_load_requests_total{name=" in answer.read():
                    return
        except OSError:
            pass  # the port is not open yet
        time.sleep(_POLL_SECONDS)
    raise Failed(f"the run ended before it had metrics:\n{process.communicate()[0]}")


def _checks(check: Check) -> Sequence[Sequence[tuple[str, Callable[[], None]]]]:
    """Returns two sequences, which run at the same time."""
    return [
        [
            ("wrong file", check.wrong_file),
            ("abort", check.abort),
            ("gRPC", check.rpc),
            ("arrival rate", check.arrivals),
            ("turned away", check.turned_away),
        ],
        [
            ("smoke", check.shape("smoke", "--run-time", "2")),
            ("steps", check.shape("steps", "--run-time", "4", "--steps", "2", users=8)),
            ("spike", check.shape("spike", "--run-time", "3", users=8)),
            ("wave", check.shape("wave", "--run-time", "3", users=8)),
            ("soak", check.shape("soak", "--run-time", "2")),
            ("missed threshold", check.missed_threshold),
        ],
    ]


def main() -> int:
    """Returns the exit status: 1 if the load test does not work."""

    def do(checks: Sequence[tuple[str, Callable[[], None]]]) -> str:
        for name, run in checks:
            began = time.monotonic()
            try:
                run()
            except Failed as error:
                return f"{name}: {error}"
            print(json.dumps({"check": name, "seconds": round(time.monotonic() - began, 1)}))
        return ""

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as threads:
        check = Check(os.environ["BASE_URL"], os.environ["SHOP_DATA"], Path(folder))
        # The first one alone, so that the shop's books are at rest at its end.
        faults = [do([("usual", check.usual)])]
        if not any(faults):
            faults += threads.map(do, _checks(check))
        if not any(faults):
            faults.append(do([("compare", check.compare)]))
    for fault in filter(None, faults):
        print(fault, file=sys.stderr)
    return 1 if any(faults) else 0


if __name__ == "__main__":
    sys.exit(main())
