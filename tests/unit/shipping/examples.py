"""A shipment to test with, and the inbox of its customer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from services.common.documents import Event
from services.common.errors import Kind, ShopError
from services.common.fields import AddressFields
from services.common.notifying import Notifications, Recipient
from services.shipping.model import CreateShipment, Shipment, ShipmentState, TrackingMoment
from tests.testkit import customer

ORDER = "ord_1"
NOW_MS = 1_700_000_000_000
STEP_MS = 20_000
CONTACT = Recipient(user_id="usr_ada", name="Ada", email="ada@example.com")
ADDRESS = AddressFields.model_validate(customer.ADDRESS)


class Inbox(Notifications):
    """What the customers were told, by every process.

    :ivar asked: ids of all events that it was asked to deliver, as often as it was.
    :ivar told: ids of those that it took.
    :ivar unreachable: ids of orders whose customers cannot be told.
    :ivar refused: kinds of events that are never taken.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.told: list[str] = []
        self.unreachable: set[str] = set()
        self.refused: set[str] = set()

    async def deliver(self, to: Recipient, event: Event) -> None:
        self.asked.append(event.id)
        if event.facts["order_id"] in self.unreachable:
            raise ShopError(Kind.UNAVAILABLE, "notification-unavailable", "Away.")
        if event.kind in self.refused:
            raise ShopError(Kind.INVALID, "unknown-kind", "There is no such message.")
        self.told.append(event.id)


def a_command(order_id: str = ORDER, **changes: Any) -> CreateShipment:
    """Wants the parcel of :func:`a_shipment`."""
    return replace(CreateShipment(order_id, CONTACT, ADDRESS, 1200, "standard"), **changes)


def a_shipment(**changes: Any) -> Shipment:
    """A parcel that was just prepared."""
    shipment = Shipment(
        id=ORDER,
        contact=CONTACT,
        address=ADDRESS,
        weight_grams=1200,
        service="standard",
        state=ShipmentState.PREPARED,
        history=(
            TrackingMoment(state=ShipmentState.PREPARED, at_ms=NOW_MS, place="Utrecht warehouse"),
        ),
    )
    return shipment.model_copy(update=changes)
