"""Drives orders through the checkout: one task per order, in the process that holds its lease."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from opentelemetry.trace import Tracer

from services.common import context
from services.common.background.stall_detector import StallDetector
from services.common.backoff import Backoff, spread
from services.common.call_record import CallLog
from services.common.clock import now_ms
from services.common.documents import RevisionConflict, Stored
from services.common.errors import ShopError, may_succeed_later
from services.common.notifying import Notifications
from services.common.observing.label_values import LabelValues
from services.common.observing.logs import get_logger
from services.common.observing.metrics import Metrics
from services.common.observing.telemetry import extract_trace
from services.order import checkout, model
from services.order.checkout import Callees, Verdict
from services.order.model import Order, OrderState, Step
from services.order.settings import OrderSettings
from services.order.store import OrderStore

log = get_logger(__name__)

# How long one attempt of a step may take; the edges' own time-outs in the topology are shorter.
_ATTEMPT_SECONDS = 10.0
# How long an outage is waited out with the order in hand, counted from the beginning of the first
# attempt that failed. Then it is put down, so that it does not keep others from being taken up.
# With one more pause and attempt this is less than a lease.
_PATIENCE_SECONDS = 4.0
# The pauses between the attempts until then.
RETRIES = Backoff(first_seconds=0.1, longest_seconds=2.0)
# How long an order rests whose step is refused for good, by how often it was put down for that.
RESTS = Backoff(first_seconds=4.0, longest_seconds=300.0)
# The pauses between looks at an order that another process drives.
_LOOKS = Backoff(first_seconds=0.02, longest_seconds=0.25)
# How many orders that it has taken up a process drives at once, beside those just placed.
_MAX_TAKEN_UP = 64
# How long a sweep works on what it saw before it looks again.
_LOOK_AGAIN_SECONDS = 2.0

# Reasons come from other services, too; the shop's own are about twenty.
_MAX_REASONS = 40
_TELL = "tell"  # a message to the customer, which is no Step


class _Again(NamedTuple):
    """The outcome of an attempt that is to be made once more.

    :ivar pause_seconds: how long whoever refused it wants us to wait.
    :ivar is_final: whether it was refused for good, so that it waits for a person.
    """

    pause_seconds: float
    is_final: bool


@dataclass(slots=True)
class _Known:
    """What this process remembers of an unfinished order, in monotonic seconds.

    :ivar refused_rounds: how often in a row it was put down because a step was refused for good.
    :ivar not_before: when this process may take it up again.
    """

    since: float
    put_down_at: float = 0.0
    refused_rounds: int = 0
    not_before: float = 0.0


@dataclass(slots=True)
class _Drive:
    """An order that this process drives.

    :ivar is_taken_up: whether it was found unfinished, not placed or cancelled here just now.
    :ivar settled: set once the order has an end state, or is no longer driven here.
    :ivar failures: how often the next thing to do has failed in a row; one more than that when a
        former drive may have tried it already.
    :ivar outage_since: the monotonic time at which the first of these attempts began.
    :ivar waiting: how many requests wait for `settled`.
    :ivar is_answered: whether some did when the order was settled: they answer with its end state.
    """

    stored: Stored[Order]
    known: _Known
    is_taken_up: bool
    failures: int
    outage_since: float | None = None
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0
    is_answered: bool = False


class Saga:
    """Runs the steps of orders and stores each result before the next step.

    Several processes are safe beside each other: an order belongs to the owner in its document, and
    a compare-and-set tells a former owner that it no longer does. What it did meanwhile does no
    harm, since every effect is keyed and every undo leaves a fence. No process compares its clock
    with another's.
    """

    def __init__(
        self,
        store: OrderStore,
        *,
        callees: Callees,
        notifications: Notifications,
        settings: OrderSettings,
        owner: str,
        tracer: Tracer,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._callees = callees
        self._notifications = notifications
        self._settings = settings
        self._owner = owner
        self._tracer = tracer
        self._ended = metrics.counter(
            "orders", "Orders that reached an end state.", ("state", "reason")
        )
        self._checkouts = metrics.counter(
            "checkouts",
            "Orders whose checkout was decided: confirmed (no reason), or turned back. The undo of "
            "one that was turned back may take longer.",
            ("reason",),
        )
        self._undelivered = metrics.counter(
            "order_events_undelivered",
            "Events that notification refused for good.",
            ("kind",),
            rare=model.EVENT_KINDS,
        )
        self._final_refusals = metrics.counter(
            "order_final_refusals",
            "Final refusals where there should be none: of a step of a paid order, or of an undo.",
            ("step",),
            rare=Step,
        )
        self._confirmed_cents = metrics.counter(
            "order_confirmed_cents",
            "Totals of the orders that were confirmed, in hundredths of the currency.",
            ("currency",),
        )
        self._unfinished = metrics.gauge(
            "orders_unfinished",
            "Orders that are not settled, or whose customers are not told, at the last sweep.",
        )
        self._oldest_unfinished_seconds = metrics.gauge(
            "order_oldest_unfinished_seconds",
            "How long the oldest of them had been open.",
        )
        self._outbox_lag_seconds = metrics.gauge(
            "order_outbox_lag_seconds",
            "How long the oldest message that its customer has not got had waited, at the last "
            "sweep.",
        )
        self._step_seconds = metrics.histogram(
            "order_step_seconds",
            "Attempts at the steps of orders, by step and outcome: done, refused, or again for an "
            "outage.",
            ("step", "outcome"),
        )
        self._step_retries = metrics.counter(
            "order_step_retries",
            "Attempts that repeat one that met an outage, or that a former process may have made.",
            ("step",),
            rare=(*Step, _TELL),
        )
        self._reasons = LabelValues(_MAX_REASONS)
        self._driven: dict[str, _Drive] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._drive_ended = asyncio.Event()
        self._stopping = False
        self._has_looked = False
        self._leases = StallDetector(settings.order_lease_seconds)
        self._known: dict[str, _Known] = {}
        # Orders of this process that it does not drive: it let go of them when the store was away,
        # or drove them in a former life.
        self._interrupted: set[str] = set()

    def owned(self, order: Order) -> Order:
        """The order in the hands of this process."""
        return model.owned(order, self._owner)

    def start(self, stored: Stored[Order], calls: CallLog | None = None) -> None:
        """Drives an order that this process has just written as its own.

        :param calls: where to record the calls made, when a request waits for the order.
        """
        self._start(stored, calls or CallLog(), is_taken_up=False)

    def _start(self, stored: Stored[Order], calls: CallLog, *, is_taken_up: bool) -> None:
        order_id = stored.value.id
        drive = _Drive(stored, self._know(order_id), is_taken_up, failures=int(is_taken_up))
        self._driven[order_id] = drive
        task = asyncio.create_task(self._drive(drive, calls), name=f"saga {order_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settled(self, order_id: str, seconds: float) -> Order | None:
        """The order once it is settled, or as it stands when the time is up; None when there is no
        such order.
        """
        until = time.monotonic() + seconds
        looks = 0
        while True:
            drive = self._driven.get(order_id)
            if drive is not None:
                drive.waiting += 1
                try:
                    await _happens(drive.settled, until - time.monotonic())
                finally:
                    drive.waiting -= 1
            stored = await self._store.get(order_id)
            left_seconds = until - time.monotonic()
            if stored is None or stored.value.is_settled or left_seconds <= 0:
                return stored.value if stored else None
            # Another process drives it, and the store is all that we share with that.
            looks += 1
            await asyncio.sleep(min(_LOOKS.pause_seconds(looks), left_seconds))

    async def sweep(self) -> None:
        """Takes up unfinished orders that nobody drives: those that were put down, those whose
        owner's lease has lapsed, and at first all that were this process's own in a former life.
        """
        until = time.monotonic() + _LOOK_AGAIN_SECONDS
        for stored in await self._abandoned():
            while self._taken_up() >= _MAX_TAKEN_UP:
                self._drive_ended.clear()
                if not await _happens(self._drive_ended, until - time.monotonic()):
                    return
            if self._stopping:
                return
            if stored.value.id not in self._driven:
                await self._take_up(stored)

    async def stop(self) -> None:
        """Stops driving. Orders under way stay as they are stored and are resumed by whoever comes
        next.
        """
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _abandoned(self) -> list[Stored[Order]]:
        """The unfinished orders that may be taken up, those first that were not tried before."""
        unfinished = await self._store.unfinished()
        self._show(unfinished)
        ids = {stored.value.id for stored in unfinished}
        self._leases.forget_others(ids)
        for order_id in self._known.keys() - ids - self._driven.keys():
            del self._known[order_id]
        if self._has_looked:
            self._interrupted &= ids
        else:
            own = {stored.value.id for stored in unfinished if stored.value.owner == self._owner}
            self._interrupted = own - self._driven.keys()
            self._has_looked = True
        abandoned = [stored for stored in unfinished if self._is_abandoned(stored)]
        return sorted(abandoned, key=lambda stored: self._know(stored.value.id).put_down_at)

    def _show(self, unfinished: list[Stored[Order]]) -> None:
        """Shows how many orders are unfinished and since when (the first is the oldest), and since
        when messages wait.
        """
        self._unfinished.set(len(unfinished))
        now = now_ms()
        opened_ms = [unfinished[0].value.open_since_ms or now] if unfinished else []
        self._oldest_unfinished_seconds.set(_oldest_seconds(opened_ms, now))
        waiting = (model.message_waits_since_ms(stored.value) for stored in unfinished)
        waiting_ms = [since_ms for since_ms in waiting if since_ms is not None]
        self._outbox_lag_seconds.set(_oldest_seconds(waiting_ms, now))

    def _taken_up(self) -> int:
        return sum(drive.is_taken_up for drive in self._driven.values())

    def _is_abandoned(self, stored: Stored[Order]) -> bool:
        order = stored.value
        if order.id in self._driven or time.monotonic() < self._know(order.id).not_before:
            return False
        if not order.owner or (order.owner == self._owner and order.id in self._interrupted):
            return True
        return self._leases.has_stalled(order.id, stored.revision)

    def _know(self, order_id: str) -> _Known:
        return self._known.setdefault(order_id, _Known(time.monotonic()))

    async def _take_up(self, stored: Stored[Order]) -> None:
        order = stored.value
        try:
            taken = await self._store.save(stored, self.owned(order))
        except RevisionConflict:
            return  # another process was quicker
        self._interrupted.discard(order.id)
        log.info("order.taken_up", order_id=order.id, step=order.step, owner=order.owner)
        self._start(taken, CallLog(), is_taken_up=True)

    async def _drive(self, drive: _Drive, calls: CallLog) -> None:
        order = drive.stored.value
        request = context.RequestContext(deadline=0.0, request_id=order.request_id, log=calls)
        try:
            with (
                context.serving(request),
                self._tracer.start_as_current_span("saga", context=extract_trace(order.trace)),
            ):
                while (
                    drive.stored.value.open_since_ms is not None
                    and drive.stored.value.owner == self._owner
                ):
                    request.deadline = time.monotonic() + _ATTEMPT_SECONDS
                    request.is_retry = drive.failures > 0
                    await self._advance(drive)
        except RevisionConflict:
            log.info("order.lost", order_id=order.id)
        except ShopError as error:
            # The store is away. A sweep goes on from what is stored, ours once it is back.
            self._interrupted.add(order.id)
            log.warning("order.interrupted", order_id=order.id, reason=error.detail)
        finally:
            drive.settled.set()
            if self._driven.get(order.id) is drive:
                del self._driven[order.id]
            self._drive_ended.set()

    async def _advance(self, drive: _Drive) -> None:
        """Does the one next thing for an order and stores its outcome."""
        began = time.monotonic()
        doing = _doing(drive.stored.value)
        if drive.failures:
            self._step_retries.labels(doing).inc()
        outcome = "done"
        try:
            following = await self._done(drive)
        except ShopError as error:
            outcome = "again" if may_succeed_later(error) else "refused"
            following = self._failed(drive, error)
        self._step_seconds.labels(doing, outcome).observe(time.monotonic() - began)
        if isinstance(following, _Again):
            if drive.outage_since is None:
                drive.outage_since = began
            await self._wait_out(drive, drive.outage_since, following)
        else:
            await self._save(drive, following)

    async def _done(self, drive: _Drive) -> Order:
        order = drive.stored.value
        if order.step is None:
            if drive.is_answered and model.repeats_refusal(order):
                return model.answered(order, now_ms())
            await self._notifications.deliver(order.recipient, order.events[0])
            return model.delivered(order)
        refund = await checkout.do(order.step, self._callees, order)
        return checkout.succeeded(order, now_ms(), refund)

    def _failed(self, drive: _Drive, error: ShopError) -> Order | _Again:
        """What follows a failure of the next thing to do."""
        order = drive.stored.value
        doing = _doing(order)
        again = _Again(error.retry_after_seconds or 0.0, is_final=not may_succeed_later(error))
        log.info(
            "order.step_failed", order_id=order.id, step=doing, kind=error.kind, code=error.code
        )
        if order.step is None:
            if not again.is_final:
                return again
            event = order.events[0]
            self._undelivered.labels(event.kind).inc()
            log.error("order.event_undeliverable", event_id=event.id, reason=error.detail)
            return model.undeliverable(order)
        known_seconds = time.monotonic() - drive.known.since
        may_wait = known_seconds <= self._settings.order_give_up_seconds
        verdict = checkout.verdict(order, error, may_wait=may_wait)
        following = checkout.failed(order, error, verdict, now_ms())
        if checkout.is_alarming(order, error):
            self._final_refusals.labels(doing).inc()
            log.error(
                "order.refused_for_good",
                order_id=order.id,
                step=doing,
                code=error.code,
                goes_on_with=following.step,
            )
        return again if verdict is Verdict.AGAIN else following

    async def _save(self, drive: _Drive, following: Order) -> None:
        """Stores what has become of an order, and says so."""
        order = drive.stored.value
        drive.known.refused_rounds = 0
        drive.stored = await self._store.save(drive.stored, following)
        drive.failures, drive.outage_since = 0, None
        reason = following.reason.code if following.reason else ""
        if order.state is OrderState.WORKING and following.state is not OrderState.WORKING:
            self._checkouts.labels(self._reasons.bounded(reason)).inc()
        if following.is_settled and not order.is_settled:
            state = following.state.value
            self._ended.labels(state, self._reasons.bounded(reason)).inc()
            if following.was_confirmed and not order.was_confirmed:
                self._confirmed_cents.labels(following.currency).inc(following.total_cents)
            log.info("order.settled", order_id=order.id, state=state, reason=reason)
            drive.is_answered = drive.waiting > 0
            drive.settled.set()

    async def _wait_out(self, drive: _Drive, since: float, again: _Again) -> None:
        """Pauses before the next attempt, or puts the order down when the outage lasts. One that
        waits for a person, since its step is refused for good, rests longer each time.
        """
        now = time.monotonic()
        if now - since > _PATIENCE_SECONDS:
            order = drive.stored.value
            drive.known.put_down_at = now
            if again.is_final:
                drive.known.refused_rounds += 1
                drive.known.not_before = now + RESTS.pause_seconds(drive.known.refused_rounds)
            drive.stored = await self._store.save(drive.stored, model.owned(order, ""))
            return
        drive.failures += 1
        asked_seconds = min(again.pause_seconds, _PATIENCE_SECONDS / 2)
        await asyncio.sleep(spread(max(RETRIES.pause_seconds(drive.failures), asked_seconds)))


def _doing(order: Order) -> str:
    return order.step.value if order.step else _TELL


def _oldest_seconds(since_ms: Iterable[int], now: int) -> float:
    """How long the oldest of them is; 0 when there is none. The clock of whoever wrote it may be
    ahead of ours: only what people see rests on it.
    """
    return max(0, now - min(since_ms, default=now)) / 1000


async def _happens(event: asyncio.Event, within_seconds: float) -> bool:
    """Whether the event is set within that time."""
    try:
        async with asyncio.timeout(max(0.0, within_seconds)):
            return await event.wait()
    except TimeoutError:
        return False
