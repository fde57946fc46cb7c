"""The saga at work: against outages, refusals, crashes and other processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from services.common import context
from services.common.call_record import CallLog
from services.common.clock import now_ms
from services.common.documents import Documents, Event, Stored, StoreUnavailable
from services.common.errors import Kind
from services.order import model, saga
from services.order.checkout import BACKWARD, FORWARD
from services.order.model import Moment, Order, OrderState, Step
from services.order.store import OrderStore
from tests.unit.common.kit import until
from tests.unit.order.examples import an_order, error
from tests.unit.order.world import NOTIFY, Process, World, a_world

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


def shown(process: Process, metric: str) -> float:
    """The value of a metric without labels."""
    (sample,) = [
        sample
        for family in text_string_to_metric_families(process.metrics.exposition().decode())
        for sample in family.samples
        if sample.name == metric
    ]
    return sample.value


def by_labels(process: Process, metric: str) -> dict[tuple[str, ...], float]:
    """The values of a metric by those of its labels, in the order of the labels' names."""
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(process.metrics.exposition().decode())
        for sample in family.samples
        if sample.name == metric
    }


class TestOneProcess:
    async def test_brings_an_order_through_all_steps(self, world: World) -> None:
        process = world.process()
        stored = await world.begin(process, placed_now())
        order = await world.finished(stored.value.id)
        assert order.state is OrderState.CONFIRMED
        assert world.around.asked == ALL_WELL
        assert [event.kind for event in world.around.told] == ["order-confirmed"]
        assert order.events == ()
        assert [moment.what for moment in order.history] == [*FORWARD, "confirmed"]
        metrics = process.metrics.exposition().decode()
        assert 'orders_total{reason="",state="confirmed"} 1.0' in metrics
        worth = f'order_confirmed_cents_total{{currency="{order.currency}"}} {order.total_cents}.0'
        assert worth in metrics

    async def test_counts_a_checkout_when_it_is_decided(self, world: World) -> None:
        """An outage that ended it may hold up its undo for hours, and is to be seen before."""
        hold = world.around.hold(Step.REFUND)
        world.around.fail(Step.AUTHORIZE, error(Kind.DECLINED, "card-declined"))
        process = world.process()
        stored = await world.begin(process, placed_now())
        await world.when(stored.value.id, lambda order: order.step is Step.REFUND)
        counted = 'meshmart_checkouts_total{reason="card-declined"} 1.0'
        await until(lambda: counted in process.metrics.exposition().decode())
        assert (await world.order(stored.value.id)).state is OrderState.CANCELLING
        hold.set()
        await world.finished(stored.value.id)
        assert counted in process.metrics.exposition().decode()

    async def test_shows_since_when_the_oldest_order_is_unfinished(self, world: World) -> None:
        hold = world.around.hold(Step.AUTHORIZE)
        process = world.process()
        newer = an_order(id="a-newer-one", created_ms=now_ms(), open_since_ms=now_ms())
        await world.begin(process, newer)
        long_open = an_order(created_ms=now_ms(), open_since_ms=now_ms() - 400_000)
        stored = await world.begin(process, long_open)
        await process.saga.sweep()
        assert shown(process, "meshmart_orders_unfinished") == 2
        assert 400 <= shown(process, "meshmart_order_oldest_unfinished_seconds") < 460
        hold.set()
        await world.finished(stored.value.id)
        await world.finished("a-newer-one")
        await process.saga.sweep()
        assert shown(process, "meshmart_orders_unfinished") == 0
        assert shown(process, "meshmart_order_oldest_unfinished_seconds") == 0

    async def test_shows_how_long_the_oldest_message_waits(self, world: World) -> None:
        hold = world.around.hold(NOTIFY)
        process = world.process()
        confirmed_ms = now_ms() - 90_000
        order = an_order(
            state=OrderState.CONFIRMED,
            step=None,
            open_since_ms=now_ms() - 200_000,
            events=(Event(id="e", kind="order-confirmed", facts={}),),
            history=(Moment(at_ms=confirmed_ms, what="confirmed"),),
        )
        stored = await world.begin(process, order)
        await process.saga.sweep()
        assert 90 <= shown(process, "meshmart_order_outbox_lag_seconds") < 150
        hold.set()
        await world.finished(stored.value.id)
        await process.saga.sweep()
        assert shown(process, "meshmart_order_outbox_lag_seconds") == 0

    async def test_counts_how_each_attempt_at_a_step_ended(self, world: World) -> None:
        world.around.fail(Step.SHIP, OUTAGE, OUTAGE)
        world.around.fail(Step.CAPTURE, error(Kind.DECLINED, "card-declined"))
        process = world.process()
        stored = await world.begin(process, placed_now())
        await world.finished(stored.value.id)
        attempts = by_labels(process, "meshmart_order_step_seconds_count")
        assert attempts[("again", "ship")] == 2
        assert attempts[("done", "ship")] == attempts[("refused", "capture")] == 1
        assert attempts[("done", "refund")] == attempts[("done", "tell")] == 1
        retries = by_labels(process, "meshmart_order_step_retries_total")
        assert retries[("ship",)] == 2
        assert sum(retries.values()) == 2
        assert set(retries) == {*((step,) for step in Step), ("tell",)}

    async def test_counts_few_reasons_whatever_others_say(self, world: World) -> None:
        process = world.process()
        for number in range(60):
            world.around.fail(Step.AUTHORIZE, error(Kind.DECLINED, f"odd-{number}"))
            order = an_order(id=f"ord_{number}", created_ms=now_ms(), request_id="req-1")
            await world.begin(process, order)
            await world.finished(order.id)
        ended = by_labels(process, "meshmart_orders_total")
        assert len(ended) == 41
        assert ended[("other", "cancelled")] == 20

    @pytest.mark.parametrize("step", FORWARD)
    async def test_tries_again_after_an_outage(self, world: World, step: Step) -> None:
        world.around.fail(step, OUTAGE)
        stored = await world.begin(world.process(), placed_now())
        order = await world.finished(stored.value.id)
        assert order.state is OrderState.CONFIRMED
        assert world.around.counts() == {**dict.fromkeys(ALL_WELL, 1), step: 2}

    @pytest.mark.parametrize("step", UNDONE_AFTER)
    async def test_undoes_just_what_may_have_happened(self, world: World, step: Step) -> None:
        world.around.fail(step, REFUSAL)
        stored = await world.begin(world.process(), placed_now())
        order = await world.finished(stored.value.id)
        assert order.state is OrderState.CANCELLED
        assert order.reason is not None
        code = model.NOT_COMPLETED if step is Step.CAPTURE else "out-of-stock"
        assert order.reason.code == code
        done = FORWARD[: FORWARD.index(step) + 1]
        assert world.around.asked == [*done, *UNDONE_AFTER[step], NOTIFY]
        assert [event.kind for event in world.around.told] == ["order-not-placed"]

    async def test_gives_up_on_an_order_that_was_held_up_too_long(self, world: World) -> None:
        world.around.fail(Step.AUTHORIZE, *[OUTAGE] * 20)
        process = world.process(order_give_up_seconds=0.3)
        stored = await world.begin(process, placed_now())
        order = await world.finished(stored.value.id)
        assert order.state is OrderState.CANCELLED
        assert order.reason is not None
        assert (order.reason.kind, order.reason.code) == (Kind.UNAVAILABLE, "checkout-unavailable")
        assert world.around.counts()[Step.AUTHORIZE] >= 2
        assert world.around.asked[-3:] == [Step.REFUND, Step.RELEASE, NOTIFY]

    @pytest.mark.parametrize("step", [Step.CAPTURE, Step.COMMIT, Step.DISPATCH])
    async def test_never_gives_up_on_an_order_that_may_be_paid(
        self, world: World, step: Step
    ) -> None:
        world.around.fail(step, OUTAGE, OUTAGE)
        stored = await world.begin(world.process(order_give_up_seconds=0.0), placed_now())
        assert (await world.finished(stored.value.id)).state is OrderState.CONFIRMED
        assert not set(world.around.asked) & set(BACKWARD)

    async def test_reserves_again_what_a_restored_store_has_forgotten(self, world: World) -> None:
        world.around.fail(Step.COMMIT, error(Kind.NOT_FOUND, "unknown-reservation"))
        process = world.process()
        stored = await world.begin(process, placed_now())
        order = await world.finished(stored.value.id)
        assert order.state is OrderState.CONFIRMED
        until_commit = FORWARD[: FORWARD.index(Step.COMMIT) + 1]
        assert world.around.asked == [*until_commit, *until_commit, Step.DISPATCH, NOTIFY]
        assert 'order_final_refusals_total{step="commit"} 1.0' in (
            process.metrics.exposition().decode()
        )

    async def test_prepares_the_parcel_again_that_a_restored_store_has_forgotten(
        self, world: World
    ) -> None:
        world.around.fail(Step.DISPATCH, error(Kind.NOT_FOUND, "unknown-shipment"))
        stored = await world.begin(world.process(), placed_now())
        assert (await world.finished(stored.value.id)).state is OrderState.CONFIRMED
        from_ship = FORWARD[FORWARD.index(Step.SHIP) :]
        assert world.around.asked == [*FORWARD, *from_ship, NOTIFY]

    async def test_pays_back_when_what_is_paid_cannot_be_had_any_more(self, world: World) -> None:
        world.around.fail(Step.COMMIT, error(Kind.NOT_FOUND, "unknown-reservation"))
        answered = world.around.hold(Step.COMMIT)
        stored = await world.begin(world.process(), placed_now())
        await until(lambda: Step.COMMIT in world.around.asked)
        world.around.fail(Step.RESERVE, REFUSAL)
        answered.set()
        order = await world.finished(stored.value.id)
        assert order.state is OrderState.CANCELLED
        assert order.reason is not None
        assert order.reason.code == model.NOT_COMPLETED
        assert world.around.asked[-4:] == [*BACKWARD, NOTIFY]

    @pytest.mark.parametrize("step", BACKWARD)
    async def test_does_not_rest_until_all_is_undone(self, world: World, step: Step) -> None:
        world.around.fail(Step.CAPTURE, REFUSAL)
        world.around.fail(step, OUTAGE, error(Kind.INVALID))
        stored = await world.begin(world.process(), placed_now())
        assert (await world.finished(stored.value.id)).state is OrderState.CANCELLED
        assert world.around.counts()[step] == 3

    async def test_calls_in_the_name_of_the_request(self, world: World) -> None:
        stored = await world.begin(world.process(), placed_now())
        await world.finished(stored.value.id)
        assert world.around.request_ids == {"req-1"}
        assert context.current_request_id() is None

    async def test_leaves_no_trace_of_orders_that_are_done(self, world: World) -> None:
        process = world.process()
        stored = await world.begin(process, placed_now())
        await world.finished(stored.value.id)
        await process.saga.sweep()
        assert world.around.asked == ALL_WELL
        assert await world.store.unfinished() == []


