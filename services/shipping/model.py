"""Shipments and tariffs: documents and rules, no I/O. One shipment per order; its id is the
order's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Self, Unpack

from services.common import error_codes
from services.common.backoff import Backoff
from services.common.delivery import MAX_PARCEL_GRAMS
from services.common.documents import Collection, Document, Event, Index, Outbox, OutboxChanges
from services.common.errors import Kind, ShopError
from services.common.fields import AddressFields
from services.common.notifying import Recipient

# While `notification` is away.
BACKOFF = Backoff(first_seconds=1, longest_seconds=30)
_WAREHOUSE = "Utrecht warehouse"

SHIPMENTS = Collection("shipments", indexes=(Index("due", order="due_ms"),))


class ShipmentState(StrEnum):
    """Where a shipment is."""

    PREPARED = "prepared"
    DISPATCHED = "dispatched"
    IN_TRANSIT = "in-transit"
    OUT_FOR_DELIVERY = "out-for-delivery"
    DELIVERED = "delivered"
    CANCELLED = "cancelled"


# The carrier's way, and where a parcel is seen on it.
_NEXT: Mapping[ShipmentState, tuple[ShipmentState, str]] = {
    ShipmentState.DISPATCHED: (ShipmentState.IN_TRANSIT, "Sorting centre"),
    ShipmentState.IN_TRANSIT: (ShipmentState.OUT_FOR_DELIVERY, "Local depot"),
    ShipmentState.OUT_FOR_DELIVERY: (ShipmentState.DELIVERED, "Your address"),
}

# What the customer is told about.
_TOLD: Mapping[ShipmentState, str] = {
    ShipmentState.IN_TRANSIT: "shipment-dispatched",
    ShipmentState.DELIVERED: "shipment-delivered",
}
EVENT_KINDS = tuple(_TOLD.values())


class TrackingMoment(Document):
    """An entry of the tracking history."""

    state: ShipmentState
    at_ms: int
    place: str


@dataclass(frozen=True, slots=True)
class CreateShipment:
    """The command to prepare the parcel of an order, which waits for its dispatch."""

    order_id: str
    contact: Recipient
    address: AddressFields
    weight_grams: int
    service: str


class ShipmentChanges(OutboxChanges, total=False):
    state: ShipmentState
    history: tuple[TrackingMoment, ...]
    moves_ms: int | None
    due_ms: int | None
    failures: int


class Shipment(Outbox):
    """One parcel. Times are Unix milliseconds.

    `due_ms` is when it moves on or its events are to be delivered; it is absent when neither is
    left to do. `failures` counts how often `notification` was away in a row.
    """

    id: str
    contact: Recipient
    address: AddressFields | None
    weight_grams: int
    service: str
    state: ShipmentState
    history: tuple[TrackingMoment, ...]
    moves_ms: int | None = None
    due_ms: int | None = None
    failures: int = 0
    trace: Mapping[str, str] = {}

    def changed(self, **to: Unpack[ShipmentChanges]) -> Self:
        return self._changed(to)

    @property
    def tracking_number(self) -> str:
        """The carrier's number for the parcel, always the same for one order."""
        digest = hashlib.sha256(self.id.encode()).hexdigest()
        return f"MM{int(digest[:12], 16) % 10**10:010d}NL"


class Quote(NamedTuple):
    """What one way of shipping costs and how long it takes."""

    service: str
    price_cents: int
    days_min: int
    days_max: int


class _Zone(NamedTuple):
    standard_cents: int
    express_cents: int
    cents_per_kg: int
    days: tuple[int, int]
    express_days: tuple[int, int]


_HOME = _Zone(495, 995, 40, (1, 2), (1, 1))
_NEAR = _Zone(795, 1695, 90, (2, 4), (1, 2))
_EUROPE = _Zone(1195, 2495, 160, (3, 6), (2, 3))
# For orders that were placed when the shop still delivered there.
_WORLD = _Zone(2495, 4995, 650, (6, 14), (3, 5))

