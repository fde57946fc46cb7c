"""What the shipping service does: prepares, dispatches and stops parcels, and moves them along."""

from __future__ import annotations

import random
from collections.abc import Callable

from opentelemetry.trace import Tracer

from services.common import error_codes
from services.common.clock import now_ms
from services.common.documents import RevisionConflict, Stored
from services.common.errors import Kind, ShopError, may_succeed_later
from services.common.fields import AddressFields
from services.common.observing.logs import get_logger
from services.common.observing.metrics import Metrics
from services.common.observing.telemetry import extract_trace, inject_trace
from services.shipping import model
from services.shipping.clients import Notifications
from services.shipping.model import Contact, Moment, Shipment, State
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
        self._longest_pause_ms = max(self._step_ms, model.LONGEST_PAUSE_MS)
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

    async def create(
        self,
        *,
        order_id: str,
        contact: Contact,
        address: AddressFields,
        weight_grams: int,
        service: str,
    ) -> Shipment:
        """Prepares the parcel of an order, which waits for its dispatch.

        :raises ShopError: INVALID for a service or weight that there is no tariff for; CONFLICT
            when it was cancelled.
        """
        offered = [quote.service for quote in model.quotes(address.country, weight_grams)]
        if service not in offered:
            raise ShopError(
                Kind.INVALID, error_codes.NO_SUCH_SHIPPING, f"There is no {service} service."
            )
        trace: dict[str, str] = {}
        inject_trace(trace)
        wanted = Shipment(
            id=order_id,
            contact=contact,
            address=address,
            weight_grams=weight_grams,
            service=service,
            state=State.PREPARED,
            history=(Moment(state=State.PREPARED, at_ms=now_ms(), place="Utrecht warehouse"),),
            trace=trace,
        )
        stored = await self._store.add(wanted) or await self._existing(order_id)
        if stored.value.state is State.CANCELLED:
            raise model.closed()
        return stored.value

    async def dispatch(self, order_id: str) -> Shipment:
        """Hands the parcel to the carrier."""
        return await self._change(
            order_id, lambda shipment: model.dispatched(shipment, now_ms(), self._step_ms)
        )

    async def cancel(self, order_id: str) -> None:
        """Stops the parcel, or makes sure that there will be none."""
        if await self._store.get(order_id) is None and await self._store.add(
            model.fence(order_id, now_ms())
        ):
            return
        await self._change(order_id, lambda shipment: model.cancelled(shipment, now_ms()))

    async def get(self, user_id: str, order_id: str) -> Shipment:
        """The parcel of one of the user's orders. NOT_FOUND also for somebody else's."""
        stored = await self._store.get(order_id)
        if stored is None or stored.value.contact.user_id != user_id:
            raise ShopError(Kind.NOT_FOUND, "unknown-shipment", "There is no such shipment.")
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
        moved = model.advanced(stored.value, now_ms(), self._step_ms)
        if moved is not stored.value:
            stored = await self._store.save(stored, moved)
        with self._tracer.start_as_current_span(
            "tracking", context=extract_trace(stored.value.trace)
        ):
            for event in stored.value.events:
                try:
                    await self._notifications.deliver(stored.value, event)
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
        jitter = random.random()  # noqa: S311  spreads retries; not for secrets
        postponed = model.postponed(stored.value, now_ms(), jitter)
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

    async def _change(self, order_id: str, change: Callable[[Shipment], Shipment]) -> Shipment:
        while True:
            stored = await self._existing(order_id)
            changed = change(stored.value)
            if changed is stored.value:
                return changed
            try:
                return (await self._store.save(stored, changed)).value
            except RevisionConflict:
                continue  # somebody else changed it; their change may decide ours

    async def _existing(self, order_id: str) -> Stored[Shipment]:
        stored = await self._store.get(order_id)
        if stored is None:
            raise ShopError(Kind.NOT_FOUND, "unknown-shipment", "There is no such shipment.")
        return stored
