"""One chaos run: a shop of two processes per service with a fault proxy on every edge, a workload,
a nemesis with a schedule of what goes wrong, and the checker when all is healed and quiet.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import aiohttp

from services.audit.invariants import Violation
from services.common.topology import load_topology
from services.local.programs import SANDBOX
from services.order.model import Order
from tests.chaos.checker import Evidence, details_of, violations
from tests.chaos.checkout import initial_stock
from tests.chaos.history import History
from tests.chaos.mails import MailSink
from tests.chaos.nemesis import Nemesis
from tests.chaos.proxies import FRONTEND, PEOPLE, STRIPE, Proxies
from tests.chaos.schedule import IncidentKind, Schedule, Targets, make_schedule
from tests.chaos.workload import Workload
from tests.testkit.books import open_books
from tests.testkit.mongodb import MongoServer
from tests.testkit.shop import Shop

_PROCESSES = 2
_CHECKOUTS_PER_LINE = 1000
_MAX_DETAILED = 10
# Who calls whom for a checkout: people the gateway, it `order`, that all others, `payment` Stripe.
_CHECKOUT_CALLERS = frozenset({PEOPLE, "order", "payment"})
_TO_ORDER = (FRONTEND, "order")
# What can be made good from the orders and from Stripe. An order itself, and an account, is lost
# with its store.
_RESTORED = ("inventory", "payment", "shipping", "notification")
_ENVIRONMENT = {
    # Outages last seconds: some orders are to be given up, and no customer waits for long.
    "ORDER_GIVE_UP_SECONDS": "2",
    "ORDER_ANSWER_SECONDS": "3",
    # Every parcel arrives before the checker comes, so that the mails of its way are counted, too.
    "SHIPPING_STEP_SECONDS": "2",
    "LOG_LEVEL": "warning",
    "TRACE_SAMPLING_RATIO": "0",
}


@dataclass(frozen=True, slots=True)
class Options:
    """What a run is to be.

    :param mongodb_server: the program of the MongoDB server to run on; None for SQLite.
    :param mutation: the safeguard to switch off, by its name in :mod:`tests.chaos.mutations`.
    :param rest_seconds: how long after the heal everything has to be at its end.
    """

    checkouts: int
    clients: int = 16
    seed: int = 1
    checkouts_per_incident: float = 50.0
    mongodb_server: Path | None = None
    mutation: str | None = None
    rest_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a run."""

    options: Options
    schedule: Schedule
    seconds: float
    rest_seconds: float
    unrest: str | None
    incidents: Mapping[IncidentKind, int]
    requests: Mapping[str, int]
    ends: Mapping[str, int]
    statuses: Mapping[int, int]
    repeated_mails: int
    violations: Sequence[Violation]
    details: Sequence[str]

    @property
    def is_clean(self) -> bool:
        """Whether the shop kept all its promises."""
        return not self.violations and self.unrest is None

    def __str__(self) -> str:
        options = self.options
        store = "MongoDB" if options.mongodb_server else "SQLite"
        quiet = (
            f"NOT QUIET after {self.rest_seconds:.1f} s: {self.unrest}"
            if self.unrest
            else f"quiet {self.rest_seconds:.1f} s after the heal"
        )
        lines = [
            f"{options.checkouts} checkouts by {options.clients} clients on {store}, "
            f"seed {options.seed}: {self.seconds:.0f} s, {quiet}",
            _table("incidents", self.incidents),
            _table("requests on the edges", self.requests),
            _table("orders by end", self.ends),
            _table("answers by status", self.statuses),
            f"mails repeated: {self.repeated_mails}",
            *self.details,
            *(str(violation) for violation in self.violations),
            f"violations: {len(self.violations)}   seed: {options.seed}",
        ]
        return "\n".join(lines)


def schedule_of(options: Options) -> Schedule:
    """What is to go wrong in such a run."""
    targets = targets_of(options)
    return make_schedule(options.seed, options.checkouts, options.checkouts_per_incident, targets)


