"""Drives orders through their saga: one task per order, in the process that holds its lease."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from opentelemetry.trace import Tracer

from services.common import context
from services.common.clock import now_ms
from services.common.documents import RevisionConflict, Stored
from services.common.errors import ShopError
from services.common.logs import get_logger
from services.common.metrics import Metrics
from services.common.record import CallLog
from services.common.telemetry import extract_trace
from services.order import model
from services.order.clients import Inventory, Notifications, Payments, Shipping
from services.order.model import Order, Step
from services.order.settings import OrderSettings
from services.order.store import OrderStore

log = get_logger(__name__)

# How long one attempt of a step may take; the edges' own time-outs in the topology are shorter.
_ATTEMPT_SECONDS = 10.0
# How many orders one process drives at once when it works off a backlog.
_MAX_RESUMED = 64

Effect = Callable[[Order], Awaitable[None]]


@dataclass(slots=True)
class Drive:
    """An order that this process drives. `settled` is set once it has an end state, or is no longer
    driven here.
    """

    stored: Stored[Order]
    settled: asyncio.Event = field(default_factory=asyncio.Event)


class Saga:
    """Runs the steps of orders and stores each result before the next step.

    Several processes are safe beside each other: an order belongs to whoever wrote its lease last,
    and a compare-and-set tells a former owner that it no longer does. What it did meanwhile does no
    harm, since every effect is keyed.
    """

    def __init__(
        self,
        store: OrderStore,
        *,
        inventory: Inventory,
        payments: Payments,
        shipping: Shipping,
        notifications: Notifications,
        settings: OrderSettings,
        owner: str,
        tracer: Tracer,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._notifications = notifications
        self._settings = settings
        self._owner = owner
        self._tracer = tracer
        self._ended = metrics.counter(
            "orders", "Orders that reached an end state.", ("state", "reason")
        )
        self._driven: dict[str, Drive] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._has_resumed_own = False
        self._effects: Mapping[Step, Effect] = {
            Step.RESERVE: inventory.reserve,
            Step.AUTHORIZE: payments.authorize,
            Step.SHIP: shipping.prepare,
            Step.CAPTURE: payments.capture,
            Step.COMMIT: inventory.commit,
            Step.DISPATCH: shipping.dispatch,
            Step.RECALL: shipping.recall,
            Step.REFUND: payments.cancel,
            Step.RELEASE: inventory.release,
        }

    def lease(self, order: Order) -> Order:
        """The order with a fresh lease of this process."""
        return model.leased(
            order, self._owner, now_ms() + round(self._settings.order_lease_seconds * 1000)
        )

    def start(self, stored: Stored[Order], calls: CallLog | None = None) -> None:
        """Drives an order whose lease this process has just written.

        :param calls: where to record the calls made, when a request waits for the order.
        """
        drive = Drive(stored)
        self._driven[stored.value.id] = drive
        task = asyncio.create_task(
            self._drive(drive, calls or CallLog()), name=f"saga {stored.value.id}"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settled(self, order_id: str, seconds: float) -> Order | None:
        """The order once it is settled, or as it stands when the time is up; None when there is no
        such order.
        """
        until = time.monotonic() + seconds
        pause_seconds = 0.02
        while True:
            drive = self._driven.get(order_id)
            if drive is not None:
                await _wait(drive.settled, until - time.monotonic())
            stored = await self._store.get(order_id)
            left_seconds = until - time.monotonic()
            if stored is None or stored.value.is_settled or left_seconds <= 0:
                return stored.value if stored else None
            # Another process drives it, and the store is all that we share with that.
            await asyncio.sleep(min(pause_seconds, left_seconds))
            pause_seconds = min(0.25, pause_seconds * 2)

    async def sweep(self) -> None:
        """Takes over unfinished orders whose lease has run out; the first time also all that were
        this process's own.
        """
        if not self._has_resumed_own:
            await self._resume_own()
            self._has_resumed_own = True
        room = _MAX_RESUMED - len(self._driven)
        if room <= 0 or self._stopping:
            return
        for stored in await self._store.due(now_ms(), room):
            if stored.value.id not in self._driven:
                await self._take_over(stored)

    async def stop(self) -> None:
        """Stops driving. Orders under way stay as they are stored and are resumed by whoever comes
        next.
        """
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _resume_own(self) -> None:
        """Takes up what a former life of this process left unfinished, without waiting for its
        leases.
        """
        cursor: str | None = None
        while True:
            page = await self._store.unfinished(cursor)
            for stored in page.items:
                if stored.value.owner == self._owner and stored.value.id not in self._driven:
                    await self._take_over(stored)
            cursor = page.next_cursor
            if cursor is None:
                return

    async def _take_over(self, stored: Stored[Order]) -> None:
        try:
            taken = await self._store.save(stored, self.lease(stored.value))
        except RevisionConflict:
            return  # another process was quicker
        log.info(
            "order.resumed",
            order_id=stored.value.id,
            step=stored.value.step,
            owner=stored.value.owner,
        )
        self.start(taken)

    async def _drive(self, drive: Drive, calls: CallLog) -> None:
        order = drive.stored.value
        request = context.RequestContext(deadline=0.0, request_id=order.request_id, log=calls)
        try:
            with (
                context.serving(request),
                self._tracer.start_as_current_span("saga", context=extract_trace(order.trace)),
            ):
                while drive.stored.value.due_ms is not None:
                    request.deadline = time.monotonic() + _ATTEMPT_SECONDS
                    await self._advance(drive)
        except RevisionConflict:
            log.info("order.taken_over", order_id=order.id)
        except ShopError as error:
            # The store is away. The lease runs out, and then the sweep of any process goes on from
            # what is stored.
            log.warning("order.interrupted", order_id=order.id, reason=error.detail)
        finally:
            drive.settled.set()
            if self._driven.get(order.id) is drive:
                del self._driven[order.id]

    async def _advance(self, drive: Drive) -> None:
        """Does the one next thing for an order and stores its outcome."""
        order = drive.stored.value
        if order.step is not None:
            changed = await self._attempt(order.step, order)
        elif order.events:
            changed = await self._deliver(order)
        else:
            drive.stored = await self._store.save(
                drive.stored, order.model_copy(update={"due_ms": None})
            )
            return
        drive.stored = await self._store.save(drive.stored, self.lease(changed))
        if changed.is_settled and not order.is_settled:
            reason = changed.reason.code if changed.reason else ""
            self._ended.labels(changed.state.value, reason).inc()
            log.info("order.settled", order_id=order.id, state=changed.state.value, reason=reason)
            drive.settled.set()
        if changed.failures > order.failures:
            jitter = random.uniform(0.5, 1.0)  # noqa: S311  spreads retries; not for secrets
            await asyncio.sleep(model.retry_delay_seconds(changed.failures) * jitter)

    async def _attempt(self, step: Step, order: Order) -> Order:
        try:
            await self._effects[step](order)
        except ShopError as error:
            give_up_ms = round(self._settings.order_give_up_seconds * 1000)
            log.info(
                "order.step_failed",
                order_id=order.id,
                step=step.value,
                kind=error.kind.value,
                code=error.code,
            )
            return model.failed(order, error, now_ms(), give_up_ms)
        return model.succeeded(order, now_ms())

    async def _deliver(self, order: Order) -> Order:
        event = order.events[0]
        try:
            await self._notifications.deliver(order, event)
        except ShopError as error:
            log.info("order.event_waits", event_id=event.id, reason=error.detail)
            return order.model_copy(update={"failures": order.failures + 1})
        return model.delivered(order, event.id)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await event.wait()
    except TimeoutError:
        return
