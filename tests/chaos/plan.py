"""What goes wrong during a chaos run, and when: decided by the seed alone, so that a run's plan can
be printed and made again.
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


class Kind(StrEnum):
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
_OF_PROCESSES: Mapping[Kind, int] = {Kind.KILL: 3, Kind.PAUSE: 3}
_OF_EDGES: Mapping[Kind, int] = {
    Kind.RESET: 2,
    Kind.BLACK_HOLE: 2,
    Kind.DELAY: 2,
    Kind.ERROR: 2,
    Kind.LOST_REPLY: 3,
    Kind.DUPLICATE: 3,
    Kind.LATE: 3,
}
_OF_STRIPE: Mapping[Kind, int] = {Kind.STRIPE: 4}
_OF_MACHINE: Mapping[Kind, int] = {Kind.FULL_MACHINE: 1, Kind.PARENT_KILL: 1}
_OF_SQLITE: Mapping[Kind, int] = {Kind.FULL_DISK: 1, Kind.RESTORE: 1}
_OF_MONGODB: Mapping[Kind, int] = {Kind.DATABASE_KILL: 1, Kind.DATABASE_PAUSE: 1}


@dataclass(frozen=True, slots=True)
class Incident:
    """One thing that goes wrong, from the moment on at which a checkout begins.

    :param target: an instance (``order-2``), an edge (``order > payment``), or what the kind has
        just one of.
    :param rate: how likely it befalls each request, for faults of requests.
    """

    at_checkout: int
    kind: Kind
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
class Plan:
    """All incidents of a run, by checkout, and by how much each instance's clock is wrong."""

    seed: int
    checkouts: int
    incidents: tuple[Incident, ...]
    skews_seconds: Mapping[str, float]


def make_plan(seed: int, checkouts: int, checkouts_per_incident: float, targets: Targets) -> Plan:
    """The plan of a run. The same arguments give the same plan."""
    dice = random.Random(f"plan {seed}")
    kinds = {
        **_OF_PROCESSES,
        **_OF_EDGES,
        **_OF_STRIPE,
        **_OF_MACHINE,
        **(_OF_SQLITE if targets.databases else _OF_MONGODB),
    }
    number = round(checkouts / checkouts_per_incident)
    chosen = [
        # Each kind happens, however short the run.
        *list(kinds)[:number],
        *dice.choices(list(kinds), list(kinds.values()), k=max(0, number - len(kinds))),
    ]
    dice.shuffle(chosen)
    moments = sorted(dice.randrange(1, checkouts + 1) for _ in chosen)
    incidents = tuple(
        Incident(
            at_checkout=moment,
            kind=kind,
            target=_target(kind, targets, dice),
            seconds=dice.uniform(*_SECONDS),
            rate=dice.uniform(*_RATES),
        )
        for moment, kind in zip(moments, chosen, strict=True)
    )
    # Of two processes of a service, the second has the wrong clock.
    skews_seconds = {
        instance: round(dice.uniform(-_SKEW_SECONDS, _SKEW_SECONDS))
        for instance in targets.instances
        if instance.endswith("-2")
    }
    return Plan(seed, checkouts, incidents, skews_seconds)


def _target(kind: Kind, targets: Targets, dice: random.Random) -> str:
    if kind in _OF_PROCESSES:
        return dice.choice(targets.instances)
    if kind in _OF_EDGES:
        is_on_the_way = dice.random() < _CHECKOUT_EDGE_SHARE
        return dice.choice(targets.checkout_edges if is_on_the_way else targets.edges)
    if kind is Kind.FULL_DISK:
        return dice.choice(targets.databases)
    if kind is Kind.RESTORE:
        return dice.choice(targets.stores)
    if kind in _OF_MACHINE:
        return "shop"
    return "stripe" if kind is Kind.STRIPE else "mongodb"
