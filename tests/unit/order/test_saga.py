"""The saga at work: against outages, refusals, crashes and other processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from services.common import context
from services.common.call_record import CallLog
from services.common.clock import now_ms
from services.common.documents import Documents, Event, Stored, StoreUnavailable
from services.common.errors import Kind
from services.order import model, saga
from services.order.checkout import BACKWARD, FORWARD
from services.order.model import Moment, Order, OrderState, Step
from services.order.store import OrderStore
from tests.testkit.metrics import values_of
from tests.unit.common.kit import until
from tests.unit.order.examples import an_order, error
from tests.unit.order.harness import NOTIFY, OrderHarness, an_order_harness

ALL_WELL = [*FORWARD, NOTIFY]
UNDONE_AFTER: Mapping[Step, tuple[Step, ...]] = {
    Step.RESERVE: (Step.RELEASE,),
    Step.AUTHORIZE: (Step.REFUND, Step.RELEASE),
    Step.SHIP: (Step.RECALL, Step.REFUND, Step.RELEASE),
    Step.CAPTURE: (Step.RECALL, Step.REFUND, Step.RELEASE),
}
OUTAGE = error(Kind.UNAVAILABLE)
REFUSAL = error(Kind.CONFLICT, "out-of-stock")


def placed_now() -> Order:
    return an_order(created_ms=now_ms(), request_id="req-1")


class TestOneProcess:
    async def test_brings_an_order_through_all_steps(self, harness: OrderHarness) -> None:
        process = harness.process()
        stored = await harness.begin(process, placed_now())
        order = await harness.finished(stored.value.id)
        assert order.state is OrderState.CONFIRMED
        assert harness.around.asked == ALL_WELL
        assert [event.kind for event in harness.around.told] == ["order-confirmed"]
        assert order.events == ()
        assert [moment.what for moment in order.history] == [*FORWARD, "confirmed"]
        metrics = process.metrics.exposition().decode()
        assert 'orders_total{reason="",state="confirmed"} 1.0' in metrics
        worth = f'order_confirmed_cents_total{{currency="{order.currency}"}} {order.total_cents}.0'
        assert worth in metrics

    async def test_counts_a_checkout_when_it_is_decided(self, harness: OrderHarness) -> None:
        """An outage that ended it may hold up its undo for hours, and is to be seen before."""
        hold = harness.around.hold(Step.REFUND)
        harness.around.fail(Step.AUTHORIZE, error(Kind.DECLINED, "card-declined"))
        process = harness.process()
        stored = await harness.begin(process, placed_now())
        await harness.when(stored.value.id, lambda order: order.step is Step.REFUND)
        counted = 'meshmart_checkouts_total{reason="card-declined"} 1.0'
        await until(lambda: counted in process.metrics.exposition().decode())
        assert (await harness.order(stored.value.id)).state is OrderState.CANCELLING
        hold.set()
        await harness.finished(stored.value.id)
        assert counted in process.metrics.exposition().decode()

    async def test_shows_since_when_the_oldest_order_is_unfinished(
        self, harness: OrderHarness
    ) -> None:
        hold = harness.around.hold(Step.AUTHORIZE)
        process = harness.process()
        newer = an_order(id="a-newer-one", created_ms=now_ms(), open_since_ms=now_ms())
        await harness.begin(process, newer)
        long_open = an_order(created_ms=now_ms(), open_since_ms=now_ms() - 400_000)
        stored = await harness.begin(process, long_open)
        await process.saga.sweep()
        assert values_of(process.metrics, "meshmart_orders_unfinished")[()] == 2
        assert (
            400 <= values_of(process.metrics, "meshmart_order_oldest_unfinished_seconds")[()] < 460
        )
        hold.set()
        await harness.finished(stored.value.id)
        await harness.finished("a-newer-one")
        await process.saga.sweep()
        assert values_of(process.metrics, "meshmart_orders_unfinished")[()] == 0
        assert values_of(process.metrics, "meshmart_order_oldest_unfinished_seconds")[()] == 0

    async def test_shows_how_long_the_oldest_message_waits(self, harness: OrderHarness) -> None:
        hold = harness.around.hold(NOTIFY)
        process = harness.process()
        confirmed_ms = now_ms() - 90_000
        order = an_order(
            state=OrderState.CONFIRMED,
            step=None,
            open_since_ms=now_ms() - 200_000,
            events=(Event(id="e", kind="order-confirmed", facts={}),),
            history=(Moment(at_ms=confirmed_ms, what="confirmed"),),
        )
        stored = await harness.begin(process, order)
        await process.saga.sweep()
        assert 90 <= values_of(process.metrics, "meshmart_order_outbox_lag_seconds")[()] < 150
        hold.set()
        await harness.finished(stored.value.id)
        await process.saga.sweep()
        assert values_of(process.metrics, "meshmart_order_outbox_lag_seconds")[()] == 0

    async def test_counts_how_each_attempt_at_a_step_ended(self, harness: OrderHarness) -> None:
        harness.around.fail(Step.SHIP, OUTAGE, OUTAGE)
        harness.around.fail(Step.CAPTURE, error(Kind.DECLINED, "card-declined"))
        process = harness.process()
        stored = await harness.begin(process, placed_now())
        await harness.finished(stored.value.id)
        attempts = values_of(process.metrics, "meshmart_order_step_seconds_count")
        assert attempts[("again", "ship")] == 2
        assert attempts[("done", "ship")] == attempts[("refused", "capture")] == 1
        assert attempts[("done", "refund")] == attempts[("done", "tell")] == 1
        retries = values_of(process.metrics, "meshmart_order_step_retries_total")
        assert retries[("ship",)] == 2
        assert sum(retries.values()) == 2
        assert set(retries) == {*((step,) for step in Step), ("tell",)}

    async def test_counts_few_reasons_whatever_others_say(self, harness: OrderHarness) -> None:
        process = harness.process()
        for number in range(60):
            harness.around.fail(Step.AUTHORIZE, error(Kind.DECLINED, f"odd-{number}"))
            order = an_order(id=f"ord_{number}", created_ms=now_ms(), request_id="req-1")
            await harness.begin(process, order)
            await harness.finished(order.id)
        ended = values_of(process.metrics, "meshmart_orders_total")
        assert len(ended) == 41
        assert ended[("other", "cancelled")] == 20

    @pytest.mark.parametrize("step", FORWARD)
    async def test_tries_again_after_an_outage(self, harness: OrderHarness, step: Step) -> None:
        harness.around.fail(step, OUTAGE)
        stored = await harness.begin(harness.process(), placed_now())
        order = await harness.finished(stored.value.id)
        assert order.state is OrderState.CONFIRMED
        assert harness.around.counts() == {**dict.fromkeys(ALL_WELL, 1), step: 2}

    @pytest.mark.parametrize("step", UNDONE_AFTER)
    async def test_undoes_just_what_may_have_happened(
        self, harness: OrderHarness, step: Step
    ) -> None:
        harness.around.fail(step, REFUSAL)
        stored = await harness.begin(harness.process(), placed_now())
        order = await harness.finished(stored.value.id)
        assert order.state is OrderState.CANCELLED
        assert order.reason is not None
        code = model.NOT_COMPLETED if step is Step.CAPTURE else "out-of-stock"
        assert order.reason.code == code
        done = FORWARD[: FORWARD.index(step) + 1]
        assert harness.around.asked == [*done, *UNDONE_AFTER[step], NOTIFY]
        assert [event.kind for event in harness.around.told] == ["order-not-placed"]

    async def test_gives_up_on_an_order_that_was_held_up_too_long(
        self, harness: OrderHarness
    ) -> None:
        harness.around.fail(Step.AUTHORIZE, *[OUTAGE] * 20)
        process = harness.process(order_give_up_seconds=0.3)
        stored = await harness.begin(process, placed_now())
        order = await harness.finished(stored.value.id)
        assert order.state is OrderState.CANCELLED
        assert order.reason is not None
        assert (order.reason.kind, order.reason.code) == (Kind.UNAVAILABLE, "checkout-unavailable")
        assert harness.around.counts()[Step.AUTHORIZE] >= 2
        assert harness.around.asked[-3:] == [Step.REFUND, Step.RELEASE, NOTIFY]

    @pytest.mark.parametrize("step", [Step.CAPTURE, Step.COMMIT, Step.DISPATCH])
    async def test_never_gives_up_on_an_order_that_may_be_paid(
        self, harness: OrderHarness, step: Step
    ) -> None:
        harness.around.fail(step, OUTAGE, OUTAGE)
        stored = await harness.begin(harness.process(order_give_up_seconds=0.0), placed_now())
        assert (await harness.finished(stored.value.id)).state is OrderState.CONFIRMED
        assert not set(harness.around.asked) & set(BACKWARD)

    async def test_reserves_again_what_a_restored_store_has_forgotten(
        self, harness: OrderHarness
    ) -> None:
        harness.around.fail(Step.COMMIT, error(Kind.NOT_FOUND, "unknown-reservation"))
        process = harness.process()
        stored = await harness.begin(process, placed_now())
        order = await harness.finished(stored.value.id)
        assert order.state is OrderState.CONFIRMED
        until_commit = FORWARD[: FORWARD.index(Step.COMMIT) + 1]
        assert harness.around.asked == [*until_commit, *until_commit, Step.DISPATCH, NOTIFY]
        assert 'order_final_refusals_total{step="commit"} 1.0' in (
            process.metrics.exposition().decode()
        )

    async def test_prepares_the_parcel_again_that_a_restored_store_has_forgotten(
        self, harness: OrderHarness
    ) -> None:
        harness.around.fail(Step.DISPATCH, error(Kind.NOT_FOUND, "unknown-shipment"))
        stored = await harness.begin(harness.process(), placed_now())
        assert (await harness.finished(stored.value.id)).state is OrderState.CONFIRMED
        from_ship = FORWARD[FORWARD.index(Step.SHIP) :]
        assert harness.around.asked == [*FORWARD, *from_ship, NOTIFY]

    async def test_pays_back_when_what_is_paid_cannot_be_had_any_more(
        self, harness: OrderHarness
    ) -> None:
        harness.around.fail(Step.COMMIT, error(Kind.NOT_FOUND, "unknown-reservation"))
        answered = harness.around.hold(Step.COMMIT)
        stored = await harness.begin(harness.process(), placed_now())
        await until(lambda: Step.COMMIT in harness.around.asked)
        harness.around.fail(Step.RESERVE, REFUSAL)
        answered.set()
        order = await harness.finished(stored.value.id)
        assert order.state is OrderState.CANCELLED
        assert order.reason is not None
        assert order.reason.code == model.NOT_COMPLETED
        assert harness.around.asked[-4:] == [*BACKWARD, NOTIFY]

    @pytest.mark.parametrize("step", BACKWARD)
    async def test_does_not_rest_until_all_is_undone(
        self, harness: OrderHarness, step: Step
    ) -> None:
        harness.around.fail(Step.CAPTURE, REFUSAL)
        harness.around.fail(step, OUTAGE, error(Kind.INVALID))
        stored = await harness.begin(harness.process(), placed_now())
        assert (await harness.finished(stored.value.id)).state is OrderState.CANCELLED
        assert harness.around.counts()[step] == 3

    async def test_calls_in_the_name_of_the_request(self, harness: OrderHarness) -> None:
        stored = await harness.begin(harness.process(), placed_now())
        await harness.finished(stored.value.id)
        assert harness.around.request_ids == {"req-1"}
        assert context.current_request_id() is None

    async def test_leaves_no_trace_of_orders_that_are_done(self, harness: OrderHarness) -> None:
        process = harness.process()
        stored = await harness.begin(process, placed_now())
        await harness.finished(stored.value.id)
        await process.saga.sweep()
        assert harness.around.asked == ALL_WELL
        assert await harness.store.unfinished() == []


class TestWaiting:
    async def test_ends_when_the_order_is_settled_not_when_the_customer_is_told(
        self, harness: OrderHarness
    ) -> None:
        told = harness.around.hold(NOTIFY)
        process = harness.process()
        stored = await harness.begin(process, placed_now())
        order = await process.saga.settled(stored.value.id, 5.0)
        assert order is not None
        assert order.state is OrderState.CONFIRMED
        assert order.open_since_ms is not None
        told.set()
        await harness.finished(order.id)

    async def test_ends_when_the_time_is_up(self, harness: OrderHarness) -> None:
        harness.around.hold(Step.CAPTURE)
        process = harness.process()
        stored = await harness.begin(process, placed_now())
        await harness.asked_for(Step.CAPTURE)
        order = await process.saga.settled(stored.value.id, 0.1)
        assert order is not None
        assert (order.state, order.step) == (OrderState.WORKING, Step.CAPTURE)

    async def test_sees_what_another_process_does(self, harness: OrderHarness) -> None:
        stored = await harness.begin(harness.process("order-1"), placed_now())
        order = await harness.process("order-2").saga.settled(stored.value.id, 5.0)
        assert order is not None
        assert order.state is OrderState.CONFIRMED

    async def test_knows_nothing_of_an_unknown_order(self, harness: OrderHarness) -> None:
        assert await harness.process().saga.settled("ord_unknown", 5.0) is None


class TestResume:
    @pytest.mark.parametrize("step", FORWARD)
    async def test_does_the_stored_step_again(self, harness: OrderHarness, step: Step) -> None:
        """A process ends while a step is under way: its effect may have happened or not."""
        hold = harness.around.hold(step)
        first = harness.process("order-1")
        stored = await harness.begin(first, placed_now())
        await harness.asked_for(step)
        await first.saga.stop()
        assert (await harness.order(stored.value.id)).step is step
        hold.set()
        await harness.take_over("order-2")
        order = await harness.finished(stored.value.id)
        assert order.state is OrderState.CONFIRMED
        assert harness.around.counts() == {**dict.fromkeys(ALL_WELL, 1), step: 2}

    async def test_goes_on_undoing(self, harness: OrderHarness) -> None:
        hold = harness.around.hold(Step.REFUND)
        harness.around.fail(Step.CAPTURE, REFUSAL)
        first = harness.process("order-1")
        stored = await harness.begin(first, placed_now())
        await harness.asked_for(Step.REFUND)
        await first.saga.stop()
        hold.set()
        await harness.take_over("order-2")
        order = await harness.finished(stored.value.id)
        assert order.state is OrderState.CANCELLED
        assert order.reason is not None
        assert order.reason.code == model.NOT_COMPLETED

    async def test_leaves_others_their_leases(self, harness: OrderHarness) -> None:
        hold = harness.around.hold(Step.RESERVE)
        stored = await harness.begin(harness.process("order-1"), placed_now())
        await harness.asked_for(Step.RESERVE)
        for _ in range(3):
            await harness.process("order-2").saga.sweep()
        assert (await harness.order(stored.value.id)).owner == "order-1"
        hold.set()
        await harness.finished(stored.value.id)
        assert harness.around.asked == ALL_WELL

    async def test_takes_up_its_own_at_once(self, harness: OrderHarness) -> None:
        """After a crash the same instance need not wait for the leases of its former life."""
        crashed = model.owned(placed_now(), "order-1")
        assert await harness.store.add(crashed.model_copy(update={"step": Step.CAPTURE}))
        await harness.process("order-1").saga.sweep()
        assert (await harness.finished(crashed.id)).state is OrderState.CONFIRMED
        assert harness.around.asked == [Step.CAPTURE, Step.COMMIT, Step.DISPATCH, NOTIFY]

    async def test_takes_up_its_own_just_once(self, harness: OrderHarness) -> None:
        process = harness.process("order-1")
        await process.saga.sweep()
        hold = harness.around.hold(Step.RESERVE)
        stored = await harness.begin(process, placed_now())
        await process.saga.sweep()
        hold.set()
        await harness.finished(stored.value.id)
        assert harness.around.asked == ALL_WELL

    async def test_of_one_order_by_many_is_done_by_one(self, harness: OrderHarness) -> None:
        crashed = placed_now()
        assert await harness.store.add(crashed)
        processes = [harness.process(f"order-{number}") for number in range(1, 5)]
        await asyncio.gather(*(process.saga.sweep() for process in processes))
        assert (await harness.finished(crashed.id)).state is OrderState.CONFIRMED
        assert harness.around.asked == ALL_WELL

    async def test_works_off_a_backlog(self, harness: OrderHarness) -> None:
        backlog = [placed_now().model_copy(update={"id": f"ord_{number}"}) for number in range(70)]
        for order in backlog:
            assert await harness.store.add(order)
        process = harness.process("order-1")
        async with asyncio.timeout(20.0):
            while await harness.store.unfinished():
                await process.saga.sweep()
                await asyncio.sleep(0.01)
        assert harness.around.counts() == dict.fromkeys(ALL_WELL, 70)

    async def test_is_not_kept_waiting_by_new_orders(
        self, harness: OrderHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(saga, "_MAX_TAKEN_UP", 1)
        process = harness.process("order-1")
        await process.saga.sweep()
        hold = harness.around.hold(Step.RESERVE)
        await harness.begin(process, placed_now().model_copy(update={"id": "ord_new"}))
        await harness.asked_for(Step.RESERVE)
        assert await harness.store.add(placed_now().model_copy(update={"step": Step.CAPTURE}))
        await process.saga.sweep()
        assert (await harness.finished(placed_now().id)).state is OrderState.CONFIRMED
        hold.set()
        await harness.finished("ord_new")

    async def test_stops_with_the_process(self, harness: OrderHarness) -> None:
        process = harness.process("order-1")
        await process.saga.stop()
        assert await harness.store.add(placed_now())
        await process.saga.sweep()
        assert harness.around.asked == []


class TestOutage:
    """An outage that lasts: orders are put down, so that they keep no others from being driven."""

    @pytest.fixture(autouse=True)
    def impatience(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(saga, "_PATIENCE_SECONDS", 0.2)

    async def test_an_order_is_put_down_and_taken_up_by_anyone(self, harness: OrderHarness) -> None:
        harness.around.fail(Step.AUTHORIZE, *[OUTAGE] * 20)
        stored = await harness.begin(harness.process("order-1"), placed_now())
        put_down = await harness.when(stored.value.id, lambda order: not order.owner)
        assert (put_down.state, put_down.step) == (OrderState.WORKING, Step.AUTHORIZE)
        harness.around.failures.clear()
        await harness.process("order-2").saga.sweep()
        assert (await harness.finished(stored.value.id)).owner == "order-2"

    async def test_a_step_refused_for_good_rests_before_it_is_tried_again(
        self, harness: OrderHarness
    ) -> None:
        harness.around.fail(Step.CAPTURE, REFUSAL)
        harness.around.fail(Step.REFUND, *[error(Kind.INVALID)] * 50)
        process = harness.process("order-1")
        stored = await harness.begin(process, placed_now())
        await harness.when(stored.value.id, lambda order: not order.owner)
        tried = harness.around.counts()[Step.REFUND]
        for _ in range(5):
            await process.saga.sweep()
        assert harness.around.counts()[Step.REFUND] == tried
        assert (await harness.order(stored.value.id)).owner == ""

    async def test_orders_take_turns(
        self, harness: OrderHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One that was put down waits until the others have been tried too."""
        monkeypatch.setattr(saga, "_MAX_TAKEN_UP", 1)
        harness.around.fail(Step.AUTHORIZE, *[OUTAGE] * 200)
        ids = [f"ord_{number}" for number in range(3)]
        for order_id in ids:
            order = placed_now().model_copy(update={"id": order_id, "step": Step.AUTHORIZE})
            assert await harness.store.add(order)
        process = harness.process("order-1")
        taken_up: list[str] = []
        async with asyncio.timeout(20.0):
            while len(taken_up) < len(ids):
                await process.saga.sweep()
                taken_up += [
                    order_id
                    for order_id in ids
                    if (await harness.order(order_id)).owner and order_id not in taken_up
                ]
        assert sorted(taken_up) == ids

    async def test_repeated_steps_count_as_retries(self, harness: OrderHarness) -> None:
        harness.around.fail(Step.AUTHORIZE, OUTAGE)
        stored = await harness.begin(harness.process("order-1"), placed_now())
        await harness.finished(stored.value.id)
        repeated = harness.around.asked.index(Step.AUTHORIZE) + 1
        assert harness.around.asked_as_retry == [repeated]

    async def test_the_first_step_of_a_resumed_order_counts_as_a_retry(
        self, harness: OrderHarness
    ) -> None:
        assert await harness.store.add(placed_now())
        await harness.process("order-1").saga.sweep()
        await harness.finished(placed_now().id)
        assert harness.around.asked_as_retry == [0]

    async def test_what_the_stores_outage_interrupted_is_taken_up_at_the_next_sweep(
        self, tmp_path: Path
    ) -> None:
        async with an_order_harness(tmp_path, FlakyStore) as harness:
            store = harness.store
            assert isinstance(store, FlakyStore)
            process = harness.process("order-1")
            await process.saga.sweep()
            store.fails = lambda order: order.step is Step.CAPTURE
            stored = await harness.begin(process, placed_now())
            await harness.when(stored.value.id, lambda _: store.fails is None)
            await process.saga.sweep()
            assert (await harness.finished(stored.value.id)).state is OrderState.CONFIRMED


