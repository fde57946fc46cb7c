"""What the nemesis does during a run, and when: decided by the seed alone, so that a run's schedule
can be printed and made again.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

_SECONDS = (0.2, 4.0)
_RATES = (0.1, 0.6)
_SKEW_SECONDS = 300.0
_CHECKOUT_EDGE_SHARE = 0.75


class IncidentKind(StrEnum):
    """A kind of fault."""

    KILL = "kill -9"
    PAUSE = "pause"
    RESET = "connection reset"
    BLACK_HOLE = "black hole"
    DELAY = "delay"
    ERROR = "error answer"
    LOST_REPLY = "reply lost after the effect"
    DUPLICATE = "duplicated request"
    LATE = "late request"
    STRIPE = "sandbox fault"
    FULL_DISK = "full disk"
    FULL_MACHINE = "full disk for all"
    PARENT_KILL = "parent kill -9"
    RESTORE = "store put back"
    DATABASE_KILL = "database kill -9"
    DATABASE_PAUSE = "database pause"


# How often each kind is chosen, relative to the others.
_Weights = Mapping[IncidentKind, int]
_OF_PROCESSES: _Weights = {IncidentKind.KILL: 3, IncidentKind.PAUSE: 3}
_OF_EDGES: _Weights = {
    IncidentKind.RESET: 2,
    IncidentKind.BLACK_HOLE: 2,
    IncidentKind.DELAY: 2,
    IncidentKind.ERROR: 2,
    IncidentKind.LOST_REPLY: 3,
    IncidentKind.DUPLICATE: 3,
    IncidentKind.LATE: 3,
}
_OF_STRIPE: _Weights = {IncidentKind.STRIPE: 4}
_OF_MACHINE: _Weights = {IncidentKind.FULL_MACHINE: 1, IncidentKind.PARENT_KILL: 1}
_OF_SQLITE: _Weights = {IncidentKind.FULL_DISK: 1, IncidentKind.RESTORE: 1}
_OF_MONGODB: _Weights = {IncidentKind.DATABASE_KILL: 1, IncidentKind.DATABASE_PAUSE: 1}


@dataclass(frozen=True, slots=True)
class Incident:
    """One thing that goes wrong, from the moment on at which a checkout begins.

    :param target: an instance (``order-2``), an edge (``order > payment``), or what the kind has
        just one of.
    :param rate: how likely it befalls each request, for faults of requests.
    """

    at_checkout: int
    kind: IncidentKind
    target: str
    seconds: float
    rate: float

    def __str__(self) -> str:
        return (
            f"at checkout {self.at_checkout:>6}: {self.kind:<27} {self.target:<24} "
            f"{self.seconds:.1f} s, rate {self.rate:.2f}"
        )


@dataclass(frozen=True, slots=True)
class Targets:
    """What there is to go wrong.

    :param instances: every process of the shop.
    :param edges: every declared edge, as ``caller > callee``.
    :param checkout_edges: those of them that every checkout takes; they are chosen more often.
    :param databases: the instances whose own SQLite disk can be full; none on MongoDB.
    :param stores: the services whose SQLite file is put back to a copy that is seconds old.
    """

    instances: Sequence[str]
    edges: Sequence[str]
    checkout_edges: Sequence[str]
    databases: Sequence[str]
    stores: Sequence[str]


@dataclass(frozen=True, slots=True)
class Schedule:
    """All incidents of a run, by checkout, and by how much each instance's clock is wrong."""

    seed: int
    checkouts: int
    incidents: tuple[Incident, ...]
    skews_seconds: Mapping[str, float]


def make_schedule(
    seed: int, checkouts: int, checkouts_per_incident: float, targets: Targets
) -> Schedule:
    """The schedule of a run. The same arguments give the same schedule."""
    dice = random.Random(f"plan {seed}")
    kinds = {
        **_OF_PROCESSES,
        **_OF_EDGES,
        **_OF_STRIPE,
        **_OF_MACHINE,
        **(_OF_SQLITE if targets.databases else _OF_MONGODB),
    }
    number = round(checkouts / checkouts_per_incident)
    # Each kind happens, however short the run, and is felt: every checkout passes by, and enough of
    # them are left.
    certain = list(kinds)[:number]
    further = dice.choices(list(kinds), list(kinds.values()), k=max(0, number - len(kinds)))
    incidents = [
        *(_incident(kind, checkouts * 4 // 5, 1.0, targets, dice) for kind in certain),
        *(_incident(kind, checkouts, _CHECKOUT_EDGE_SHARE, targets, dice) for kind in further),
    ]
    incidents.sort(key=lambda incident: incident.at_checkout)
    # Of two processes of a service, the second has the wrong clock.
    skews_seconds = {
        instance: round(dice.uniform(-_SKEW_SECONDS, _SKEW_SECONDS))
        for instance in targets.instances
        if instance.endswith("-2")
    }
    return Schedule(seed, checkouts, tuple(incidents), skews_seconds)


def _incident(
    kind: IncidentKind,
    last_checkout: int,
    checkout_edge_share: float,
    targets: Targets,
    dice: random.Random,
) -> Incident:
    return Incident(
        at_checkout=dice.randint(1, max(1, last_checkout)),
        kind=kind,
        target=_target(kind, checkout_edge_share, targets, dice),
        seconds=dice.uniform(*_SECONDS),
        rate=dice.uniform(*_RATES),
    )


def _target(
    kind: IncidentKind, checkout_edge_share: float, targets: Targets, dice: random.Random
) -> str:
    if kind in _OF_PROCESSES:
        return dice.choice(targets.instances)
    if kind in _OF_EDGES:
        is_on_the_way = dice.random() < checkout_edge_share
        return dice.choice(targets.checkout_edges if is_on_the_way else targets.edges)
    if kind is IncidentKind.FULL_DISK:
        return dice.choice(targets.databases)
    if kind is IncidentKind.RESTORE:
        return dice.choice(targets.stores)
    if kind in _OF_MACHINE:
        return "shop"
    return "stripe" if kind is IncidentKind.STRIPE else "mongodb"
