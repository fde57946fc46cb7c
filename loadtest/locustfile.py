"""The load test of the shop: ``make load`` runs it, and its ``--help`` lists the options."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

from gevent.pywsgi import WSGIServer
from locust import LoadTestShape, events
from locust.env import Environment
from locust.event import EventHook
from locust.runners import MasterRunner, WorkerRunner
from prometheus_client import (
    CollectorRegistry,
    make_wsgi_app,  # pyright: ignore[reportUnknownVariableType]  partly typed
)

from loadtest import knee, users
from loadtest.exposition import Entry, RunCollector
from loadtest.options import add_options
from loadtest.running import LAST_REPORT, LoadRun, options_of
from loadtest.settings import BadFile, read_journeys
from loadtest.shapes import SHAPES
from loadtest.users import Arrivals, Browser, Buyer, PageBuyer, RpcCaller

__all__ = ["Arrivals", "Browser", "Buyer", "CourseShape", "PageBuyer", "RpcCaller"]

_SPAWN_RATE = 100.0


class CourseShape(LoadTestShape):
    """Asks the run for the level of each second."""

    use_common_options = True
    run: LoadRun

    def tick(self) -> tuple[int, float] | None:
        """Returns how many users there are to be; None at the end."""
        level = None if self.run.must_abort() else self.run.course().level(self.get_run_time())
        if level is None:
            self.run.stop_workers()
            return None
        number = level / users.ARRIVALS_PER_SECOND if self.run.is_open else level
        return max(1, math.ceil(number)), _SPAWN_RATE


def prepare(environment: Environment, **_: Any) -> None:
    """Reads the files, and gives their settings to the users and the shape."""
    options = options_of(environment)
    is_worker = isinstance(environment.runner, WorkerRunner)
    try:
        path = Path(options.journeys)
        journeys = read_journeys(path)
        known = {name: kind.journey_names() for name, kind in users.KINDS.items()}
        journeys.check_against(known, path)
        run = LoadRun(environment, journeys)
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

    def finish(**_: Any) -> None:
        _finish(environment, run)

    _listen(environment.events.quitting, finish)
    # The master sends its own options to the workers, but not those of locust.
    options.workers_quit = options.headless
    if not is_worker and not options.headless:
        _show_usual_values(environment)


def _choose_users(environment: Environment, run: LoadRun) -> None:
    """Decides which of locust's users take part: those named, or all that have a weight."""
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


def _show_usual_values(environment: Environment) -> None:
    """Puts the shape's own values into the form of the web page."""
    options = options_of(environment)
    shape = SHAPES[options.shape]
    options.num_users = options.num_users or int(shape.users)
    options.run_time = options.run_time or int(shape.seconds)


def _finish(environment: Environment, run: LoadRun) -> None:
    """Decides the exit status, and tells why below locust's own tables."""
    if run.is_worker:
        environment.process_exit_code = 0  # the master has the figures of all workers, and decides
    if run.is_worker or not run.has_begun:
        return
    environment.process_exit_code = 1  # unless it is known to be better
    verdict, record = run.end()
    environment.process_exit_code = 0 if verdict.is_met else 1
    options = options_of(environment)

    def tell(**_: Any) -> None:
        print(verdict)
        if record.shape == "steps":
            print(knee.table(record))
        if not options.no_report:
            print(f"reports: {run.folder()}")
        if options.print_record:
            print(record.model_dump_json())

    _listen(environment.events.quit, tell)


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