class TestTakeover:
    async def test_fences_the_former_owner(self, harness: OrderHarness) -> None:
        """The first process hangs in a step; when it wakes up, another one is done long ago."""
        hold = harness.around.hold(Step.AUTHORIZE)
        stored = await harness.begin(harness.process("order-1"), placed_now())
        order_id = stored.value.id
        await harness.asked_for(Step.AUTHORIZE)
        del harness.around.gates[Step.AUTHORIZE]
        await harness.take_over("order-2")
        done = await harness.finished(order_id)
        assert (done.state, done.owner) == (OrderState.CONFIRMED, "order-2")
        hold.set()
        await asyncio.sleep(0.05)  # enough for the first one to go on, if it did
        assert await harness.order(order_id) == done
        assert harness.around.counts() == {**dict.fromkeys(ALL_WELL, 1), Step.AUTHORIZE: 2}

    async def test_fences_a_refusal_that_comes_late(self, harness: OrderHarness) -> None:
        hold = harness.around.hold(Step.CAPTURE)
        stored = await harness.begin(harness.process("order-1"), placed_now())
        await harness.asked_for(Step.CAPTURE)
        del harness.around.gates[Step.CAPTURE]
        await harness.take_over("order-2")
        done = await harness.finished(stored.value.id)
        harness.around.fail(Step.CAPTURE, REFUSAL)
        hold.set()
        await asyncio.sleep(0.05)  # enough for the first one to undo something, if it did
        assert await harness.order(stored.value.id) == done
        assert not set(harness.around.asked) & set(BACKWARD)


