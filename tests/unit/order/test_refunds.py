"""Money of cancelled orders that does not arrive: found, and told to the customer."""

from __future__ import annotations

import asyncio

import pytest

from services.common import clock, context
from services.common.errors import Kind, ShopError
from services.order import refunds
from services.order.model import Order, OrderState, RefundStatus, Step
from tests.unit.order.examples import an_order, error
from tests.unit.order.world import NOTIFY, Process, World

DAY_MS = 24 * 3_600_000


class Days:
    """What the clock of the looks says."""

    def __init__(self) -> None:
        self.passed = 1

    def now_ms(self) -> int:
        return clock.now_ms() + self.passed * DAY_MS


@pytest.fixture(autouse=True)
def days(monkeypatch: pytest.MonkeyPatch) -> Days:
    days = Days()
    monkeypatch.setattr(refunds, "now_ms", days.now_ms)
    return days


@pytest.fixture
def process(world: World) -> Process:
    return world.process()


async def cancelled(world: World, process: Process, user_id: str = "usr_ada") -> Order:
    """An order that was paid for, cancelled and paid back, as far as is known by then."""
    order_id = "ord_" + user_id[-1] * 24
    await world.begin(process, an_order(id=order_id, user_id=user_id))
    await world.finished(order_id)
    world.around.told.clear()
    with context.background(30.0):
        await process.orders.cancel(user_id, order_id)
    return await world.finished(order_id)


async def look(process: Process) -> None:
    with context.background(30.0):
        await process.refunds.run()


def told(world: World) -> list[str]:
    return [event.kind for event in world.around.told]


async def test_one_that_arrives_is_looked_at_until_it_is_certain(
    world: World, process: Process, days: Days
) -> None:
    order = await cancelled(world, process)
    asked = world.around.counts()[Step.REFUND]
    for _ in range(60):
        await look(process)
        days.passed += 1
    assert 30 <= world.around.counts()[Step.REFUND] - asked <= 36
    assert (await world.order(order.id)).refund_look_ms is None
    assert told(world) == ["order-cancelled"]


async def test_one_that_fails_later_is_told_once(world: World, process: Process) -> None:
    order = await cancelled(world, process)
    world.around.refund = RefundStatus.FAILED
    await asyncio.gather(look(process), look(world.process("order-2")))
    assert (await world.order(order.id)).refund_failed
    await process.saga.sweep()
    await world.finished(order.id)
    await look(process)
    assert told(world) == ["order-cancelled", "order-refund-failed"]


async def test_one_that_fails_at_once_is_told_with_the_cancellation(
    world: World, process: Process
) -> None:
    world.around.refund = RefundStatus.FAILED
    order = await cancelled(world, process)
    assert (order.refund_failed, order.refund_look_ms) == (True, None)
    assert [event.facts.get("refund") for event in world.around.told] == ["failed", "failed"]
    assert told(world) == ["order-cancelled", "order-refund-failed"]


async def test_a_disputed_charge_is_left_to_the_bank_and_not_promised(
    world: World, process: Process
) -> None:
    world.around.refund = RefundStatus.DISPUTED
    order = await cancelled(world, process)
    assert (order.refund_disputed, order.refund_failed, order.refund_look_ms) == (True, False, None)
    (event,) = world.around.told
    assert (event.kind, event.facts["refund"]) == ("order-cancelled", "disputed")


async def test_one_of_an_attempt_is_told_though_its_refusal_was_answered(
    world: World, process: Process
) -> None:
    world.around.fail(Step.CAPTURE, error(Kind.DECLINED, "authorization-expired"))
    world.around.refund = RefundStatus.FAILED
    stored = await world.begin(process, an_order())
    await process.saga.settled(stored.value.id, 5.0)
    order = await world.finished(stored.value.id)
    assert (order.is_attempt, order.was_answered) == (True, True)
    assert told(world) == ["order-refund-failed"]


async def test_what_was_never_charged_is_not_asked_for(world: World, process: Process) -> None:
    world.around.refund = RefundStatus.NONE
    await cancelled(world, process)
    asked = world.around.counts()[Step.REFUND]
    await look(process)
    assert world.around.counts()[Step.REFUND] == asked


async def test_an_order_whose_customer_is_not_told_yet_is_left_to_its_owner(
    world: World, process: Process
) -> None:
    held = world.around.hold(NOTIFY)
    stored = await world.begin(process, an_order(step=Step.RECALL, state=OrderState.CANCELLING))
    await world.asked_for(NOTIFY)
    world.around.refund = RefundStatus.FAILED
    await look(process)
    held.set()
    assert not (await world.finished(stored.value.id)).refund_failed
    await look(process)
    assert (await world.order(stored.value.id)).refund_failed


async def test_an_outage_is_waited_out(world: World, process: Process) -> None:
    order = await cancelled(world, process)
    world.around.refund = RefundStatus.FAILED
    world.around.fail(Step.REFUND, error(Kind.UNAVAILABLE))
    with pytest.raises(ShopError):
        await look(process)
    assert not (await world.order(order.id)).refund_failed
    await look(process)
    assert (await world.order(order.id)).refund_failed


async def test_one_that_cannot_be_asked_for_holds_up_no_others(
    world: World, process: Process
) -> None:
    orders = [await cancelled(world, process, user_id) for user_id in ("usr_ada", "usr_bob")]
    world.around.refund = RefundStatus.FAILED
    world.around.fail(Step.REFUND, error(Kind.INVALID))
    await look(process)
    found = [(await world.order(order.id)).refund_failed for order in orders]
    assert sorted(found) == [False, True]
