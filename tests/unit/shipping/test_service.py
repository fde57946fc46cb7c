"""Shipments: keyed by their order, moved on in time, told of at least once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from services.common.clock import now_ms
from services.common.documents import Documents, RevisionConflict, SqliteStore, Stored
from services.common.errors import Kind, ShopError
from services.common.observing.metrics import Metrics
from services.shipping.model import SHIPMENTS, Shipment, ShipmentState
from services.shipping.service import Shipments
from services.shipping.settings import ShippingSettings
from services.shipping.store import ShipmentStore
from tests.unit.common.kit import until
from tests.unit.failure import failure
from tests.unit.shipping.examples import ORDER, Inbox, a_command


class ShyDocuments(Documents[Shipment]):
    """Lets somebody else be quicker, as often as it is told."""

    conflicts = 0

    async def replace(self, stored: Stored[Shipment], value: Shipment) -> Stored[Shipment]:
        if self.conflicts:
            self.conflicts -= 1
            raise RevisionConflict(SHIPMENTS.name)
        return await super().replace(stored, value)


@pytest.fixture
async def documents(tmp_path: Path) -> AsyncGenerator[ShyDocuments]:
    database = SqliteStore(tmp_path / "shipping.db")
    try:
        await database.prepare(SHIPMENTS)
        yield ShyDocuments(database, SHIPMENTS, Shipment)
    finally:
        await database.close()


@pytest.fixture
def store(documents: ShyDocuments) -> ShipmentStore:
    return ShipmentStore(documents)


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def shipments(store: ShipmentStore, inbox: Inbox) -> Shipments:
    return service(store, inbox, step_seconds=0.02)


def service(store: ShipmentStore, inbox: Inbox, step_seconds: float) -> Shipments:
    tracer = TracerProvider().get_tracer("test")
    settings = ShippingSettings(shipping_step_seconds=step_seconds)
    return Shipments(store, inbox, settings, tracer, Metrics())


async def create(shipments: Shipments, order_id: str = ORDER, **changes: Any) -> Shipment:
    return await shipments.create(a_command(order_id, **changes))


async def delivered(shipments: Shipments, order_id: str = ORDER) -> Shipment:
    """The parcel, moved on until it has arrived."""
    async with asyncio.timeout(5.0):
        while True:
            await shipments.move_on()
            shipment = await shipments.get("usr_ada", order_id)
            if shipment.state is ShipmentState.DELIVERED and not shipment.events:
                return shipment
            await asyncio.sleep(0.01)


async def due(shipments: Shipments, order_id: str) -> None:
    """Returns when it is time for the parcel to move on."""
    moves_ms = (await shipments.get("usr_ada", order_id)).moves_ms
    assert moves_ms is not None
    await until(lambda: now_ms() >= moves_ms)


class TestCreating:
    async def test_prepares_a_parcel_once(self, shipments: Shipments) -> None:
        first = await create(shipments)
        assert (first.state, first.due_ms) == (ShipmentState.PREPARED, None)
        assert await create(shipments) == first
        assert await create(shipments, weight_grams=1) == first, "the first request counts"

    async def test_by_many_at_once_prepares_one(self, shipments: Shipments) -> None:
        made = await asyncio.gather(*(create(shipments) for _ in range(10)))
        assert made == [made[0]] * 10

    @pytest.mark.parametrize(
        "change", [{"service": "teleport"}, {"weight_grams": 0}, {"weight_grams": 100_001}], ids=str
    )
    async def test_needs_a_tariff(self, shipments: Shipments, change: dict[str, Any]) -> None:
        assert (await failure(create(shipments, **change))).kind is Kind.INVALID
        assert (await failure(shipments.dispatch(ORDER))).kind is Kind.NOT_FOUND

    async def test_after_a_cancellation_is_refused(self, shipments: Shipments) -> None:
        await shipments.cancel(ORDER)
        error = await failure(create(shipments))
        assert (error.kind, error.code) == (Kind.CONFLICT, "shipment-closed")


class TestDispatching:
    async def test_twice_changes_nothing_more(self, shipments: Shipments) -> None:
        await create(shipments)
        first = await shipments.dispatch(ORDER)
        assert first.state is ShipmentState.DISPATCHED
        assert await shipments.dispatch(ORDER) == first

    async def test_wins_against_others_by_trying_again(
        self, shipments: Shipments, documents: ShyDocuments
    ) -> None:
        await create(shipments)
        documents.conflicts = 2
        assert (await shipments.dispatch(ORDER)).state is ShipmentState.DISPATCHED

    async def test_does_not_bring_back_what_was_cancelled(self, shipments: Shipments) -> None:
        await create(shipments)
        await shipments.cancel(ORDER)
        assert (await failure(shipments.dispatch(ORDER))).code == "shipment-closed"


class TestCancellingAShipment:
    async def test_twice_changes_nothing_more(self, shipments: Shipments) -> None:
        await create(shipments)
        await shipments.cancel(ORDER)
        first = await shipments.get("usr_ada", ORDER)
        await shipments.cancel(ORDER)
        assert await shipments.get("usr_ada", ORDER) == first

    async def test_while_it_is_created_leaves_no_parcel_that_goes(
        self, shipments: Shipments
    ) -> None:
        results = await asyncio.gather(
            *(create(shipments) for _ in range(5)),
            *(shipments.cancel(ORDER) for _ in range(5)),
            return_exceptions=True,
        )
        errors = [result for result in results if isinstance(result, ShopError)]
        assert {error.code for error in errors} <= {"shipment-closed"}
        assert (await failure(shipments.dispatch(ORDER))).code == "shipment-closed"

    async def test_is_too_late_once_the_carrier_has_it(self, shipments: Shipments) -> None:
        await create(shipments)
        await shipments.dispatch(ORDER)
        await delivered(shipments)
        error = await failure(shipments.cancel(ORDER))
        assert (error.kind, error.code) == (Kind.CONFLICT, "shipment-under-way")


class TestMovingOn:
    async def test_brings_a_parcel_home_and_tells_of_it(
        self, shipments: Shipments, inbox: Inbox
    ) -> None:
        await create(shipments)
        await shipments.dispatch(ORDER)
        shipment = await delivered(shipments)
        assert shipment.due_ms is None
        assert inbox.told == [f"{ORDER}:in-transit", f"{ORDER}:delivered"]

    async def test_leaves_alone_what_is_not_dispatched_or_not_due(
        self, store: ShipmentStore, inbox: Inbox
    ) -> None:
        shipments = service(store, inbox, step_seconds=60.0)
        await create(shipments, "ord_prepared")
        await create(shipments, "ord_dispatched")
        dispatched = await shipments.dispatch("ord_dispatched")
        await shipments.move_on()
        assert (await shipments.get("usr_ada", "ord_prepared")).state is ShipmentState.PREPARED
        assert await shipments.get("usr_ada", "ord_dispatched") == dispatched

    async def test_goes_on_although_nobody_can_be_told_and_tells_later(
        self, store: ShipmentStore, inbox: Inbox
    ) -> None:
        shipments = service(store, inbox, step_seconds=0.02)
        inbox.unreachable = {ORDER}
        await create(shipments)
        await shipments.dispatch(ORDER)
        await due(shipments, ORDER)
        await shipments.move_on()
        waiting = await shipments.get("usr_ada", ORDER)
        assert waiting.state is ShipmentState.IN_TRANSIT
        assert len(waiting.events) == 1
        assert waiting.due_ms is not None
        await shipments.move_on()
        assert len(inbox.asked) == 1, "it is left alone for a while"
        inbox.unreachable = set()
        shipment = await delivered(shipments)
        assert [moment.state for moment in shipment.history][-1] is ShipmentState.DELIVERED
        assert inbox.told == [f"{ORDER}:in-transit", f"{ORDER}:delivered"]
        assert len(inbox.asked) == 3

    async def test_in_several_processes_at_once_moves_each_parcel_once(
        self, store: ShipmentStore, inbox: Inbox
    ) -> None:
        processes = [service(store, inbox, step_seconds=0.02) for _ in range(3)]
        for number in range(10):
            await create(processes[0], f"ord_{number}")
            await processes[0].dispatch(f"ord_{number}")
        sweeping = True

        async def sweep(shipments: Shipments) -> None:
            while sweeping:
                await shipments.move_on()
                await asyncio.sleep(0.005)

        async with asyncio.TaskGroup() as group:
            for process in processes:
                group.create_task(sweep(process))
            for number in range(10):
                shipment = await delivered(processes[0], f"ord_{number}")
                assert len(shipment.history) == 5
            sweeping = False

    async def test_is_not_held_up_by_a_parcel_that_another_process_moves(
        self, shipments: Shipments, documents: ShyDocuments
    ) -> None:
        for order_id in ("ord_a", "ord_b"):
            await create(shipments, order_id)
            await shipments.dispatch(order_id)
            await due(shipments, order_id)
        documents.conflicts = 1
        await shipments.move_on()
        states = {(await shipments.get("usr_ada", o)).state for o in ("ord_a", "ord_b")}
        assert states == {ShipmentState.DISPATCHED, ShipmentState.IN_TRANSIT}


async def test_a_shipment_is_shown_to_its_owner_only(shipments: Shipments) -> None:
    await create(shipments)
    assert (await shipments.get("usr_ada", ORDER)).id == ORDER
    await shipments.cancel("ord_fence")
    for user_id, order_id in (("usr_eve", ORDER), ("usr_ada", "ord_2"), ("usr_ada", "ord_fence")):
        assert (await failure(shipments.get(user_id, order_id))).kind is Kind.NOT_FOUND
