"""The floor's plan: the call graph of each journey, with the sizes of all messages, derived from
a running shop.

The calls, their order and their nesting are those of the answer's call record
(:mod:`services.common.call_record`); sizes, writes, and what the shop does after it has answered
are from notes (:mod:`tests.bench.noting`).
"""

from __future__ import annotations

import itertools
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from services.common.call_record import Call, Served
from services.common.topology import Topology, path_pattern
from services.local.programs import SANDBOX
from tests.bench.noting import Note

STRIPE = "stripe"
GATEWAY = "frontend"
# The record rounds to 0.1 ms, so two calls in a row may seem to overlap by this much.
_ROUNDING_MILLISECONDS = 0.2


class Hop(BaseModel):
    """One request to one service, with the calls and writes that it causes.

    :ivar id: unique in the plan.
    :ivar stages: the calls made before the answer: those of a stage at once, the stages in turn.
    :ivar afterwards: the calls made when the answer has been sent.
    :ivar writes: the bytes of each write to the service's store.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    service: str
    protocol: Literal["http", "grpc"]
    operation: str
    request_bytes: int
    answer_bytes: int
    stages: tuple[tuple[Hop, ...], ...] = ()
    afterwards: tuple[Hop, ...] = ()
    writes: tuple[int, ...] = ()

    def walk(self) -> Iterator[Hop]:
        """Yields this hop and all below it, each before those that it calls."""
        yield self
        for hop in itertools.chain(*self.stages, self.afterwards):
            yield from hop.walk()

    @property
    def calls(self) -> int:
        """The number of calls that it causes, in all services."""
        return sum(1 for _ in self.walk()) - 1

    @property
    def all_writes(self) -> int:
        """The number of writes that it causes, in all services."""
        return sum(len(hop.writes) for hop in self.walk())


class Plan(BaseModel):
    """What the floor serves: a hop to the frontend for each journey."""

    journeys: Mapping[str, Hop]

    def hops(self) -> Iterator[Hop]:
        """Yields all hops of all journeys."""
        for hop in self.journeys.values():
            yield from hop.walk()

    def services(self) -> Sequence[str]:
        """Returns the services that the plan needs, by name."""
        return sorted({hop.service for hop in self.hops()})


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of the two messages of a call."""

    request_bytes: int
    answer_bytes: int


@dataclass(frozen=True, slots=True)
class CallName:
    """A call as the call record names it."""

    caller: str
    callee: str
    operation: str


@dataclass(frozen=True, slots=True)
class Noted:
    """The calls and writes of one journey, on average of several.

    :ivar calls: the number of each, including those made afterwards.
    :ivar writes: the bytes of each write, by service.
    """

    calls: Mapping[CallName, int]
    sizes: Mapping[CallName, Sizes]
    writes: Mapping[str, tuple[int, ...]]


class Names:
    """The names of services and calls in the notes of a running shop.

    :param services: by the process's id.
    :param ports: the HTTP ports, by service.
    """

    def __init__(
        self, topology: Topology, services: Mapping[int, str], ports: Mapping[int, str]
    ) -> None:
        self._topology = topology
        self._services = services
        self._ports = ports

    def service(self, note: Note) -> str:
        """Returns the service whose process made a note."""
        return self._services[note.pid]

    def call(self, note: Note) -> CallName:
        """Returns the call that a note of a message is about."""
        caller = self.service(note)
        if note.target.startswith("/"):
            name, _, method = note.target[1:].rpartition("/")
            callee = next(
                edge.callee
                for edge in self._topology.service(caller).calls
                for call in edge.grpc
                if call.rpc == note.target[1:]
            )
            return CallName(caller, callee, f"{name.rpartition('.')[2]}/{method}")
        method, _, url = note.target.partition(" ")
        address, _, path = url.partition("://")[2].partition("/")
        callee = self._ports[int(address.rpartition(":")[2])]
        if callee == SANDBOX:  # the SDK names its calls, not their paths
            return CallName(caller, STRIPE, STRIPE)
        return CallName(caller, callee, self._operation(callee, method, "/" + path.split("?")[0]))

    def _operation(self, callee: str, method: str, path: str) -> str:
        """Returns the route of a request, as the topology declares it."""
        routes = [
            (call.method, call.path)
            for _, edge in self._topology.callers_of(callee)
            for call in edge.http
        ]
        routes += [
            (each, route.path)
            for route in self._topology.service(callee).public
            for each in route.methods
        ]
        for declared, template in routes:
            if declared == method and path_pattern(template).fullmatch(path):
                return f"{method} {template}"
        raise ValueError(f"{callee} has no route {method} {path}")


