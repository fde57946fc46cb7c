"""What the shipping service does: prepares, dispatches and stops parcels, and moves them along."""

from __future__ import annotations

from functools import partial

from opentelemetry.trace import Tracer

from services.common.backoff import any_jitter
from services.common.clock import now_ms
from services.common.documents import RevisionConflict, Stored
from services.common.errors import Kind, ShopError, may_succeed_later
from services.common.notifying import Notifications
from services.common.observing.logs import get_logger
from services.common.observing.metrics import Metrics
from services.common.observing.telemetry import extract_trace, inject_trace
from services.shipping import model
from services.shipping.model import CreateShipment, Shipment, ShipmentState
from services.shipping.settings import ShippingSettings
from services.shipping.store import ShipmentStore

log = get_logger(__name__)

_SWEEP_LIMIT = 200


class Shipments:
    """The shipments of all orders. Every change is keyed by the order, so that repeating it changes
    nothing.
    """

    def __init__(
        self,
        store: ShipmentStore,
        notifications: Notifications,
        settings: ShippingSettings,
        tracer: Tracer,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._notifications = notifications
        self._step_ms = round(settings.shipping_step_seconds * 1000)
        self._longest_pause_ms = max(self._step_ms, model.BACKOFF.longest_ms)
        self._tracer = tracer
        self._undelivered = metrics.counter(
            "shipment_events_undelivered",
            "Events that notification refused for good.",
            ("kind",),
            rare=model.EVENT_KINDS,
        )
        self._outbox_lag_seconds = metrics.gauge(
            "shipment_outbox_lag_seconds",
            "How long the oldest message that its customer has not got had waited, at the last "
            "sweep.",
        )
        # Messages that this process has put off, by order: since when they wait, and until when
        # they are left alone. A sweep does not see them meanwhile.
        self._put_off: dict[str, tuple[int, int]] = {}

    async def create(self, command: CreateShipment) -> Shipment:
        """Prepares the parcel of an order, which waits for its dispatch.

        :raises ShopError: INVALID for a service or weight that there is no tariff for; CONFLICT
            when it was cancelled.
        """
        trace: dict[str, str] = {}
        inject_trace(trace)
        wanted = model.prepared(command, now_ms(), trace)
        stored = await self._store.add(wanted) or await self._store.get(wanted.id)
        assert stored is not None, "shipments are never deleted"
        if stored.value.state is ShipmentState.CANCELLED:
            raise model.closed()
        return stored.value

    async def dispatch(self, order_id: str) -> Shipment:
        """Hands the parcel to the carrier.

        :raises ShopError: NOT_FOUND where there is none; CONFLICT when it was cancelled.
        """
        dispatched = partial(model.dispatched, now_ms=now_ms(), step_ms=self._step_ms)
        shipment = await self._store.update(order_id, dispatched)
        if shipment is None:
            raise _unknown()
        return shipment

    async def cancel(self, order_id: str) -> None:
        """Stops the parcel, or makes sure that there will be none.

        :raises ShopError: CONFLICT, when it is on its way.
        """
        now = now_ms()

        def stopped(shipment: Shipment | None) -> Shipment:
            return model.cancelled(shipment, now) if shipment else model.fence(order_id, now)

        await self._store.upsert(order_id, stopped)

    async def get(self, user_id: str, order_id: str) -> Shipment:
        """The parcel of one of the user's orders. NOT_FOUND also for somebody else's."""
        stored = await self._store.get(order_id)
        if stored is None or stored.value.contact.user_id != user_id:
            raise _unknown()
        return stored.value

    async def move_on(self) -> None:
        """Moves every parcel whose time has come, and tells the customers. Safe in several
        processes at once.
        """
        began_ms = now_ms()
        for stored in await self._store.due(began_ms, self._longest_pause_ms, _SWEEP_LIMIT):
            try:
                await self._move_one(stored)
            except RevisionConflict:
                continue  # another process has moved it
        self._show_lag(began_ms)

    async def _move_one(self, stored: Stored[Shipment]) -> None:
        now = now_ms()
        if model.moves_now(stored.value, now, self._step_ms):
            stored = await self._store.save(
                stored, model.advanced(stored.value, now, self._step_ms)
            )
        with self._tracer.start_as_current_span(
            "tracking", context=extract_trace(stored.value.trace)
        ):
            for event in stored.value.events:
                try:
                    await self._notifications.deliver(stored.value.contact, event)
                except ShopError as error:
                    if may_succeed_later(error):
                        await self._postpone(stored, error)
                        return
                    stored = await self._store.save(
                        stored, model.undeliverable(stored.value, now_ms())
                    )
                    self._undelivered.labels(event.kind).inc()
                    log.exception("shipment.event_undeliverable", event_id=event.id)
                else:
                    stored = await self._store.save(stored, model.delivered(stored.value, now_ms()))

    async def _postpone(self, stored: Stored[Shipment], error: ShopError) -> None:
        log.info("shipment.event_waits", order_id=stored.value.id, reason=error.detail)
        postponed = model.postponed(stored.value, now_ms(), any_jitter())
        await self._store.save(stored, postponed)
        waits_since_ms = model.message_waits_since_ms(postponed)
        assert waits_since_ms is not None, "it has a message that was not taken"
        assert postponed.due_ms is not None, "it was put off until then"
        self._put_off[postponed.id] = (waits_since_ms, postponed.due_ms)

    def _show_lag(self, swept_ms: int) -> None:
        """After a sweep of all that was due by then: what is put off until later waits on."""
        self._put_off = {
            order_id: (since_ms, until_ms)
            for order_id, (since_ms, until_ms) in self._put_off.items()
            if until_ms > swept_ms
        }
        now = now_ms()
        oldest_ms = min((since_ms for since_ms, _ in self._put_off.values()), default=now)
        self._outbox_lag_seconds.set(max(0, now - oldest_ms) / 1000)


def _unknown() -> ShopError:
    return ShopError(Kind.NOT_FOUND, "unknown-shipment", "There is no such shipment.")
