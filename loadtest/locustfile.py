"""Who comes to the shop, how many of each, and what they do: most look around, some buy.

``make load`` runs it; ``--help`` of locust tells the options of its own and those added here.
"""

from __future__ import annotations

import random
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable
from typing import Any, cast

from gevent.pywsgi import WSGIServer
from locust import FastHttpUser, events, task
from locust.env import Environment
from locust.event import EventHook
from locust.runners import WorkerRunner
from prometheus_client import (
    CollectorRegistry,
    make_wsgi_app,  # pyright: ignore[reportUnknownVariableType]  partly typed
)

from loadtest import thresholds
from loadtest.customer import Customer
from loadtest.exposition import Entry, RunCollector
from loadtest.shop import Http, Shop
from loadtest.visitor import Visitor


class _Person(FastHttpUser):
    abstract = True
    # Longer than the shop takes to give up by itself and say so.
    network_timeout = 20.0
    connection_timeout = 5.0

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._think_seconds: float = _options(environment).think_seconds
        # locust types its client's methods in part only.
        self.shop = Shop(cast("Http", self.client))

    def wait_time(self) -> float:
        """Between two tasks, and between two steps of one."""
        return self._think_seconds * random.uniform(0.5, 1.5)


class Browser(_Person):
    """Looks around and buys nothing."""

    weight = 3

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.visitor = Visitor(self.shop, self.wait)

    @task(2)
    def open_home(self) -> None:
        self.visitor.open_home()

    @task(3)
    def leaf_through_pages(self) -> None:
        self.visitor.leaf_through_pages()

    @task(1)
    def list_department(self) -> None:
        self.visitor.list_department()

    @task(3)
    def search(self) -> None:
        self.visitor.search()

    @task(4)
    def look_at_product(self) -> None:
        self.visitor.look_at_product()


class Buyer(_Person):
    """Has an account, and buys."""

    weight = 1

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.customer = Customer(self.shop, self.wait)

    @task(5)
    def buy(self) -> None:
        self.customer.buy()

    @task(1)
    def buy_with_refused_card(self) -> None:
        self.customer.buy_with_refused_card()

    @task(1)
    def change_mind(self) -> None:
        self.customer.change_mind()

    @task(1)
    def keep_profile(self) -> None:
        self.customer.keep_profile()

    @task(1)
    def come_back(self) -> None:
        self.customer.come_back()


def add_options(parser: ArgumentParser) -> None:
    """The options beside locust's own."""
    parser.add_argument(
        "--think-seconds",
        type=float,
        default=1.0,
        metavar="<seconds>",
        help="How long people think between two steps, on average (1)",
    )
    parser.add_argument(
        "--metrics-port",
        type=int,
        default=0,
        metavar="<port>",
        env_var="LOCUST_METRICS_PORT",
        help="Show the run's figures to Prometheus at this port while it goes on (0: do not)",
    )
    parser.add_argument(
        "--metrics-host",
        default="127.0.0.1",
        metavar="<address>",
        env_var="LOCUST_METRICS_HOST",
        help="The address of that port; 0.0.0.0 for a Prometheus in a container (127.0.0.1)",
    )
    thresholds.add_options(parser)


def expose(environment: Environment, **_: Any) -> None:
    """Shows the figures to Prometheus, when it is told where. They end with the process.

    :raises OSError: the port cannot be had.
    """
    options, runner = _options(environment), environment.runner
    if not options.metrics_port or runner is None or isinstance(runner, WorkerRunner):
        return  # the master has the figures of all workers
    registry = CollectorRegistry()

    def entries() -> Iterable[Entry]:
        return environment.stats.entries.values()  # of another dictionary once the run begins

    registry.register(RunCollector(entries, lambda: runner.user_count))
    application = cast("Any", make_wsgi_app(registry))
    address = (options.metrics_host, options.metrics_port)
    WSGIServer(address, application, log=None).start()


def judge(environment: Environment, **_: Any) -> None:
    """Decides the exit status, and tells why below locust's own tables."""
    runner = environment.runner
    if runner is None or isinstance(runner, WorkerRunner):
        return  # the master has the figures of all workers
    environment.process_exit_code = 1  # unless it is known to be better
    verdict = thresholds.judge(
        environment.stats.entries.values(),
        thresholds.limits_of(_options(environment)),
        crashes=sum(crash["count"] for crash in runner.exceptions.values()),
    )
    environment.process_exit_code = 0 if verdict.is_met else 1

    def tell(**_: Any) -> None:
        print(verdict)

    _listen(environment.events.quit, tell)


def _listen(event: EventHook, listener: Callable[..., None]) -> None:
    cast("Any", event).add_listener(listener)  # has no types


def _options(environment: Environment) -> Namespace:
    assert environment.parsed_options is not None, "this is run from a command line"
    return environment.parsed_options


_listen(events.init_command_line_parser, add_options)
_listen(events.init, expose)
_listen(events.quitting, judge)
