"""A schedule is made of its seed, and leaves out nothing that can go wrong."""

from __future__ import annotations

import pytest

from services.common.topology import load_topology
from tests.chaos.proxies import PEOPLE, STRIPE
from tests.chaos.run import Options, targets_of
from tests.chaos.schedule import IncidentKind, Targets, make_schedule

_OF_SQLITE = {IncidentKind.FULL_DISK, IncidentKind.RESTORE}
_OF_MONGODB = {IncidentKind.DATABASE_KILL, IncidentKind.DATABASE_PAUSE}
_TARGETS = Targets(
    instances=["order-1", "order-2"],
    edges=["order > payment", "user > auth"],
    checkout_edges=["order > payment"],
    databases=["order-1"],
    stores=["payment"],
)
_ON_MONGODB = Targets(_TARGETS.instances, _TARGETS.edges, _TARGETS.checkout_edges, [], [])


def test_the_same_seed_makes_the_same_schedule() -> None:
    assert make_schedule(1, 2000, 50, _TARGETS) == make_schedule(1, 2000, 50, _TARGETS)
    assert make_schedule(1, 2000, 50, _TARGETS) != make_schedule(2, 2000, 50, _TARGETS)


@pytest.mark.parametrize(
    ("targets", "impossible"),
    [(_TARGETS, _OF_MONGODB), (_ON_MONGODB, _OF_SQLITE)],
    ids=["sqlite", "mongodb"],
)
@pytest.mark.parametrize("seed", range(20))
def test_every_kind_happens_in_a_short_run(
    seed: int, targets: Targets, impossible: set[IncidentKind]
) -> None:
    schedule = make_schedule(seed, 1000, 50, targets)
    happen = {incident.kind for incident in schedule.incidents}
    assert happen == set(IncidentKind) - impossible
    assert len(schedule.incidents) == 20


@pytest.mark.parametrize("seed", range(20))
def test_every_kind_meets_requests_in_a_short_run(seed: int) -> None:
    """Once at least, it is where every checkout passes, and early enough that many of them do."""
    on_the_way = {*_TARGETS.checkout_edges, *_TARGETS.instances, *_TARGETS.stores, "shop", "stripe"}
    schedule = make_schedule(seed, 600, 20, _TARGETS)
    felt = {
        incident.kind
        for incident in schedule.incidents
        if incident.target in on_the_way and incident.at_checkout <= 480
    }
    assert felt == set(IncidentKind) - _OF_MONGODB


def test_incidents_come_in_the_order_of_the_checkouts() -> None:
    moments = [incident.at_checkout for incident in make_schedule(1, 2000, 10, _TARGETS).incidents]
    assert moments == sorted(moments)
    assert 1 <= moments[0] <= moments[-1] <= 2000


def test_every_second_process_has_a_wrong_clock() -> None:
    assert make_schedule(1, 2000, 50, _TARGETS).skews_seconds.keys() == {"order-2"}


def test_every_process_and_every_edge_can_be_hit() -> None:
    topology = load_topology()
    targets = targets_of(Options(checkouts=1))
    assert len(targets.instances) == 2 * len(topology.services) + 1
    edges = {tuple(edge.split(" > ")) for edge in targets.edges}
    assert edges == topology.edges | {("payment", STRIPE), (PEOPLE, "frontend")}
    assert set(targets.checkout_edges) < set(targets.edges)
