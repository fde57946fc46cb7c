"""The kinds of shoppers, as locust's users; `journeys.yaml` says how many of each come.

In a closed loop locust runs each of them again and again. With an arrival rate it runs only
`Arrivals`, and these let in the others, each for one visit.
"""

from __future__ import annotations

import math
import random
import ssl
import time
from argparse import Namespace
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, cast

import gevent.ssl
from geventhttpclient.client import HTTPClientPool
from grpc.experimental.gevent import init_gevent
from locust import FastHttpUser, User, task
from locust.env import Environment

from loadtest.customer import Customer
from loadtest.page_customer import PageCustomer
from loadtest.rpc import RpcAddresses, RpcClient
from loadtest.running import LoadRun, options_of
from loadtest.settings import Journeys
from loadtest.shop import Http, Shop
from loadtest.visitor import Visitor

# An `Arrivals` user lets in a shopper every ten seconds on average: ten of them one each second.
# The sum of independent Poisson processes is one, so their number can follow any shape, and be
# divided among any number of processes.
ARRIVALS_PER_SECOND = 0.1


def _by_name(*journeys: Callable[[Any], object]) -> Mapping[str, Callable[[Any], object]]:
    return {journey.__name__: journey for journey in journeys}


class LoadUser(FastHttpUser):
    """One shopper.

    :cvar offered: what a shopper of this kind can come for: methods of the `actor`, by name.
    :cvar load_run: the run, which is known once locust has read its options.
    :cvar weights: how often they come for each of these.
    """

    abstract = True
    # Longer than the time after which the shop gives up and says so.
    network_timeout = 20.0
    connection_timeout = 5.0

    offered: ClassVar[Mapping[str, Callable[[Any], object]]] = {}
    load_run: ClassVar[LoadRun]
    think_seconds: ClassVar[float] = 1.0
    weights: ClassVar[Mapping[str, int]] = {}

    def __init__(self, environment: Environment) -> None:
        options = options_of(environment)
        # One for each shopper, as browsers have their own connections.
        self.client_pool = _connections(options, self)
        super().__init__(environment)
        # locust types its client's methods in part only.
        self.shop = Shop(
            cast("Http", self.client), self.load_run.count, accepts_shedding=options.accept_shedding
        )
        self.thought_seconds = 0.0

    def journeys(self) -> Mapping[str, Callable[[], object]]:
        """Returns what this shopper can come for, as functions without arguments."""
        actor = self.actor()
        return {name: partial(journey, actor) for name, journey in self.offered.items()}

    def actor(self) -> object:
        """Returns the object whose methods are the journeys."""
        raise NotImplementedError

    def begin_visit(self, late_seconds: float) -> None:
        """Prepares for a visit that begins late."""
        self.thought_seconds = 0.0
        self.shop.begin_late(late_seconds)

    def wait_time(self) -> float:
        """Returns the seconds between two journeys, in a closed loop."""
        return self.think_seconds * random.uniform(0.5, 1.5)

    def think(self) -> None:
        """Waits between two steps of a journey."""
        seconds = self.wait_time()
        self.thought_seconds += seconds
        gevent.sleep(seconds)

    @task
    def do_something(self) -> None:
        """Chooses a journey by the weights, and makes it."""
        name = random.choices(list(self.weights), list(self.weights.values()))[0]
        self.journeys()[name]()


class Browser(LoadUser):
    """Looks around and buys nothing."""

    offered = _by_name(
        Visitor.open_home,
        Visitor.leaf_through_pages,
        Visitor.list_department,
        Visitor.search,
        Visitor.look_at_product,
    )

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._visitor = Visitor(self.shop, self.think)

    def actor(self) -> Visitor:
        return self._visitor


class PageBuyer(LoadUser):
    """Buys by the pages."""

    offered = _by_name(
        PageCustomer.buy, PageCustomer.fill_cart_and_leave, PageCustomer.log_out_and_in
    )

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._customer = PageCustomer(self.shop, self.think)

    def actor(self) -> PageCustomer:
        return self._customer


