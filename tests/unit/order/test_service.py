"""Placing, showing and cancelling orders: each one's own, once per key, at the shop's prices."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from services.common import context
from services.common.errors import Kind, ShopError
from services.order import model
from services.order.model import Order, OrderState, PlaceOrder, Step
from tests.unit.failure import failure
from tests.unit.order.examples import ADDRESS, error
from tests.unit.order.harness import NOTIFY, OrderHarness, OrderProcess


@pytest.fixture(autouse=True)
def request_context() -> Generator[None]:
    with context.background(15.0):
        yield


@pytest.fixture
def process(harness: OrderHarness) -> OrderProcess:
    return harness.process()


async def place(process: OrderProcess, **changes: Any) -> Order:
    command = PlaceOrder(
        user_id="usr_ada",
        idempotency_key="key-1",
        fingerprint="body-1",
        quantities={"oak-board": 2, "bowl": 1},
        address=ADDRESS,
        shipping_service="standard",
        payment_method="pm_card_visa",
    )
    return await process.orders.place(replace(command, **changes))


def effects(harness: OrderHarness) -> Sequence[str]:
    """What was asked for, but for the mail."""
    return [effect for effect in harness.around.asked if effect != NOTIFY]


class TestPlacing:
    async def test_takes_prices_weights_and_contact_from_those_who_know(
        self, process: OrderProcess
    ) -> None:
        order = await place(process)
        assert order.state is OrderState.CONFIRMED
        assert [(line.name, line.quantity, line.unit_price_cents) for line in order.lines] == [
            ("Oak Serving Board", 2, 3495),
            ("Bowl", 1, 1200),
        ]
        assert (order.items_cents, order.shipping_cents, order.total_cents) == (8190, 495, 8685)
        assert order.weight_grams == 2200
        assert order.contact.email == "usr_ada@example.com"
        assert order.history[0].what == "placed"

    async def test_for_more_than_was_shown_is_refused_and_leaves_the_key_free(
        self, harness: OrderHarness, process: OrderProcess
    ) -> None:
        refused = await failure(place(process, expected_total_cents=8684))
        assert (refused.kind, refused.code) == (Kind.CONFLICT, "total-changed")
        assert refused.fields == {
            "expected_total_cents": "8684",
            "total_cents": "8685",
            "currency": "EUR",
        }
        assert harness.around.asked == []
        assert (await place(process, expected_total_cents=8685)).state is OrderState.CONFIRMED
        # Repeated, it is that order, whatever things cost now.
        assert (await place(process, expected_total_cents=1)).state is OrderState.CONFIRMED

    async def test_gives_a_refused_order_too(
        self, harness: OrderHarness, process: OrderProcess
    ) -> None:
        harness.around.fail(Step.AUTHORIZE, error(Kind.DECLINED, "insufficient-funds"))
        order = await place(process)
        assert order.state is OrderState.CANCELLED
        assert order.reason is not None
        assert (order.reason.kind, order.reason.code) == (Kind.DECLINED, "insufficient-funds")

    async def test_answers_before_the_order_is_settled_when_that_takes_long(
        self, harness: OrderHarness
    ) -> None:
        held = harness.around.hold(Step.CAPTURE)
        order = await place(harness.process(order_answer_seconds=0.05))
        assert (order.state, order.is_settled) == (OrderState.WORKING, False)
        held.set()
        assert (await harness.finished(order.id)).state is OrderState.CONFIRMED

    async def test_answers_within_the_callers_deadline(
        self, harness: OrderHarness, process: OrderProcess
    ) -> None:
        harness.around.hold(Step.CAPTURE)
        with context.background(0.6):
            order = await place(process)
            assert context.current().seconds_left > 0
        assert not order.is_settled

    async def test_goes_on_when_the_customer_is_gone(
        self, harness: OrderHarness, process: OrderProcess
    ) -> None:
        held = harness.around.hold(Step.CAPTURE)
        request = asyncio.create_task(place(process))
        await harness.asked_for(Step.CAPTURE)
        request.cancel()
        held.set()
        order = await harness.finished(model.order_id_for("usr_ada", "key-1"))
        assert order.state is OrderState.CONFIRMED

    async def test_names_an_unknown_product(
        self, harness: OrderHarness, process: OrderProcess
    ) -> None:
        error = await failure(place(process, quantities={"bowl": 1, "sword": 1}))
        assert (error.kind, error.code) == (Kind.INVALID, "unknown-product")
        assert error.fields == {"product_id": "sword"}
        assert harness.around.asked == []

    async def test_refuses_shipping_that_there_is_not(
        self, harness: OrderHarness, process: OrderProcess
    ) -> None:
        abroad = ADDRESS.model_copy(update={"country": "JP"})
        error = await failure(place(process, address=abroad, shipping_service="express"))
        assert (error.kind, error.code) == (Kind.INVALID, "no-such-shipping")
        assert harness.around.asked == []


class TestIdempotency:
    async def test_the_same_key_is_the_same_order(
        self, harness: OrderHarness, process: OrderProcess
    ) -> None:
        first = await place(process)
        await harness.finished(first.id)
        second = await place(process)
        assert second.id == first.id
        assert second.history == first.history
        assert harness.around.counts()[Step.CAPTURE] == 1
        assert process.products.asked == 1, "nothing is priced again"

    async def test_holds_for_many_at_once_in_several_processes(self, harness: OrderHarness) -> None:
        processes = [harness.process(f"order-{number}") for number in range(3)]
        orders = await asyncio.gather(*(place(processes[n % 3]) for n in range(20)))
        assert {order.id for order in orders} == {orders[0].id}
        assert {order.state for order in orders} == {OrderState.CONFIRMED}
        assert harness.around.counts()[Step.RESERVE] == 1
        assert harness.around.counts()[Step.CAPTURE] == 1

    async def test_holds_for_refused_orders(
        self, harness: OrderHarness, process: OrderProcess
    ) -> None:
        harness.around.fail(Step.AUTHORIZE, error(Kind.DECLINED, "card-declined"))
        assert (await place(process)).state is OrderState.CANCELLED
        assert (await place(process)).state is OrderState.CANCELLED
        assert harness.around.counts()[Step.AUTHORIZE] == 1

    async def test_another_body_under_the_same_key_is_refused(
        self, harness: OrderHarness, process: OrderProcess
    ) -> None:
        order = await place(process)
        error = await failure(place(process, fingerprint="body-2"))
        assert (error.kind, error.code) == (Kind.INVALID, "idempotency-key-reused")
        assert (await harness.finished(order.id)).state is OrderState.CONFIRMED

    async def test_of_two_bodies_at_once_one_wins(
        self, harness: OrderHarness, process: OrderProcess
    ) -> None:
        results = await asyncio.gather(
            *(place(process, fingerprint=f"body-{number}") for number in range(5)),
            return_exceptions=True,
        )
        orders = [result for result in results if isinstance(result, Order)]
        refused = [result for result in results if isinstance(result, ShopError)]
        assert len(orders) == 1
        assert {error.code for error in refused} == {"idempotency-key-reused"}
        assert harness.around.counts()[Step.RESERVE] == 1

    async def test_a_key_is_each_users_own(self, process: OrderProcess) -> None:
        ada, bob = await place(process), await place(process, user_id="usr_bob")
        assert ada.id != bob.id
        assert bob.contact.email == "usr_bob@example.com"


class TestShowing:
    async def test_is_for_the_owner_only(self, process: OrderProcess) -> None:
        order = await place(process)
        assert (await process.orders.get("usr_ada", order.id)).id == order.id
        foreign = await failure(process.orders.get("usr_eve", order.id))
        unknown = await failure(process.orders.get("usr_eve", "ord_unknown"))
        assert foreign.kind is Kind.NOT_FOUND
        assert str(foreign) == str(unknown), "nobody learns which orders there are"

    async def test_lists_ones_own_newest_first_in_pages(self, process: OrderProcess) -> None:
        await place(process, user_id="usr_eve")
        placed = [(await place(process, idempotency_key=f"key-{n}")).id for n in range(5)]
        shown: list[str] = []
        cursor: str | None = None
        for _ in range(3):
            page = await process.orders.history("usr_ada", 2, cursor)
            shown += [stored.value.id for stored in page.items]
            cursor = page.next_cursor
        assert cursor is None
        assert sorted(shown) == sorted(placed)
        times = [(await process.orders.get("usr_ada", order_id)).created_ms for order_id in shown]
        assert times == sorted(times, reverse=True)

    async def test_tells_orders_and_attempts_apart_on_full_pages(
        self, harness: OrderHarness, process: OrderProcess
    ) -> None:
        orders: list[str] = []
        attempts: list[str] = []
        for number in range(7):
            is_refused = number % 3 != 0
            if is_refused:
                harness.around.fail(Step.AUTHORIZE, error(Kind.DECLINED, "card-declined"))
            order = await place(process, idempotency_key=f"key-{number}")
            (attempts if is_refused else orders).insert(0, order.id)

        async def listed(attempts: bool | None) -> list[list[str]]:
            pages: list[list[str]] = []
            cursor: str | None = None
            while True:
                page = await process.orders.history("usr_ada", 2, cursor, attempts=attempts)
                pages.append([stored.value.id for stored in page.items])
                cursor = page.next_cursor
                if cursor is None:
                    return pages

        assert await listed(attempts=False) == [orders[:2], orders[2:]]
        assert await listed(attempts=True) == [attempts[:2], attempts[2:]]
        assert sum(map(len, await listed(attempts=None))) == 7

    async def test_finds_what_is_looked_for_among_many(self, process: OrderProcess) -> None:
        bowls = [
            (await place(process, idempotency_key=f"bowl-{n}", quantities={"bowl": 1})).id
            for n in range(2)
        ]
        for number in range(8):
            quantities = {"oak-board": 1}
            await place(process, idempotency_key=f"key-{number}", quantities=quantities)
        first = await process.orders.history("usr_ada", 1, None, query="bowl")
        assert [stored.value.id for stored in first.items] == bowls[1:]
        second = await process.orders.history("usr_ada", 1, first.next_cursor, query="bowl")
        assert [stored.value.id for stored in second.items] == bowls[:1]
        assert second.next_cursor is None

    async def test_lists_one_that_is_worked_on_as_an_order(self, harness: OrderHarness) -> None:
        harness.around.hold(Step.CAPTURE)
        process = harness.process(order_answer_seconds=0.05)
        order = await place(process)
        page = await process.orders.history("usr_ada", 2, None, attempts=False)
        assert [stored.value.id for stored in page.items] == [order.id]


class TestCancellingAnOrder:
    async def test_undoes_a_confirmed_order(
        self, harness: OrderHarness, process: OrderProcess
    ) -> None:
        order = await place(process)
        await harness.finished(order.id)
        cancelled = await process.orders.cancel("usr_ada", order.id)
        assert cancelled.state is OrderState.CANCELLED
        assert effects(harness)[-3:] == [Step.RECALL, Step.REFUND, Step.RELEASE]
        await harness.finished(order.id)
        assert [event.kind for event in harness.around.told] == [
            "order-confirmed",
            "order-cancelled",
        ]
        assert "You asked us to cancel it." in harness.around.told[1].facts["reason"]

    async def test_twice_is_cancelled_once(
        self, harness: OrderHarness, process: OrderProcess
    ) -> None:
        order = await place(process)
        for _ in range(2):
            assert (await process.orders.cancel("usr_ada", order.id)).state is OrderState.CANCELLED
        assert harness.around.counts()[Step.REFUND] == 1

    async def test_at_once_by_many_is_cancelled_once(self, harness: OrderHarness) -> None:
        processes = [harness.process(f"order-{number}") for number in range(3)]
        order = await place(processes[0])
        results = await asyncio.gather(
            *(processes[n % 3].orders.cancel("usr_ada", order.id) for n in range(9))
        )
        assert {result.state for result in results} == {OrderState.CANCELLED}
        assert harness.around.counts()[Step.REFUND] == 1

    async def test_by_another_process_is_seen_by_the_one_that_drives_the_order(
        self, harness: OrderHarness
    ) -> None:
        held = harness.around.hold(NOTIFY)
        driver, other = harness.process("order-1"), harness.process("order-2")
        order = await place(driver)
        await harness.asked_for(NOTIFY)
        for process in (other, driver):
            assert (await process.orders.cancel("usr_ada", order.id)).state is OrderState.CANCELLED
        held.set()

    async def test_comes_too_late_for_a_parcel_under_way(
        self, harness: OrderHarness, process: OrderProcess
    ) -> None:
        order = await place(process)
        harness.around.fail(Step.RECALL, error(Kind.CONFLICT, "shipment-under-way"))
        late = await failure(process.orders.cancel("usr_ada", order.id))
        assert (late.kind, late.code) == (Kind.CONFLICT, "shipment-under-way")
        after = await harness.finished(order.id)
        assert (after.state, after.reason) == (OrderState.CONFIRMED, None)
        assert harness.around.counts()[Step.REFUND] == 0

    async def test_comes_too_early_for_an_order_that_is_worked_on(
        self, harness: OrderHarness
    ) -> None:
        held = harness.around.hold(Step.CAPTURE)
        process = harness.process(order_answer_seconds=0.05)
        order = await place(process)
        early = await failure(process.orders.cancel("usr_ada", order.id))
        assert (early.kind, early.code) == (Kind.CONFLICT, "order-in-progress")
        held.set()
        assert (await harness.finished(order.id)).state is OrderState.CONFIRMED

    async def test_of_a_refused_order_changes_nothing(
        self, harness: OrderHarness, process: OrderProcess
    ) -> None:
        harness.around.fail(Step.AUTHORIZE, error(Kind.DECLINED, "card-declined"))
        order = await place(process)
        asked = effects(harness)
        assert (await process.orders.cancel("usr_ada", order.id)).reason == order.reason
        assert effects(harness) == asked

    async def test_answers_before_all_is_undone_when_that_takes_long(
        self, harness: OrderHarness
    ) -> None:
        process = harness.process(order_answer_seconds=0.05)
        order = await place(process)
        await harness.finished(order.id)
        held = harness.around.hold(Step.REFUND)
        assert (await process.orders.cancel("usr_ada", order.id)).state is OrderState.CANCELLING
        held.set()
        assert (await harness.finished(order.id)).state is OrderState.CANCELLED

    async def test_is_for_the_owner_only(
        self, harness: OrderHarness, process: OrderProcess
    ) -> None:
        order = await place(process)
        assert (await failure(process.orders.cancel("usr_eve", order.id))).kind is Kind.NOT_FOUND
        assert (await harness.finished(order.id)).state is OrderState.CONFIRMED