class TestTellingOfAnAttempt:
    """An order that is refused: its customer is told by an answer or by a message."""

    async def test_is_told_by_the_answer_to_whoever_waits_for_it(
        self, harness: OrderHarness
    ) -> None:
        harness.around.fail(Step.AUTHORIZE, REFUSAL)
        process = harness.process()
        stored = await harness.begin(process, placed_now())
        attempt = await process.saga.settled(stored.value.id, 5.0)
        assert attempt is not None
        assert attempt.is_attempt
        order = await harness.finished(stored.value.id)
        assert order.history[-1].what == model.ANSWERED
        assert harness.around.told == []

    async def test_is_told_by_a_message_when_it_took_too_long(self, harness: OrderHarness) -> None:
        harness.around.fail(Step.AUTHORIZE, REFUSAL)
        hold = harness.around.hold(Step.AUTHORIZE)
        process = harness.process()
        stored = await harness.begin(process, placed_now())
        await harness.asked_for(Step.AUTHORIZE)
        unsettled = await process.saga.settled(stored.value.id, 0.05)
        assert unsettled is not None
        assert not unsettled.is_settled
        hold.set()
        order = await harness.finished(stored.value.id)
        assert model.ANSWERED not in {moment.what for moment in order.history}
        assert [event.id for event in harness.around.told] == [f"{order.id}:not-placed"]

    async def test_is_told_by_a_message_when_the_request_was_given_up(
        self, harness: OrderHarness
    ) -> None:
        harness.around.fail(Step.AUTHORIZE, REFUSAL)
        hold = harness.around.hold(Step.AUTHORIZE)
        process = harness.process()
        stored = await harness.begin(process, placed_now())
        request = asyncio.create_task(process.saga.settled(stored.value.id, 5.0))
        await harness.asked_for(Step.AUTHORIZE)
        request.cancel()
        await asyncio.wait([request])
        hold.set()
        await harness.finished(stored.value.id)
        assert [event.kind for event in harness.around.told] == ["order-not-placed"]

    async def test_is_told_by_a_message_when_another_process_drove_it_to_its_end(
        self, harness: OrderHarness
    ) -> None:
        harness.around.fail(Step.AUTHORIZE, OUTAGE, REFUSAL)
        hold = harness.around.hold(Step.AUTHORIZE)
        first = harness.process("order-1")
        stored = await harness.begin(first, placed_now())
        request = asyncio.create_task(first.saga.settled(stored.value.id, 5.0))
        await harness.asked_for(Step.AUTHORIZE)
        await first.saga.stop()
        hold.set()
        await harness.take_over("order-2")
        await harness.finished(stored.value.id)
        assert [event.kind for event in harness.around.told] == ["order-not-placed"]
        order = await request
        assert order is not None
        assert order.is_attempt

    async def test_of_a_process_that_ended_before_it_answered_is_told_by_a_message(
        self, tmp_path: Path
    ) -> None:
        async with an_order_harness(tmp_path, FlakyStore) as harness:
            store = harness.store
            assert isinstance(store, FlakyStore)
            harness.around.fail(Step.AUTHORIZE, REFUSAL)
            store.fails = lambda order: order.history[-1].what == model.ANSWERED
            process = harness.process()
            stored = await harness.begin(process, placed_now())
            assert await process.saga.settled(stored.value.id, 5.0)
            await harness.when(stored.value.id, lambda _: store.fails is None)
            await process.saga.sweep()
            await harness.finished(stored.value.id)
            assert [event.kind for event in harness.around.told] == ["order-not-placed"]