async def run(
    options: Options, schedule: Schedule, folder: Path, announce: Callable[[str], None] = print
) -> Report:
    """Makes a run with all its data in a folder of its own.

    :param announce: gets the schedule before it begins, and how it goes.
    """
    announce("\n".join(["The schedule:", *(f"  {each}" for each in schedule.incidents)]))
    announce(f"  clocks wrong by seconds: {json.dumps(schedule.skews_seconds)}")
    async with AsyncExitStack() as resources:
        database = None
        if options.mongodb_server is not None:
            server = MongoServer(options.mongodb_server, folder / "mongodb")
            database = resources.enter_context(server)
        proxies = await resources.enter_async_context(
            Proxies(load_topology(), seed=str(options.seed))
        )
        mails = await resources.enter_async_context(MailSink())
        http = await resources.enter_async_context(aiohttp.ClientSession())
        shop = _shop(options, schedule, folder, proxies, mails, database)
        await resources.enter_async_context(shop)
        proxies.point_at(shop.processes())
        nemesis = Nemesis(schedule, shop, proxies, http, database)
        history = History(str(options.seed))
        progress = _Progress(options.checkouts, announce)

        def on_begin(checkout: int) -> None:
            progress.begun(checkout)
            nemesis.on_begin(checkout)

        began = time.monotonic()
        await Workload(
            proxies.url,
            clients=options.clients,
            checkouts=options.checkouts,
            history=history,
            on_begin=on_begin,
            codes=mails.codes,
        ).run()
        seconds = time.monotonic() - began
        await nemesis.heal()
        healed = time.monotonic()
        books = await resources.enter_async_context(open_books(shop))
        unrest = await books.rest(options.rest_seconds)
        rest_seconds = time.monotonic() - healed
        evidence = Evidence(
            await books.read(),
            history,
            books.initial_stock(),
            mails.mails(),
            restored=nemesis.restored,
        )
        found = (*violations(evidence), *await _audited(shop))
        subjects = dict.fromkeys(violation.subject for violation in found)
        return Report(
            options=options,
            schedule=schedule,
            seconds=seconds,
            rest_seconds=rest_seconds,
            unrest=unrest,
            incidents=nemesis.counts,
            requests=proxies.counts,
            ends=Counter(_end(order) for order in evidence.snapshot.orders.values()),
            statuses=history.statuses(),
            repeated_mails=mails.repeats,
            violations=found,
            details=tuple(
                details_of(evidence, subject) for subject in islice(subjects, _MAX_DETAILED)
            ),
        )


async def _audited(shop: Shop) -> list[Violation]:
    audit = await asyncio.to_thread(shop.audit)
    return [] if audit.returncode == 0 else [Violation("audit", audit.stdout + audit.stderr)]


class _Progress:
    """Says now and then how far a run is."""

    def __init__(self, checkouts: int, announce: Callable[[str], None]) -> None:
        self._checkouts = checkouts
        self._announce = announce
        self._began = time.monotonic()

    def begun(self, checkout: int) -> None:
        """A checkout has begun."""
        if checkout and checkout % _CHECKOUTS_PER_LINE == 0:
            seconds = time.monotonic() - self._began
            self._announce(f"{checkout} of {self._checkouts} checkouts after {seconds:.0f} s")


def _shop(
    options: Options,
    schedule: Schedule,
    folder: Path,
    proxies: Proxies,
    mails: MailSink,
    database: MongoServer | None,
) -> Shop:
    environment = {**_ENVIRONMENT, **mails.environment()}
    own_environment = {
        **proxies.environment(),
        **{
            instance: {"CLOCK_SKEW_SECONDS": str(seconds)}
            for instance, seconds in schedule.skews_seconds.items()
        },
    }
    if database is not None:
        environment["DATABASE_URL"] = database.url  # for the audit, which is not a process
        own_environment["*"] = {"DATABASE_URL": database.url}
    replicas = ",".join(f"{service}={_PROCESSES}" for service in load_topology().services)
    program = ("-m", "services")
    if options.mutation is not None:
        program = ("-m", "tests.chaos.mutations", options.mutation)
    return Shop(
        folder / "shop",
        "--replicas",
        replicas,
        environment=environment,
        own_environment=own_environment,
        stock=initial_stock(options.checkouts),
        program=program,
    )


def targets_of(options: Options) -> Targets:
    """What can go wrong in such a run: every process, every declared edge."""
    topology = load_topology()
    processes = {
        service: [f"{service}-{number}" for number in range(1, _PROCESSES + 1)]
        for service in topology.services
    }
    edges = [*sorted(topology.edges), ("payment", STRIPE), (PEOPLE, FRONTEND)]
    on_the_way = [
        (caller, callee)
        for caller, callee in edges
        if (caller in _CHECKOUT_CALLERS and callee != "auth") or (caller, callee) == _TO_ORDER
    ]
    return Targets(
        instances=[SANDBOX, *(name for names in processes.values() for name in names)],
        edges=[f"{caller} > {callee}" for caller, callee in edges],
        checkout_edges=[f"{caller} > {callee}" for caller, callee in on_the_way],
        databases=[]
        if options.mongodb_server
        else [
            name
            for service, names in processes.items()
            if topology.services[service].database
            for name in names
        ],
        stores=_RESTORED,
    )


def _end(order: Order) -> str:
    return f"{order.state} ({order.reason.code})" if order.reason else order.state


def _table(title: str, counts: Mapping[Any, int]) -> str:
    rows = (f"  {count:>9}  {name}" for name, count in sorted(counts.items()))
    return "\n".join([f"{title}:", *rows])