class TestWaiting:
    async def test_ends_when_the_order_is_settled_not_when_the_customer_is_told(
        self, world: World
    ) -> None:
        told = world.around.hold(NOTIFY)
        process = world.process()
        stored = await world.begin(process, placed_now())
        order = await process.saga.settled(stored.value.id, 5.0)
        assert order is not None
        assert order.state is OrderState.CONFIRMED
        assert order.open_since_ms is not None
        told.set()
        await world.finished(order.id)

    async def test_ends_when_the_time_is_up(self, world: World) -> None:
        world.around.hold(Step.CAPTURE)
        process = world.process()
        stored = await world.begin(process, placed_now())
        await world.asked_for(Step.CAPTURE)
        order = await process.saga.settled(stored.value.id, 0.1)
        assert order is not None
        assert (order.state, order.step) == (OrderState.WORKING, Step.CAPTURE)

    async def test_sees_what_another_process_does(self, world: World) -> None:
        stored = await world.begin(world.process("order-1"), placed_now())
        order = await world.process("order-2").saga.settled(stored.value.id, 5.0)
        assert order is not None
        assert order.state is OrderState.CONFIRMED

    async def test_knows_nothing_of_an_unknown_order(self, world: World) -> None:
        assert await world.process().saga.settled("ord_unknown", 5.0) is None