class TestOrderEvents:
    async def test_are_delivered_until_they_arrive(self, harness: OrderHarness) -> None:
        harness.around.fail(NOTIFY, OUTAGE, error(Kind.INTERNAL))
        stored = await harness.begin(harness.process(), placed_now())
        order = await harness.finished(stored.value.id)
        assert order.state is OrderState.CONFIRMED, "an order does not depend on its mail"
        assert len({event.id for event in harness.around.told}) == 1
        assert len(harness.around.told) == 3

    async def test_that_are_refused_for_good_hold_up_nothing(self, harness: OrderHarness) -> None:
        harness.around.fail(NOTIFY, error(Kind.INVALID))
        process = harness.process()
        stored = await harness.begin(process, placed_now())
        order = await harness.finished(stored.value.id)
        assert [event.kind for event in order.undelivered] == ["order-confirmed"]
        assert 'order_events_undelivered_total{kind="order-confirmed"} 1.0' in (
            process.metrics.exposition().decode()
        )

    async def test_are_delivered_again_when_it_is_not_known_that_they_were(
        self, harness: OrderHarness
    ) -> None:
        hold = harness.around.hold(NOTIFY)
        first = harness.process("order-1")
        stored = await harness.begin(first, placed_now())
        await harness.asked_for(NOTIFY)
        await first.saga.stop()
        hold.set()
        await harness.take_over("order-2")
        await harness.finished(stored.value.id)
        first_id, second_id = (event.id for event in harness.around.told)
        assert first_id == second_id == f"{stored.value.id}:confirmed"


