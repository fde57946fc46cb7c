"""A run in locust: what it counts, in one process or in several, and the record of it."""

from __future__ import annotations

import random
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import gevent
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from loadtest import report
from loadtest.books import audited
from loadtest.recording import (
    ARRIVALS,
    Failure,
    RequestTally,
    RunRecord,
    Timeline,
    Verdict,
    merged,
)
from loadtest.settings import Limits, read_limits
from loadtest.shapes import Course, course
from loadtest.thresholds import judge, reason_to_abort
from loadtest.visits import VisitingShopper, VisitPool, weighted

# How long shoppers who are in the shop when the time is up may stay.
_FINISH_SECONDS = 30.0
_TIMELINE = "meshmart_timeline"
# The message of a worker that has stopped.
LAST_REPORT = "meshmart_last_report"
_REPORT_SECONDS = 30.0
_POLL_SECONDS = 0.05
_MAX_FAILURES = 50


def options_of(environment: Environment) -> Namespace:
    """Returns the options of the command line."""
    assert environment.parsed_options is not None, "this is run from a command line"
    return environment.parsed_options


class LoadRun:
    """A run in one process, which may be the master, a worker, or the only one.

    With locust's web page, one run follows another; each begins with `begin`.

    :ivar visits: with an arrival rate, where shoppers are made.
    :ivar is_unreported: whether a run has begun whose record nobody has asked for yet.
    """

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._options = options_of(environment)
        self._limits: Limits = read_limits(Path(self._options.thresholds), self._options.threshold)
        self.visits: VisitPool | None = None
        self.is_unreported = False
        self._timeline = Timeline()
        self._began_at = 0.0
        self._seconds = 0.0
        self._counts_from = 0.0
        self._aborted_because: str | None = None
        self._processes = 1
        self._finished_workers = 0

    @property
    def is_open(self) -> bool:
        """Whether shoppers arrive at a rate."""
        return self._options.arrivals_per_second is not None

    @property
    def is_worker(self) -> bool:
        """Whether another process decides about the run."""
        return isinstance(self._environment.runner, WorkerRunner)

    @property
    def spawn_rate(self) -> float:
        """How many users start per second when the level rises, in a closed loop."""
        return self._options.spawn_rate

    def course(self) -> Course:
        """Returns the course of the run, by the current options."""
        options = self._options
        peak = options.arrivals_per_second if self.is_open else options.num_users
        return course(
            options.shape,
            peak=peak,
            seconds=options.run_time,
            steps=options.steps,
            warm_up_seconds=options.warm_up,
            is_open=self.is_open,
        )

    def open_shop(
        self,
        new_guest: Callable[[str], VisitingShopper],
        journeys_of: dict[tuple[str, str], int],
        crashed: Callable[[VisitingShopper, Exception], None],
    ) -> None:
        """Prepares for shoppers who arrive at a rate.

        :param journeys_of: how often each kind of shopper comes for what.
        """
        choices, weights = weighted(journeys_of)

        def draw() -> tuple[str, str]:
            return random.choices(choices, weights)[0]

        self.visits = VisitPool(
            new_guest,
            draw,
            self.count,
            self._count_late,
            crashed,
            max_visits=self._options.max_visits,
        )

    def begin(self, **_: Any) -> None:
        """Begins to count, once the warm-up is over."""
        self._timeline.clear()
        self._aborted_because = None
        self._finished_workers = 0
        self.is_unreported = True
        if self.visits is not None:
            self.visits.reopen()
        runner = self._environment.runner
        # Workers that have stopped are no longer counted.
        self._processes = runner.worker_count if isinstance(runner, MasterRunner) else 1
        self._began_at = time.time()
        self._counts_from = self._began_at + self._options.warm_up
        gevent.spawn_later(self._options.warm_up, self._forget_warm_up)

    def count(self, *, start_time: float, **meta: Any) -> None:
        """Counts a request in locust's figures, too, unless it began in the warm-up."""
        if start_time >= self._counts_from:
            fire = cast("Any", self._environment.events.request).fire
            fire(start_time=start_time, **meta)

    def on_request(
        self,
        name: str,
        response_time: float,
        exception: Exception | None,
        start_time: float,
        **_: Any,
    ) -> None:
        """Counts a request by its second."""
        ended_at = start_time + response_time / 1000
        has_failed = exception is not None
        self._timeline.count(name, ended_at, response_time, has_failed=has_failed)

    def on_report_to_master(self, data: dict[str, Any], **_: Any) -> None:
        """On a worker: adds the counts by second to what locust sends to the master."""
        data[_TIMELINE] = self._timeline.take()

    def on_worker_report(self, data: dict[str, Any], **_: Any) -> None:
        """On the master: adds the counts of a worker."""
        self._timeline.add(data.get(_TIMELINE, ()))

    def stop_workers(self) -> None:
        """On the master: stops the workers, and waits for their last reports.

        locust waits half a second for these, which is too short for visits to end.
        """
        runner = self._environment.runner
        if isinstance(runner, MasterRunner):
            runner.stop()
            self.await_workers()

    def await_workers(self) -> None:
        """On the master: waits for the last report of each worker."""
        if not isinstance(self._environment.runner, MasterRunner):
            return
        until = time.monotonic() + _REPORT_SECONDS
        while self._finished_workers < self._processes and time.monotonic() < until:
            gevent.sleep(_POLL_SECONDS)

    def on_stop(self, **_: Any) -> None:
        """On a worker: sends the last report, and ends if there is only one run."""
        runner = self._environment.runner
        if isinstance(runner, WorkerRunner):
            counted: dict[str, Any] = {}
            report_to_master = cast("Any", self._environment.events.report_to_master)
            report_to_master.fire(client_id=runner.client_id, data=counted)
            runner.send_message(LAST_REPORT, counted)
            if self._options.workers_quit:
                # The master no longer knows workers that have stopped, and tells them nothing.
                gevent.spawn(runner.quit)

    def on_last_report(self, msg: Any, **_: Any) -> None:
        """On the master: adds the last report of a worker."""
        worker_report = cast("Any", self._environment.events.worker_report)
        worker_report.fire(client_id=msg.node_id, data=msg.data)
        self._finished_workers += 1

    def close(self, **_: Any) -> None:
        """Stops the clock of the run, and waits for the shoppers who arrived before its end.

        locust's own users must still be there, or the master would no longer wait for this process.
        """
        self._seconds = time.time() - self._began_at
        if self.visits is not None:
            self.visits.finish(_FINISH_SECONDS)

    def must_abort(self) -> bool:
        """Returns whether the run is to end now, because it has missed a threshold."""
        if self._options.abort_on_fail and self._aborted_because is None:
            self._aborted_because = reason_to_abort(self._steps(), self._limits)
        return self._aborted_because is not None

    def end(self) -> RunRecord:
        """Returns the record of the run, with the verdict. Audits the shop if it can be audited."""
        self.is_unreported = False
        options, plan = self._options, self.course()
        began_at, steps, failures = self._began_at, self._steps(), self._failures()
        series = list(self._timeline.series(began_at))
        verdict = judge(
            steps,
            merged(each.tally for each in series if each.group == ARRIVALS),
            self._limits,
            crashes=self._crashes(),
            books=audited(self._environment.host or "", Path(options.shop_data)),
            seeks_knee=options.shape == "steps",
        )
        return RunRecord(
            label=options.label or options.shape,
            base_url=self._environment.host or "",
            began_at=datetime.fromtimestamp(began_at, UTC),
            shape=options.shape,
            is_open=self.is_open,
            warm_up_seconds=plan.warm_up_seconds,
            seconds=self._seconds,
            processes=self._processes,
            windows=list(plan.windows()),
            steps=steps,
            series=series,
            failures=failures,
            verdict=Verdict(checks=verdict.checks, notes=[*verdict.notes, *self._notes()]),
        )

    def folder(self) -> Path:
        """Returns where the reports of this run go."""
        if self._options.report:
            return Path(self._options.report)
        return report.new_folder(datetime.fromtimestamp(self._began_at, UTC), self._options.shape)

    def _count_late(self, step: str, milliseconds: float) -> None:
        now = time.time()
        if now >= self._counts_from:
            self._timeline.count(step, now, milliseconds, has_failed=False)

    def _forget_warm_up(self) -> None:
        """Lets locust count its rates from now on; nothing was counted so far."""
        if not self.is_worker:
            self._environment.stats.reset_all()

    def _steps(self) -> dict[str, RequestTally]:
        found: dict[str, list[RequestTally]] = {}
        entries: Iterable[Any] = self._environment.stats.entries.values()
        for entry in entries:
            tally = RequestTally(
                requests=entry.num_requests,
                failures=entry.num_failures,
                times_ms=dict(entry.response_times),
            )
            found.setdefault(entry.name, []).append(tally)
        return {name: merged(tallies) for name, tallies in sorted(found.items())}

    def _failures(self) -> list[Failure]:
        errors: Iterable[Any] = self._environment.stats.errors.values()
        found = [
            Failure(step=each.name, reason=str(each.error), count=each.occurrences)
            for each in errors
        ]
        return sorted(found, key=lambda each: -each.count)[:_MAX_FAILURES]

    def _crashes(self) -> int:
        runner = self._environment.runner
        return sum(crash["count"] for crash in runner.exceptions.values()) if runner else 0

    def _notes(self) -> Iterator[str]:
        if self._aborted_because is not None:
            yield f"aborted: {self._aborted_because}"
        runner = self._environment.runner
        if runner and (runner.cpu_warning_emitted or runner.worker_cpu_warning_emitted):
            yield (
                "a process of the load test used more than 90 % of a CPU, so response times may "
                "be its own: use more processes (PROCESSES)"
            )