_NEAR_COUNTRIES = frozenset({"BE", "DE", "LU"})
_EUROPEAN_COUNTRIES = frozenset(
    [
        "AT",
        "BG",
        "CH",
        "CY",
        "CZ",
        "DK",
        "EE",
        "ES",
        "FI",
        "FR",
        "GB",
        "GR",
        "HR",
        "HU",
        "IE",
        "IS",
        "IT",
        "LI",
        "LT",
        "LV",
        "MT",
        "NO",
        "PL",
        "PT",
        "RO",
        "SE",
        "SI",
        "SK",
    ]
)


def quotes(country: str, weight_grams: int) -> tuple[Quote, ...]:
    """The tariffs from our warehouse in Utrecht, cheapest first. The first kilogram is included,
    each further begun one is not.

    :raises ShopError: INVALID for a parcel that is too heavy or weighs nothing.
    """
    if not 0 < weight_grams <= MAX_PARCEL_GRAMS:
        raise ShopError(
            Kind.INVALID,
            error_codes.WEIGHT_OUT_OF_RANGE,
            f"We ship parcels of up to {MAX_PARCEL_GRAMS // 1000} kg.",
        )
    zone = _zone(country)
    extra_cents = zone.cents_per_kg * (-(-weight_grams // 1000) - 1)
    return (
        Quote("standard", zone.standard_cents + extra_cents, *zone.days),
        Quote("express", zone.express_cents + 2 * extra_cents, *zone.express_days),
    )


def prepared(command: CreateShipment, now_ms: int, trace: Mapping[str, str]) -> Shipment:
    """A new parcel.

    :raises ShopError: INVALID for a service or weight that there is no tariff for.
    """
    offered = quotes(command.address.country, command.weight_grams)
    if command.service not in {quote.service for quote in offered}:
        raise ShopError(
            Kind.INVALID, error_codes.NO_SUCH_SHIPPING, f"There is no {command.service} service."
        )
    return Shipment(
        id=command.order_id,
        contact=command.contact,
        address=command.address,
        weight_grams=command.weight_grams,
        service=command.service,
        state=ShipmentState.PREPARED,
        history=(TrackingMoment(state=ShipmentState.PREPARED, at_ms=now_ms, place=_WAREHOUSE),),
        trace=trace,
    )


def dispatched(shipment: Shipment, now_ms: int, step_ms: int) -> Shipment:
    """Handed to the carrier. Once it has been, nothing changes.

    :raises ShopError: CONFLICT, when it was cancelled.
    """
    if shipment.state is ShipmentState.CANCELLED:
        raise closed()
    if shipment.state is not ShipmentState.PREPARED:
        return shipment
    return _moved(shipment, ShipmentState.DISPATCHED, _WAREHOUSE, now_ms, step_ms)


def moves_now(shipment: Shipment, now_ms: int, step_ms: int) -> bool:
    """Whether it is time for the next stage. A time that is more than a step ahead is no time to
    wait for: it was written by a wrong clock, or is read by one.
    """
    if shipment.moves_ms is None or shipment.state not in _NEXT:
        return False
    return not now_ms < shipment.moves_ms <= now_ms + step_ms


def advanced(shipment: Shipment, now_ms: int, step_ms: int) -> Shipment:
    """The shipment one stage further, if it is time."""
    if not moves_now(shipment, now_ms, step_ms):
        return shipment
    state, place = _NEXT[shipment.state]
    return _moved(shipment, state, place, now_ms, step_ms)


def cancelled(shipment: Shipment, now_ms: int) -> Shipment:
    """Stopped, as long as the carrier has not picked it up.

    :raises ShopError: CONFLICT, when it is on its way.
    """
    if shipment.state is ShipmentState.CANCELLED:
        return shipment
    if shipment.state not in {ShipmentState.PREPARED, ShipmentState.DISPATCHED}:
        raise ShopError(
            Kind.CONFLICT,
            error_codes.SHIPMENT_UNDER_WAY,
            "The parcel is on its way already and cannot be stopped.",
        )
    moment = TrackingMoment(state=ShipmentState.CANCELLED, at_ms=now_ms, place=_WAREHOUSE)
    stopped = shipment.changed(
        state=ShipmentState.CANCELLED, history=(*shipment.history, moment), moves_ms=None
    )
    return _scheduled(stopped, now_ms)


def delivered(shipment: Shipment, now_ms: int) -> Shipment:
    """After `notification` has taken the first event."""
    return _scheduled(shipment.with_first_event_taken().changed(failures=0), now_ms)


def undeliverable(shipment: Shipment, now_ms: int) -> Shipment:
    """After `notification` has refused the first event for good."""
    return _scheduled(shipment.with_first_event_refused().changed(failures=0), now_ms)


def postponed(shipment: Shipment, now_ms: int, jitter: float) -> Shipment:
    """Left alone for a doubling pause, because `notification` is away.

    :param jitter: 0 to 1, takes up to half of the pause away.
    """
    failures = shipment.failures + 1
    return shipment.changed(failures=failures, due_ms=now_ms + BACKOFF.pause_ms(failures, jitter))


def message_waits_since_ms(shipment: Shipment) -> int | None:
    """Since when the oldest message to the customer waits; None when none does."""
    if not shipment.events:
        return None
    reached = shipment.events[0].id.rpartition(":")[2]
    return next(moment.at_ms for moment in shipment.history if moment.state == reached)


def told_again(shipment: Shipment, now_ms: int) -> Shipment:
    """The shipment with the events of its past waiting once more; the same where all of them wait
    anyway.
    """
    past = [moment.state for moment in shipment.history if moment.state in _TOLD]
    again = shipment.with_events_again(_event(shipment, state) for state in past)
    return shipment if again == shipment else _scheduled(again, now_ms)


def fence(order_id: str, now_ms: int) -> Shipment:
    """Stands for a shipment that was cancelled before it was ever asked for, so that a late request
    finds it closed.
    """
    return Shipment(
        id=order_id,
        contact=Recipient(user_id="", name="", email=""),
        address=None,
        weight_grams=0,
        service="standard",
        state=ShipmentState.CANCELLED,
        history=(TrackingMoment(state=ShipmentState.CANCELLED, at_ms=now_ms, place=_WAREHOUSE),),
    )


def closed() -> ShopError:
    """The order's shipment was cancelled; whatever arrives for it now is late."""
    return ShopError(Kind.CONFLICT, "shipment-closed", "The shipment of this order was cancelled.")


def _zone(country: str) -> _Zone:
    if country == "NL":
        return _HOME
    if country in _NEAR_COUNTRIES:
        return _NEAR
    return _EUROPE if country in _EUROPEAN_COUNTRIES else _WORLD


def _moved(
    shipment: Shipment, state: ShipmentState, place: str, now_ms: int, step_ms: int
) -> Shipment:
    events = shipment.events
    if state in _TOLD:
        events = (*events, _event(shipment, state))
    moved = shipment.changed(
        state=state,
        history=(*shipment.history, TrackingMoment(state=state, at_ms=now_ms, place=place)),
        moves_ms=now_ms + step_ms if state in _NEXT else None,
        events=events,
    )
    return _scheduled(moved, now_ms)


def _scheduled(shipment: Shipment, now_ms: int) -> Shipment:
    return shipment.changed(due_ms=now_ms if shipment.events else shipment.moves_ms)


def _event(shipment: Shipment, reached: ShipmentState) -> Event:
    return Event(
        id=f"{shipment.id}:{reached.value}",
        kind=_TOLD[reached],
        facts={"order_id": shipment.id, "tracking_number": shipment.tracking_number},
    )