class FlakyStore(OrderStore):
    """Fails once, when it is asked to."""

    def __init__(self, orders: Documents[Order]) -> None:
        super().__init__(orders)
        self.fails: Callable[[Order], bool] | None = None

    async def save(self, stored: Stored[Order], order: Order) -> Stored[Order]:
        if self.fails is not None and self.fails(order):
            self.fails = None
            raise StoreUnavailable
        return await super().save(stored, order)


async def test_an_order_outlives_an_outage_of_the_database(tmp_path: Path) -> None:
    async with an_order_harness(tmp_path, FlakyStore) as harness:
        store = harness.store
        assert isinstance(store, FlakyStore)
        store.fails = lambda order: order.step is Step.CAPTURE
        process = harness.process()
        stored = await harness.begin(process, placed_now())
        await harness.when(stored.value.id, lambda _: store.fails is None)
        order = await harness.order(stored.value.id)
        assert order.step is Step.SHIP, "what happened after it could not be stored"
        await process.saga.sweep()
        assert (await harness.finished(stored.value.id)).state is OrderState.CONFIRMED
        assert harness.around.counts()[Step.SHIP] == 2


async def test_a_waiting_request_gets_the_calls_into_its_record(harness: OrderHarness) -> None:
    process = harness.process()
    stored = await harness.store.add(process.saga.owned(placed_now()))
    assert stored is not None
    calls = CallLog()
    process.saga.start(stored, calls)
    await harness.finished(stored.value.id)
    assert harness.around.logs == [calls] * len(ALL_WELL)