def summed_up(notes: Iterable[Note], names: Names, journeys: int) -> Noted:
    """Returns the calls and writes of one journey.

    What happens less than every other time is left out, such as a job that runs by the clock.

    :param notes: of all journeys.
    :param journeys: the number of equal journeys that were sent.
    """
    sizes: dict[CallName, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    writes: dict[str, list[int]] = defaultdict(list)
    for note in notes:
        if names.service(note) == SANDBOX:  # not the shop's
            continue
        if note.kind == "write":
            writes[names.service(note)].append(note.size_bytes)
        else:
            sizes[names.call(note)][note.kind].append(note.size_bytes)
    counts = {name: round(len(found["answer"]) / journeys) for name, found in sizes.items()}
    return Noted(
        calls={name: count for name, count in counts.items() if count},
        sizes={
            name: Sizes(round(statistics.mean(found["request"])), round(_mean(found["answer"])))
            for name, found in sizes.items()
        },
        writes={
            service: (round(_mean(found)),) * round(len(found) / journeys)
            for service, found in writes.items()
        },
    )


def _mean(sizes: Sequence[int]) -> float:
    return statistics.mean(sizes) if sizes else 0.0


def journey_hop(
    journey: str, request: str, served: Served | None, noted: Noted, edge: Sizes
) -> Hop:
    """Returns the hop to the frontend, with all that follows.

    The work of services that have no part in the request is left out.

    :param request: method and path.
    :param served: the answer's record; None where the answer has none, since no application has
        made it.
    :param edge: the messages between the client and the frontend.
    :raises ValueError: the record does not hold all calls.
    """
    if served is None:
        return Hop(
            id=f"{journey}.0",
            service=GATEWAY,
            protocol="http",
            operation=request,
            request_bytes=edge.request_bytes,
            answer_bytes=edge.answer_bytes,
        )
    if served.dropped:
        raise ValueError(f"the call record of {journey} leaves out {served.dropped} calls")
    calls = served.calls
    if served.service != GATEWAY:  # the gateway passes the service's record on, without itself
        operation = next(
            name.operation
            for name in noted.calls
            if name.caller == GATEWAY and name.callee == served.service
        )
        calls = (Call(served.service, operation, "", "", served.milliseconds, "", calls),)
    return _Builder(journey, noted).root(request, calls, edge)


class _Builder:
    def __init__(self, journey: str, noted: Noted) -> None:
        self._journey = journey
        self._noted = noted
        self._ids = itertools.count()
        self._left = Counter(noted.calls)
        self._hops = Counter[str]()
        self._taken = Counter[str]()

    def root(self, request: str, calls: Sequence[Call], edge: Sizes) -> Hop:
        self._hops[GATEWAY] += 1
        self._count(GATEWAY, calls)
        for name, count in self._left.items():
            self._hops[name.callee] += count
        return self._hop(GATEWAY, request, edge, calls)

    def _count(self, caller: str, calls: Sequence[Call]) -> None:
        """Subtracts the record's calls from all calls; what is left is made afterwards."""
        for call in calls:
            self._hops[call.callee] += 1
            self._left[_name(caller, call)] -= 1
            self._count(call.callee, call.calls)

    def _hop(self, service: str, operation: str, sizes: Sizes, calls: Sequence[Call]) -> Hop:
        number = next(self._ids)
        is_first = not self._taken[service]
        writes = self._writes(service)
        return Hop(
            id=f"{self._journey}.{number}",
            service=service,
            protocol="http" if " " in operation or service == STRIPE else "grpc",
            operation=operation,
            request_bytes=sizes.request_bytes,
            answer_bytes=sizes.answer_bytes,
            stages=tuple(
                tuple(self._called(service, call) for call in stage) for stage in stages_of(calls)
            ),
            afterwards=tuple(self._afterwards(service)) if is_first else (),
            writes=writes,
        )

    def _called(self, caller: str, call: Call) -> Hop:
        sizes = self._noted.sizes[_name(caller, call)]
        return self._hop(call.callee, call.operation, sizes, call.calls)

    def _afterwards(self, caller: str) -> Iterator[Hop]:
        for name, count in self._left.items():
            if name.caller == caller:
                for _ in range(count):
                    yield self._hop(name.callee, name.operation, self._noted.sizes[name], ())

    def _writes(self, service: str) -> tuple[int, ...]:
        """Returns this hop's part of the service's writes: they are dealt out evenly."""
        writes = self._noted.writes.get(service, ())
        turn, hops = self._taken[service], self._hops[service]
        self._taken[service] += 1
        return writes[turn::hops] if turn < hops else ()


def _name(caller: str, call: Call) -> CallName:
    operation = STRIPE if call.callee == STRIPE else call.operation
    return CallName(caller, call.callee, operation)


def stages_of(calls: Sequence[Call]) -> Sequence[Sequence[Call]]:
    """Returns the calls in stages: those of a stage overlap, and the stages follow each other."""
    stages: list[list[Call]] = []
    end = 0.0
    for call in sorted(calls, key=lambda call: call.start_milliseconds):
        if not stages or call.start_milliseconds > end - _ROUNDING_MILLISECONDS:
            stages.append([])
        stages[-1].append(call)
        end = max(end, call.start_milliseconds + call.milliseconds)
    return stages
