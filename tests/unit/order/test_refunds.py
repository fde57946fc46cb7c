"""Money of cancelled orders that does not arrive: found, and told to the customer."""

from __future__ import annotations

import asyncio

import pytest

from services.common import clock, context
from services.common.errors import Kind, ShopError
from services.order import refunds
from services.order.model import Order, OrderState, RefundStatus, Step
from tests.unit.order.examples import an_order, error
from tests.unit.order.harness import NOTIFY, OrderHarness, OrderProcess

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
def process(harness: OrderHarness) -> OrderProcess:
    return harness.process()


async def cancelled(
    harness: OrderHarness, process: OrderProcess, user_id: str = "usr_ada"
) -> Order:
    """An order that was paid for, cancelled and paid back, as far as is known by then."""
    order_id = "ord_" + user_id[-1] * 24
    await harness.begin(process, an_order(id=order_id, user_id=user_id))
    await harness.finished(order_id)
    harness.around.told.clear()
    with context.background(30.0):
        await process.orders.cancel(user_id, order_id)
    return await harness.finished(order_id)


async def look(process: OrderProcess) -> None:
    with context.background(30.0):
        await process.refunds.run()


def told(harness: OrderHarness) -> list[str]:
    return [event.kind for event in harness.around.told]


async def test_one_that_arrives_is_looked_at_until_it_is_certain(
    harness: OrderHarness, process: OrderProcess, days: Days
) -> None:
    order = await cancelled(harness, process)
    asked = harness.around.counts()[Step.REFUND]
    for _ in range(60):
        await look(process)
        days.passed += 1
    assert 30 <= harness.around.counts()[Step.REFUND] - asked <= 36
    assert (await harness.order(order.id)).refund_look_ms is None
    assert told(harness) == ["order-cancelled"]


async def test_one_that_fails_later_is_told_once(
    harness: OrderHarness, process: OrderProcess
) -> None:
    order = await cancelled(harness, process)
    harness.around.refund = RefundStatus.FAILED
    await asyncio.gather(look(process), look(harness.process("order-2")))
    assert (await harness.order(order.id)).refund_failed
    await process.saga.sweep()
    await harness.finished(order.id)
    await look(process)
    assert told(harness) == ["order-cancelled", "order-refund-failed"]


async def test_one_that_fails_at_once_is_told_with_the_cancellation(
    harness: OrderHarness, process: OrderProcess
) -> None:
    harness.around.refund = RefundStatus.FAILED
    order = await cancelled(harness, process)
    assert (order.refund_failed, order.refund_look_ms) == (True, None)
    assert [event.facts.get("refund") for event in harness.around.told] == ["failed", "failed"]
    assert told(harness) == ["order-cancelled", "order-refund-failed"]


async def test_a_disputed_charge_is_left_to_the_bank_and_not_promised(
    harness: OrderHarness, process: OrderProcess
) -> None:
    harness.around.refund = RefundStatus.DISPUTED
    order = await cancelled(harness, process)
    assert (order.refund_disputed, order.refund_failed, order.refund_look_ms) == (True, False, None)
    (event,) = harness.around.told
    assert (event.kind, event.facts["refund"]) == ("order-cancelled", "disputed")


async def test_one_of_an_attempt_is_told_though_its_refusal_was_answered(
    harness: OrderHarness, process: OrderProcess
) -> None:
    harness.around.fail(Step.CAPTURE, error(Kind.DECLINED, "authorization-expired"))
    harness.around.refund = RefundStatus.FAILED
    stored = await harness.begin(process, an_order())
    await process.saga.settled(stored.value.id, 5.0)
    order = await harness.finished(stored.value.id)
    assert (order.is_attempt, order.was_answered) == (True, True)
    assert told(harness) == ["order-refund-failed"]


async def test_what_was_never_charged_is_not_asked_for(
    harness: OrderHarness, process: OrderProcess
) -> None:
    harness.around.refund = RefundStatus.NONE
    await cancelled(harness, process)
    asked = harness.around.counts()[Step.REFUND]
    await look(process)
    assert harness.around.counts()[Step.REFUND] == asked


async def test_an_order_whose_customer_is_not_told_yet_is_left_to_its_owner(
    harness: OrderHarness, process: OrderProcess
) -> None:
    held = harness.around.hold(NOTIFY)
    stored = await harness.begin(process, an_order(step=Step.RECALL, state=OrderState.CANCELLING))
    await harness.asked_for(NOTIFY)
    harness.around.refund = RefundStatus.FAILED
    await look(process)
    held.set()
    assert not (await harness.finished(stored.value.id)).refund_failed
    await look(process)
    assert (await harness.order(stored.value.id)).refund_failed


async def test_an_outage_is_waited_out(harness: OrderHarness, process: OrderProcess) -> None:
    order = await cancelled(harness, process)
    harness.around.refund = RefundStatus.FAILED
    harness.around.fail(Step.REFUND, error(Kind.UNAVAILABLE))
    with pytest.raises(ShopError):
        await look(process)
    assert not (await harness.order(order.id)).refund_failed
    await look(process)
    assert (await harness.order(order.id)).refund_failed


async def test_one_that_cannot_be_asked_for_holds_up_no_others(
    harness: OrderHarness, process: OrderProcess
) -> None:
    orders = [await cancelled(harness, process, user_id) for user_id in ("usr_ada", "usr_bob")]
    harness.around.refund = RefundStatus.FAILED
    harness.around.fail(Step.REFUND, error(Kind.INVALID))
    await look(process)
    found = [(await harness.order(order.id)).refund_failed for order in orders]
    assert sorted(found) == [False, True]
