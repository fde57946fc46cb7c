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
    SteppedStore,
    interleave_by_chance,
    interleave_jobs,
    names_of,
    undo_in_every_order,
)
from tests.unit.shipping.examples import ORDER, Inbox, a_command

Job = Callable[["SteppedShipments"], Coroutine[Any, Any, object]]


class SteppedShipments:
    """One parcel; every process is as good as another."""

    def __init__(self) -> None:
        self.documents = SteppedStore()
        self.shipments = Shipments(
            ShipmentStore(Documents(self.documents, SHIPMENTS, Shipment)),
            Inbox(),
            ShippingSettings(shipping_step_seconds=60.0),
            TracerProvider().get_tracer("test"),
            Metrics(),
        )

    @property
    def shipment(self) -> Shipment:
        """The parcel as it is stored."""
        (body,) = self.documents.bodies(SHIPMENTS)
        return Shipment.model_validate(body)


async def create(system: SteppedShipments) -> None:
    """Prepares the parcel."""
    await system.shipments.create(a_command())


async def dispatch(system: SteppedShipments) -> None:
    """Hands it to the carrier."""
    await system.shipments.dispatch(ORDER)


async def cancel(system: SteppedShipments) -> None:
    """Undoes both."""
    await system.shipments.cancel(ORDER)


async def send(system: SteppedShipments) -> None:
    """Prepares it and hands it over."""
    await create(system)
    await dispatch(system)


def check(system: SteppedShipments, jobs: tuple[Job, ...]) -> None:
    """What holds once all jobs have ended."""
    shipment = system.shipment
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
    ids=names_of,
)
def test_two_requests_at_once(before: tuple[Job, ...], jobs: tuple[Job, Job]) -> None:
    interleave_jobs(SteppedShipments, before, jobs, lambda system: check(system, jobs))


@pytest.mark.parametrize("request_", [create, send])
def test_requests_and_their_undo_in_every_order(request_: Job) -> None:
    undo_in_every_order(
        SteppedShipments,
        request_,
        cancel,
        lambda system: check(system, (request_, cancel)),
        closed="shipment-closed",
    )


@pytest.mark.parametrize("seed", range(50))
def test_requests_their_duplicates_and_their_undo_at_once(seed: int) -> None:
    system = SteppedShipments()
    jobs = (send, send, cancel, cancel)
    assert interleave_by_chance((job(system) for job in jobs), seed) <= {"shipment-closed"}
    check(system, jobs)