class Buyer(LoadUser):
    """Has an account, and buys by the API."""

    offered = _by_name(
        Customer.buy,
        Customer.buy_with_refused_card,
        Customer.change_mind,
        Customer.keep_profile,
        Customer.come_back,
    )

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._customer = Customer(self.shop, self.think)

    def actor(self) -> Customer:
        return self._customer


class RpcCaller(LoadUser):
    """Calls services by gRPC, as `frontend` does."""

    offered = _by_name(RpcClient.get_products, RpcClient.get_stock, RpcClient.get_quotes)
    _is_prepared: ClassVar[bool] = False

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        if not RpcCaller._is_prepared:  # in the process that makes the calls, after locust's fork
            init_gevent()
            RpcCaller._is_prepared = True
        options = options_of(environment)
        addresses = (
            RpcAddresses.parse(options.grpc)
            if options.grpc
            else RpcAddresses.of_shop(Path(options.shop_data))
        )
        self._client = RpcClient(addresses, Visitor(self.shop, self.think), self.load_run.count)

    def actor(self) -> RpcClient:
        return self._client

    def on_stop(self) -> None:
        """Closes the connections."""
        self._client.close()


class Arrivals(User):
    """Lets shoppers in at random times, and waits for none of them."""

    load_run: ClassVar[LoadRun]

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._due: float | None = None

    def wait_time(self) -> float:
        """Returns the seconds until the next shopper arrives; 0 if that time has passed."""
        now = time.monotonic()
        before = now if self._due is None else self._due
        self._due = before + random.expovariate(ARRIVALS_PER_SECOND)
        return max(0.0, self._due - now)

    @task
    def let_in(self) -> None:
        """Lets in the shopper who is due."""
        assert self.load_run.visits is not None, "these users exist only with an arrival rate"
        if self._due is not None:
            self.load_run.visits.begin(self._due)


def _connections(options: Namespace, person: LoadUser) -> HTTPClientPool:
    """Returns connections that go to the base URL, with TLS for the shop's public host."""

    def context(cafile: str | None = None) -> ssl.SSLContext:
        made = gevent.ssl.create_default_context(cafile=cafile)
        if options.insecure:
            made.check_hostname = False
            made.verify_mode = ssl.CERT_NONE
        return made

    given = {"server_hostname": options.host_header, "ca_certs": options.ca_file}
    return HTTPClientPool(
        network_timeout=person.network_timeout,
        connection_timeout=person.connection_timeout,
        insecure=options.insecure,
        ssl_context_factory=context,
        ssl_options={name: value for name, value in given.items() if value},
    )


KINDS: Mapping[str, type[LoadUser]] = {
    kind.__name__: kind for kind in (Browser, PageBuyer, Buyer, RpcCaller)
}


def configure(run: LoadRun, journeys: Journeys, options: Namespace) -> None:
    """Sets the kinds of shoppers as the command line and the file of journeys say."""
    Arrivals.load_run = run
    LoadUser.load_run = run
    for name, kind in KINDS.items():
        settings = journeys.root[name]
        kind.weight = settings.weight
        kind.weights = settings.journeys
        thought = options.think_seconds
        kind.think_seconds = settings.think_seconds if thought is None else thought
        kind.host = options.host
        if options.host_header:
            kind.default_headers = {"Host": options.host_header}


def choices(chosen: Mapping[str, type[LoadUser]]) -> dict[tuple[str, str], int]:
    """Returns how often each kind of shopper comes for what, by the weights of both.

    A kind's share is that of its weight, whatever the sum of its journeys' weights is.
    """
    sums = {name: sum(kind.weights.values()) for name, kind in chosen.items()}
    multiple = math.lcm(*sums.values())
    return {
        (name, journey): int(kind.weight) * weight * multiple // sums[name]
        for name, kind in chosen.items()
        for journey, weight in kind.weights.items()
    }


def check_ca_file(options: Namespace) -> None:
    """Checks the file with the authorities, which otherwise would fail each connection.

    :raises OSError: it cannot be read.
    """
    if options.ca_file:
        ssl.create_default_context(cafile=options.ca_file)
