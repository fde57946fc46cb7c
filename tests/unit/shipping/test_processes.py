"""Several processes on one database: who moves a parcel, and what a dead one leaves behind."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider

from services.common.clock import now_ms
from services.common.documents import Documents, SqliteStore, Stored, StoreUnavailable
from services.common.errors import ShopError
from services.common.observing.metrics import Metrics
from services.shipping.model import SHIPMENTS, Shipment, ShipmentState
from services.shipping.service import Shipments
from services.shipping.settings import ShippingSettings
from services.shipping.store import ShipmentStore
from tests.testkit.metrics import values_of
from tests.testkit.waiting import eventually
from tests.unit.shipping.examples import Inbox, a_command

HOUR_MS = 3_600_000
TOLD = (ShipmentState.IN_TRANSIT, ShipmentState.DELIVERED)


class FrailStore(ShipmentStore):
    """Can be lost between two writes, as when its process dies there.

    :ivar saves_left: how many writes succeed until then.
    """

    saves_left = 1_000_000

    async def save(self, stored: Stored[Shipment], shipment: Shipment) -> Stored[Shipment]:
        if not self.saves_left:
            raise StoreUnavailable
        self.saves_left -= 1
        return await super().save(stored, shipment)


class ShippingProcess:
    """One process, with its own connections to the database."""

    def __init__(self, store: FrailStore, inbox: Inbox) -> None:
        settings = ShippingSettings(shipping_step_seconds=20.0)
        self.store = store
        self.metrics = Metrics()
        tracer = TracerProvider().get_tracer("test")
        self.shipments = Shipments(store, inbox, settings, tracer, self.metrics)

    async def dispatched(self, *order_ids: str) -> None:
        """Prepares parcels and hands them to the carrier."""
        for order_id in order_ids:
            await self.shipments.create(a_command(order_id))
            await self.shipments.dispatch(order_id)

    async def make_due(self) -> None:
        """Lets the time of every parcel have come that waits for anything."""
        for stored in await self.store.due(now_ms() + HOUR_MS, HOUR_MS, 100):
            moves_ms = None if stored.value.moves_ms is None else now_ms()
            change = {"due_ms": now_ms(), "moves_ms": moves_ms}
            await self.store.save(stored, stored.value.model_copy(update=change))

    async def make_older(self, order_id: str, age_ms: int) -> None:
        """Lets the latest stage of a parcel have been reached so much earlier."""
        stored = await self.store.get(order_id)
        assert stored is not None
        *past, last = stored.value.history
        history = (*past, last.model_copy(update={"at_ms": last.at_ms - age_ms}))
        await self.store.save(stored, stored.value.model_copy(update={"history": history}))

    async def shipment(self, order_id: str) -> Shipment:
        """A parcel as it is stored."""
        return await self.shipments.get("usr_ada", order_id)


class ShippingHarness:
    """The processes, their database and whom they tell."""

    def __init__(self, database: Path, resources: AsyncExitStack) -> None:
        self.inbox = Inbox()
        self._database = database
        self._resources = resources

    async def process(self) -> ShippingProcess:
        """Starts one more."""
        database = SqliteStore(self._database, synchronous="NORMAL")
        self._resources.push_async_callback(database.close)
        store = FrailStore(await Documents.open(database, SHIPMENTS, Shipment))
        return ShippingProcess(store, self.inbox)


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncGenerator[ShippingHarness]:
    async with AsyncExitStack() as resources:
        yield ShippingHarness(tmp_path / "shipping.db", resources)


async def test_sweeping_at_once_moves_each_parcel_by_one_stage(harness: ShippingHarness) -> None:
    processes = [await harness.process() for _ in range(3)]
    order_ids = [f"ord_{number}" for number in range(12)]
    await processes[0].dispatched(*order_ids)
    for stages in (3, 4, 5, 5):
        await processes[0].make_due()
        await asyncio.gather(*(process.shipments.move_on() for process in processes))
        for order_id in order_ids:
            history = (await processes[0].shipment(order_id)).history
            assert len(history) == len({moment.state for moment in history}) == stages
    assert set(harness.inbox.told) == {f"{order}:{state}" for order in order_ids for state in TOLD}


async def test_a_parcel_is_stopped_or_goes_its_way_but_not_both(harness: ShippingHarness) -> None:
    one, other = await harness.process(), await harness.process()
    outcomes: Counter[ShipmentState] = Counter()
    for number in range(20):
        order_id = f"ord_{number}"
        await one.dispatched(order_id)
        await one.make_due()
        _, cancelled = await asyncio.gather(
            one.shipments.move_on(), other.shipments.cancel(order_id), return_exceptions=True
        )
        shipment = await one.shipment(order_id)
        outcomes[shipment.state] += 1
        if shipment.state is ShipmentState.CANCELLED:
            assert cancelled is None
            assert (shipment.events, shipment.due_ms) == ((), None)
            assert f"{order_id}:in-transit" not in harness.inbox.told
        else:
            assert isinstance(cancelled, ShopError)
            assert cancelled.code == "shipment-under-way"
            assert ShipmentState.CANCELLED not in {moment.state for moment in shipment.history}
    assert set(outcomes) <= {ShipmentState.CANCELLED, ShipmentState.IN_TRANSIT}


@pytest.mark.parametrize("saves_left", [0, 1])
async def test_what_a_process_leaves_undone_another_does(
    harness: ShippingHarness, saves_left: int
) -> None:
    """It dies before it has moved the parcel, or after it has told of it: then that is repeated."""
    doomed, survivor = await harness.process(), await harness.process()
    await doomed.dispatched("ord_1")
    await doomed.make_due()
    doomed.store.saves_left = saves_left
    with pytest.raises(StoreUnavailable):
        await doomed.shipments.move_on()
    await survivor.shipments.move_on()
    shipment = await survivor.shipment("ord_1")
    assert (shipment.state, shipment.events) == (ShipmentState.IN_TRANSIT, ())
    assert [moment.state for moment in shipment.history].count(ShipmentState.IN_TRANSIT) == 1
    assert harness.inbox.told == ["ord_1:in-transit"] * (1 + saves_left), "always under the same id"


async def test_a_customer_who_cannot_be_told_holds_up_nobody(harness: ShippingHarness) -> None:
    process = await harness.process()
    await process.dispatched("ord_1", "ord_2")
    harness.inbox.unreachable = {"ord_1"}
    for _ in range(3):
        await process.make_due()
        await process.shipments.move_on()
    assert harness.inbox.told == ["ord_2:in-transit", "ord_2:delivered"]
    waiting = await process.shipment("ord_1")
    assert waiting.state is ShipmentState.DELIVERED
    assert waiting.due_ms is not None
    assert waiting.due_ms > now_ms(), "after a pause"
    harness.inbox.unreachable = set()
    await process.make_due()
    await process.shipments.move_on()
    assert harness.inbox.told[2:] == ["ord_1:in-transit", "ord_1:delivered"], "nothing was lost"
    assert (await process.shipment("ord_1")).due_ms is None


async def test_shows_how_long_the_oldest_message_waits(harness: ShippingHarness) -> None:
    process, other = await harness.process(), await harness.process()
    await process.dispatched("ord_1", "ord_2")
    harness.inbox.unreachable = {"ord_1"}
    await process.make_due()
    await process.shipments.move_on()
    await process.make_older("ord_1", 60_000)
    await process.make_due()
    for _ in range(2):
        await process.shipments.move_on()
        assert 60 <= lag_seconds(process) < 120, "also while it is left alone"
    assert lag_seconds(other) == 0, "who has put it off shows it"
    harness.inbox.unreachable = set()
    await process.make_due()
    await other.shipments.move_on()

    async def is_forgotten() -> bool:
        await process.shipments.move_on()
        return lag_seconds(process) == 0

    await eventually(is_forgotten, "the pause that another process has cut short is over", 60)


def lag_seconds(process: ShippingProcess) -> float:
    """What a process shows."""
    return values_of(process.metrics, "meshmart_shipment_outbox_lag_seconds")[()]


async def test_an_event_that_is_refused_is_parked_and_the_next_is_told(
    harness: ShippingHarness,
) -> None:
    process = await harness.process()
    await process.dispatched("ord_1")
    harness.inbox.refused = {"shipment-dispatched"}
    for _ in range(4):
        await process.make_due()
        await process.shipments.move_on()
    assert harness.inbox.told == ["ord_1:delivered"]
    shipment = await process.shipment("ord_1")
    assert [event.id for event in shipment.undelivered] == ["ord_1:in-transit"]
    assert (shipment.events, shipment.due_ms) == ((), None)
    counted = 'meshmart_shipment_events_undelivered_total{kind="shipment-dispatched"} 1.0'
    assert counted in process.metrics.exposition().decode()


@pytest.mark.parametrize("minutes", [-5, 5])
async def test_a_wrong_clock_holds_up_no_parcel(harness: ShippingHarness, minutes: int) -> None:
    """What a process with another clock has dispatched, the others move within a step."""
    process = await harness.process()
    await process.dispatched("ord_1")
    (stored,) = await process.store.due(now_ms() + HOUR_MS, HOUR_MS, 100)
    assert stored.value.moves_ms is not None
    skewed_ms = stored.value.moves_ms + minutes * 60_000
    change = {"due_ms": skewed_ms, "moves_ms": skewed_ms}
    await process.store.save(stored, stored.value.model_copy(update=change))
    await process.shipments.move_on()
    assert (await process.shipment("ord_1")).state is ShipmentState.IN_TRANSIT
