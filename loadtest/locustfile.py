"""The load test of the shop: ``make load`` runs it, and its ``--help`` lists the options."""

from __future__ import annotations

import math
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

import gevent
from gevent.pywsgi import WSGIServer
from locust import LoadTestShape, events
from locust.env import Environment
from locust.event import EventHook
from locust.html import (
    get_html_report,  # pyright: ignore[reportUnknownVariableType]  partly typed
)
from locust.runners import MasterRunner, WorkerRunner
from prometheus_client import (
    CollectorRegistry,
    make_wsgi_app,  # pyright: ignore[reportUnknownVariableType]  partly typed
)

from loadtest import report, users
from loadtest.exposition import Entry, RunCollector
from loadtest.options import add_options
from loadtest.running import LAST_REPORT, LoadRun, options_of
from loadtest.settings import BadFile, read_journeys
from loadtest.shapes import SHAPES
from loadtest.users import Arrivals, Browser, Buyer, PageBuyer, RpcCaller

__all__ = ["Arrivals", "Browser", "Buyer", "CourseShape", "PageBuyer", "RpcCaller"]

# Users per second: the shape has the levels.
_SPAWN_RATE = 100.0


class CourseShape(LoadTestShape):
    """Follows the course of the run, second by second."""

    use_common_options = True
    run: LoadRun

    def tick(self) -> tuple[int, float] | None:
        """Returns the number of users, and how many of them start per second; None at the end."""
        level = None if self.run.must_abort() else self.run.course().level(self.get_run_time())
        if level is None:
            self.run.stop_workers()
            return None
        if self.run.is_open:
            return max(1, math.ceil(level / users.ARRIVALS_PER_SECOND)), _SPAWN_RATE
        return max(1, math.ceil(level)), self.run.spawn_rate


def prepare(environment: Environment, **_: Any) -> None:
    """Reads the files, and prepares the users, the shape and the reports for a run."""
    options = options_of(environment)
    is_worker = isinstance(environment.runner, WorkerRunner)
    try:
        path = Path(options.journeys)
        journeys = read_journeys(path)
        known = {name: list(kind.offered) for name, kind in users.KINDS.items()}
        journeys.check_against(known, path)
        run = LoadRun(environment)
        users.check_ca_file(options)
    except (BadFile, OSError) as error:
        # The first process says it for all.
        sys.exit(1 if is_worker else str(error))
    options.host = (environment.host or "").rstrip("/")
    environment.host = options.host
    users.configure(run, journeys, options)
    assert isinstance(environment.shape_class, CourseShape), "there is one shape"
    environment.shape_class.run = run
    _choose_users(environment, run)
    _expose(environment)
    _listen(environment.events.test_start, run.begin)
    _listen(environment.events.request, run.on_request)
    _listen(environment.events.report_to_master, run.on_report_to_master)
    _listen(environment.events.worker_report, run.on_worker_report)
    _listen(environment.events.test_stopping, run.close)
    _listen(environment.events.test_stop, run.on_stop)
    if isinstance(environment.runner, MasterRunner):
        cast("Any", environment.runner).register_message(LAST_REPORT, run.on_last_report)

    if is_worker:
        environment.process_exit_code = 0  # the master has the figures of all workers, and decides
        return
    # The master sends its own options to the workers, but not those of locust.
    options.workers_quit = options.headless
    _complete(options)
    # The form's users and times are those of a closed loop.
    CourseShape.use_common_options = not run.is_open

    _report_runs(environment, run)


def _choose_users(environment: Environment, run: LoadRun) -> None:
    """Sets locust's users: the kinds that are named, or all that have a weight."""
    named: list[str] = options_of(environment).user_classes or []
    chosen = {
        name: kind
        for name, kind in users.KINDS.items()
        if (name in named if named else kind.weight > 0)
    }
    for kind in chosen.values():
        kind.weight = max(kind.weight, 1)
    if not run.is_open:
        environment.user_classes = list(chosen.values())
        return
    environment.user_classes = [Arrivals]
    run.open_shop(
        lambda name: chosen[name](environment),
        users.choices(chosen),
        lambda guest, error: cast("Any", environment.events.user_error).fire(
            user_instance=guest, exception=error, tb=error.__traceback__
        ),
    )


def _complete(options: Namespace) -> None:
    """Sets what the command line leaves open to the values of the shape.

    Otherwise locust sets the number of users to 1, and the web page shows an empty form.
    """
    shape = SHAPES[options.shape]
    options.num_users = options.num_users or int(shape.users)
    options.spawn_rate = options.spawn_rate or _SPAWN_RATE
    if not options.headless:
        options.run_time = options.run_time or int(shape.seconds)


def _report_runs(environment: Environment, run: LoadRun) -> None:
    """Reports each run: with the web page when it stops, otherwise below locust's own tables."""
    reporting: list[gevent.Greenlet[[], None]] = []

    def at_quitting(**_: Any) -> None:
        gevent.joinall(reporting)
        text = _reported(environment, run)

        def print_below(**_: Any) -> None:
            print(text, flush=True)

        _listen(environment.events.quit, print_below)

    def at_stop(**_: Any) -> None:
        def report_soon() -> None:
            run.await_workers()
            print(_reported(environment, run), flush=True)

        reporting[:] = [gevent.spawn(report_soon)]

    _listen(environment.events.quitting, at_quitting)
    if not options_of(environment).headless:
        _listen(environment.events.test_stop, at_stop)


def _reported(environment: Environment, run: LoadRun) -> str:
    """Keeps the reports of a run, decides the exit status, and returns what to print.

    Returns an empty text if no run has begun since the last report.
    """
    options = options_of(environment)
    if not run.is_unreported:
        return ""
    environment.process_exit_code = 1  # unless it is known to be better
    folder = run.folder()
    locust_report = get_html_report(environment, show_download_link=False)
    record = run.end()
    environment.process_exit_code = 0 if record.verdict.is_met else 1
    lines = [report.summary(record)]
    if not options.no_report:
        report.keep(record, folder)
        (folder / "locust.html").write_text(locust_report, encoding="utf-8")
        lines.append(f"reports: {folder}")
    if options.print_record:
        lines.append(record.model_dump_json())
    return "\n".join(lines)


def _expose(environment: Environment) -> None:
    """Exports the figures for Prometheus, if there is a port for it. They end with the process.

    :raises OSError: the port cannot be had.
    """
    options, runner = options_of(environment), environment.runner
    if not options.metrics_port or runner is None or isinstance(runner, WorkerRunner):
        return  # the master has the figures of all workers
    registry = CollectorRegistry()

    def entries() -> Iterable[Entry]:
        return environment.stats.entries.values()  # of another dictionary once the run begins

    registry.register(RunCollector(entries, lambda: runner.user_count))
    application = cast("Any", make_wsgi_app(registry))
    address = (options.metrics_host, options.metrics_port)
    WSGIServer(address, application, log=None).start()


def _listen(event: EventHook, listener: Callable[..., None]) -> None:
    cast("Any", event).add_listener(listener)  # has no types


_listen(events.init_command_line_parser, add_options)
_listen(events.init, prepare)
