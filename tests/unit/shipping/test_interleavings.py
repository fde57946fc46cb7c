"""Requests for one parcel in every order and at once: duplicates change nothing, and a late request
finds its undo.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from services.common.documents import Documents
from services.common.observing.metrics import Metrics
from services.shipping.model import SHIPMENTS, Shipment, ShipmentState
from services.shipping.service import Shipments
from services.shipping.settings import ShippingSettings
from services.shipping.store import ShipmentStore
from tests.unit.interleaving import (
    Actor,
    SteppedStore,
    interleave_by_chance,
    interleave_jobs,
    undo_in_every_order,
)
from tests.unit.shipping.examples import ORDER, a_command
from tests.unit.shipping.test_service import FakeNotifications

Job = Callable[["World"], Coroutine[Any, Any, object]]


class World:
    """One parcel; every process is as good as another."""

    def __init__(self) -> None:
        self.documents = SteppedStore()
        self.shipments = Shipments(
            ShipmentStore(Documents(self.documents, SHIPMENTS, Shipment)),
            FakeNotifications(),
            ShippingSettings(shipping_step_seconds=60.0),
            TracerProvider().get_tracer("test"),
            Metrics(),
        )

    @property
    def shipment(self) -> Shipment:
        """The parcel as it is stored."""
        (body,) = self.documents.bodies(SHIPMENTS)
        return Shipment.model_validate(body)


async def create(world: World) -> None:
    """Prepares the parcel."""
    await world.shipments.create(a_command())


async def dispatch(world: World) -> None:
    """Hands it to the carrier."""
    await world.shipments.dispatch(ORDER)


async def cancel(world: World) -> None:
    """Undoes both."""
    await world.shipments.cancel(ORDER)


async def send(world: World) -> None:
    """Prepares it and hands it over."""
    await create(world)
    await dispatch(world)


def check(world: World, jobs: tuple[Job, ...]) -> None:
    """What holds once all jobs have ended."""
    shipment = world.shipment
    states = [moment.state for moment in shipment.history]
    assert len(states) == len(set(states)), "each stage once"
    if cancel in jobs:
        assert shipment.state is ShipmentState.CANCELLED
        assert (shipment.moves_ms, shipment.due_ms, shipment.events) == (None, None, ())
    else:
        assert shipment.state in {ShipmentState.PREPARED, ShipmentState.DISPATCHED}


@pytest.mark.parametrize(
    ("before", "jobs"),
    [
        ((), (create, create)),
        ((), (create, cancel)),
        ((), (cancel, cancel)),
        ((), (send, send)),
        ((), (send, cancel)),
        ((create,), (dispatch, dispatch)),
        ((create,), (dispatch, cancel)),
        ((create,), (cancel, cancel)),
        ((send,), (create, cancel)),
        ((send,), (cancel, cancel)),
    ],
    ids=lambda jobs: " and ".join(job.__name__ for job in jobs) or "new",
)
def test_two_requests_at_once(before: tuple[Job, ...], jobs: tuple[Job, Job]) -> None:
    interleave_jobs(World, before, jobs, lambda world: check(world, jobs))


@pytest.mark.parametrize("request_", [create, send])
def test_requests_and_their_undo_in_every_order(request_: Job) -> None:
    undo_in_every_order(
        World,
        request_,
        cancel,
        lambda world: check(world, (request_, cancel)),
        closed="shipment-closed",
    )


@pytest.mark.parametrize("seed", range(50))
def test_requests_their_duplicates_and_their_undo_at_once(seed: int) -> None:
    world = World()
    jobs = (send, send, cancel, cancel)
    actors = [Actor(job(world)) for job in jobs]
    interleave_by_chance(actors, seed)
    assert {actor.error.code for actor in actors if actor.error} <= {"shipment-closed"}
    check(world, jobs)