class TestResume:
    @pytest.mark.parametrize("step", FORWARD)
    async def test_does_the_stored_step_again(self, world: World, step: Step) -> None:
        """A process ends while a step is under way: its effect may have happened or not."""
        hold = world.around.hold(step)
        first = world.process("order-1")
        stored = await world.begin(first, placed_now())
        await world.asked_for(step)
        await first.saga.stop()
        assert (await world.order(stored.value.id)).step is step
        hold.set()
        await world.take_over("order-2")
        order = await world.finished(stored.value.id)
        assert order.state is OrderState.CONFIRMED
        assert world.around.counts() == {**dict.fromkeys(ALL_WELL, 1), step: 2}

    async def test_goes_on_undoing(self, world: World) -> None:
        hold = world.around.hold(Step.REFUND)
        world.around.fail(Step.CAPTURE, REFUSAL)
        first = world.process("order-1")
        stored = await world.begin(first, placed_now())
        await world.asked_for(Step.REFUND)
        await first.saga.stop()
        hold.set()
        await world.take_over("order-2")
        order = await world.finished(stored.value.id)
        assert order.state is OrderState.CANCELLED
        assert order.reason is not None
        assert order.reason.code == model.NOT_COMPLETED

    async def test_leaves_others_their_leases(self, world: World) -> None:
        hold = world.around.hold(Step.RESERVE)
        stored = await world.begin(world.process("order-1"), placed_now())
        await world.asked_for(Step.RESERVE)
        for _ in range(3):
            await world.process("order-2").saga.sweep()
        assert (await world.order(stored.value.id)).owner == "order-1"
        hold.set()
        await world.finished(stored.value.id)
        assert world.around.asked == ALL_WELL

    async def test_takes_up_its_own_at_once(self, world: World) -> None:
        """After a crash the same instance need not wait for the leases of its former life."""
        crashed = model.owned(placed_now(), "order-1")
        assert await world.store.add(crashed.model_copy(update={"step": Step.CAPTURE}))
        await world.process("order-1").saga.sweep()
        assert (await world.finished(crashed.id)).state is OrderState.CONFIRMED
        assert world.around.asked == [Step.CAPTURE, Step.COMMIT, Step.DISPATCH, NOTIFY]

    async def test_takes_up_its_own_just_once(self, world: World) -> None:
        process = world.process("order-1")
        await process.saga.sweep()
        hold = world.around.hold(Step.RESERVE)
        stored = await world.begin(process, placed_now())
        await process.saga.sweep()
        hold.set()
        await world.finished(stored.value.id)
        assert world.around.asked == ALL_WELL

    async def test_of_one_order_by_many_is_done_by_one(self, world: World) -> None:
        crashed = placed_now()
        assert await world.store.add(crashed)
        processes = [world.process(f"order-{number}") for number in range(1, 5)]
        await asyncio.gather(*(process.saga.sweep() for process in processes))
        assert (await world.finished(crashed.id)).state is OrderState.CONFIRMED
        assert world.around.asked == ALL_WELL

    async def test_works_off_a_backlog(self, world: World) -> None:
        backlog = [placed_now().model_copy(update={"id": f"ord_{number}"}) for number in range(70)]
        for order in backlog:
            assert await world.store.add(order)
        process = world.process("order-1")
        async with asyncio.timeout(20.0):
            while await world.store.unfinished():
                await process.saga.sweep()
                await asyncio.sleep(0.01)
        assert world.around.counts() == dict.fromkeys(ALL_WELL, 70)

    async def test_is_not_kept_waiting_by_new_orders(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(saga, "_MAX_TAKEN_UP", 1)
        process = world.process("order-1")
        await process.saga.sweep()
        hold = world.around.hold(Step.RESERVE)
        await world.begin(process, placed_now().model_copy(update={"id": "ord_new"}))
        await world.asked_for(Step.RESERVE)
        assert await world.store.add(placed_now().model_copy(update={"step": Step.CAPTURE}))
        await process.saga.sweep()
        assert (await world.finished(placed_now().id)).state is OrderState.CONFIRMED
        hold.set()
        await world.finished("ord_new")

    async def test_stops_with_the_process(self, world: World) -> None:
        process = world.process("order-1")
        await process.saga.stop()
        assert await world.store.add(placed_now())
        await process.saga.sweep()
        assert world.around.asked == []


class TestOutage:
    """An outage that lasts: orders are put down, so that they keep no others from being driven."""

    @pytest.fixture(autouse=True)
    def impatience(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(saga, "_PATIENCE_SECONDS", 0.2)

    async def test_an_order_is_put_down_and_taken_up_by_anyone(self, world: World) -> None:
        world.around.fail(Step.AUTHORIZE, *[OUTAGE] * 20)
        stored = await world.begin(world.process("order-1"), placed_now())
        put_down = await world.when(stored.value.id, lambda order: not order.owner)
        assert (put_down.state, put_down.step) == (OrderState.WORKING, Step.AUTHORIZE)
        world.around.failures.clear()
        await world.process("order-2").saga.sweep()
        assert (await world.finished(stored.value.id)).owner == "order-2"

    async def test_a_step_refused_for_good_rests_before_it_is_tried_again(
        self, world: World
    ) -> None:
        world.around.fail(Step.CAPTURE, REFUSAL)
        world.around.fail(Step.REFUND, *[error(Kind.INVALID)] * 50)
        process = world.process("order-1")
        stored = await world.begin(process, placed_now())
        await world.when(stored.value.id, lambda order: not order.owner)
        tried = world.around.counts()[Step.REFUND]
        for _ in range(5):
            await process.saga.sweep()
        assert world.around.counts()[Step.REFUND] == tried
        assert (await world.order(stored.value.id)).owner == ""

    async def test_orders_take_turns(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """One that was put down waits until the others have been tried too."""
        monkeypatch.setattr(saga, "_MAX_TAKEN_UP", 1)
        world.around.fail(Step.AUTHORIZE, *[OUTAGE] * 200)
        ids = [f"ord_{number}" for number in range(3)]
        for order_id in ids:
            order = placed_now().model_copy(update={"id": order_id, "step": Step.AUTHORIZE})
            assert await world.store.add(order)
        process = world.process("order-1")
        taken_up: list[str] = []
        async with asyncio.timeout(20.0):
            while len(taken_up) < len(ids):
                await process.saga.sweep()
                taken_up += [
                    order_id
                    for order_id in ids
                    if (await world.order(order_id)).owner and order_id not in taken_up
                ]
        assert sorted(taken_up) == ids

    async def test_repeated_steps_count_as_retries(self, world: World) -> None:
        world.around.fail(Step.AUTHORIZE, OUTAGE)
        stored = await world.begin(world.process("order-1"), placed_now())
        await world.finished(stored.value.id)
        repeated = world.around.asked.index(Step.AUTHORIZE) + 1
        assert world.around.asked_as_retry == [repeated]

    async def test_the_first_step_of_a_resumed_order_counts_as_a_retry(self, world: World) -> None:
        assert await world.store.add(placed_now())
        await world.process("order-1").saga.sweep()
        await world.finished(placed_now().id)
        assert world.around.asked_as_retry == [0]

    async def test_what_the_stores_outage_interrupted_is_taken_up_at_the_next_sweep(
        self, tmp_path: Path
    ) -> None:
        async with a_world(tmp_path, FlakyStore) as world:
            store = world.store
            assert isinstance(store, FlakyStore)
            process = world.process("order-1")
            await process.saga.sweep()
            store.fails = lambda order: order.step is Step.CAPTURE
            stored = await world.begin(process, placed_now())
            await world.when(stored.value.id, lambda _: store.fails is None)
            await process.saga.sweep()
            assert (await world.finished(stored.value.id)).state is OrderState.CONFIRMED


class TestTakeover:
    async def test_fences_the_former_owner(self, world: World) -> None:
        """The first process hangs in a step; when it wakes up, another one is done long ago."""
        hold = world.around.hold(Step.AUTHORIZE)
        stored = await world.begin(world.process("order-1"), placed_now())
        order_id = stored.value.id
        await world.asked_for(Step.AUTHORIZE)
        del world.around.gates[Step.AUTHORIZE]
        await world.take_over("order-2")
        done = await world.finished(order_id)
        assert (done.state, done.owner) == (OrderState.CONFIRMED, "order-2")
        hold.set()
        await asyncio.sleep(0.05)  # enough for the first one to go on, if it did
        assert await world.order(order_id) == done
        assert world.around.counts() == {**dict.fromkeys(ALL_WELL, 1), Step.AUTHORIZE: 2}

    async def test_fences_a_refusal_that_comes_late(self, world: World) -> None:
        hold = world.around.hold(Step.CAPTURE)
        stored = await world.begin(world.process("order-1"), placed_now())
        await world.asked_for(Step.CAPTURE)
        del world.around.gates[Step.CAPTURE]
        await world.take_over("order-2")
        done = await world.finished(stored.value.id)
        world.around.fail(Step.CAPTURE, REFUSAL)
        hold.set()
        await asyncio.sleep(0.05)  # enough for the first one to undo something, if it did
        assert await world.order(stored.value.id) == done
        assert not set(world.around.asked) & set(BACKWARD)


class TestAnAttempt:
    """An order that is refused: its customer is told by an answer or by a message."""

    async def test_is_told_by_the_answer_to_whoever_waits_for_it(self, world: World) -> None:
        world.around.fail(Step.AUTHORIZE, REFUSAL)
        process = world.process()
        stored = await world.begin(process, placed_now())
        attempt = await process.saga.settled(stored.value.id, 5.0)
        assert attempt is not None
        assert attempt.is_attempt
        order = await world.finished(stored.value.id)
        assert order.history[-1].what == model.ANSWERED
        assert world.around.told == []

    async def test_is_told_by_a_message_when_it_took_too_long(self, world: World) -> None:
        world.around.fail(Step.AUTHORIZE, REFUSAL)
        hold = world.around.hold(Step.AUTHORIZE)
        process = world.process()
        stored = await world.begin(process, placed_now())
        await world.asked_for(Step.AUTHORIZE)
        unsettled = await process.saga.settled(stored.value.id, 0.05)
        assert unsettled is not None
        assert not unsettled.is_settled
        hold.set()
        order = await world.finished(stored.value.id)
        assert model.ANSWERED not in {moment.what for moment in order.history}
        assert [event.id for event in world.around.told] == [f"{order.id}:not-placed"]

    async def test_is_told_by_a_message_when_the_request_was_given_up(self, world: World) -> None:
        world.around.fail(Step.AUTHORIZE, REFUSAL)
        hold = world.around.hold(Step.AUTHORIZE)
        process = world.process()
        stored = await world.begin(process, placed_now())
        request = asyncio.create_task(process.saga.settled(stored.value.id, 5.0))
        await world.asked_for(Step.AUTHORIZE)
        request.cancel()
        await asyncio.wait([request])
        hold.set()
        await world.finished(stored.value.id)
        assert [event.kind for event in world.around.told] == ["order-not-placed"]

    async def test_is_told_by_a_message_when_another_process_drove_it_to_its_end(
        self, world: World
    ) -> None:
        world.around.fail(Step.AUTHORIZE, OUTAGE, REFUSAL)
        hold = world.around.hold(Step.AUTHORIZE)
        first = world.process("order-1")
        stored = await world.begin(first, placed_now())
        request = asyncio.create_task(first.saga.settled(stored.value.id, 5.0))
        await world.asked_for(Step.AUTHORIZE)
        await first.saga.stop()
        hold.set()
        await world.take_over("order-2")
        await world.finished(stored.value.id)
        assert [event.kind for event in world.around.told] == ["order-not-placed"]
        order = await request
        assert order is not None
        assert order.is_attempt

    async def test_of_a_process_that_ended_before_it_answered_is_told_by_a_message(
        self, tmp_path: Path
    ) -> None:
        async with a_world(tmp_path, FlakyStore) as world:
            store = world.store
            assert isinstance(store, FlakyStore)
            world.around.fail(Step.AUTHORIZE, REFUSAL)
            store.fails = lambda order: order.history[-1].what == model.ANSWERED
            process = world.process()
            stored = await world.begin(process, placed_now())
            assert await process.saga.settled(stored.value.id, 5.0)
            await world.when(stored.value.id, lambda _: store.fails is None)
            await process.saga.sweep()
            await world.finished(stored.value.id)
            assert [event.kind for event in world.around.told] == ["order-not-placed"]


class TestEvents:
    async def test_are_delivered_until_they_arrive(self, world: World) -> None:
        world.around.fail(NOTIFY, OUTAGE, error(Kind.INTERNAL))
        stored = await world.begin(world.process(), placed_now())
        order = await world.finished(stored.value.id)
        assert order.state is OrderState.CONFIRMED, "an order does not depend on its mail"
        assert len({event.id for event in world.around.told}) == 1
        assert len(world.around.told) == 3

    async def test_that_are_refused_for_good_hold_up_nothing(self, world: World) -> None:
        world.around.fail(NOTIFY, error(Kind.INVALID))
        process = world.process()
        stored = await world.begin(process, placed_now())
        order = await world.finished(stored.value.id)
        assert [event.kind for event in order.undelivered] == ["order-confirmed"]
        assert 'order_events_undelivered_total{kind="order-confirmed"} 1.0' in (
            process.metrics.exposition().decode()
        )

    async def test_are_delivered_again_when_it_is_not_known_that_they_were(
        self, world: World
    ) -> None:
        hold = world.around.hold(NOTIFY)
        first = world.process("order-1")
        stored = await world.begin(first, placed_now())
        await world.asked_for(NOTIFY)
        await first.saga.stop()
        hold.set()
        await world.take_over("order-2")
        await world.finished(stored.value.id)
        first_id, second_id = (event.id for event in world.around.told)
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
    async with a_world(tmp_path, FlakyStore) as world:
        store = world.store
        assert isinstance(store, FlakyStore)
        store.fails = lambda order: order.step is Step.CAPTURE
        process = world.process()
        stored = await world.begin(process, placed_now())
        await world.when(stored.value.id, lambda _: store.fails is None)
        order = await world.order(stored.value.id)
        assert order.step is Step.SHIP, "what happened after it could not be stored"
        await process.saga.sweep()
        assert (await world.finished(stored.value.id)).state is OrderState.CONFIRMED
        assert world.around.counts()[Step.SHIP] == 2


async def test_a_waiting_request_gets_the_calls_into_its_record(world: World) -> None:
    process = world.process()
    stored = await world.store.add(process.saga.owned(placed_now()))
    assert stored is not None
    calls = CallLog()
    process.saga.start(stored, calls)
    await world.finished(stored.value.id)
    assert world.around.logs == [calls] * len(ALL_WELL)
