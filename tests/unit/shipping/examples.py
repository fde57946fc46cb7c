"""A shipment to test with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from services.common.fields import AddressFields
from services.common.notifying import Recipient
from services.shipping.model import CreateShipment, Shipment, ShipmentState, TrackingMoment

ORDER = "ord_1"
NOW_MS = 1_700_000_000_000
STEP_MS = 20_000
CONTACT = Recipient(user_id="usr_ada", name="Ada", email="ada@example.com")
ADDRESS = AddressFields(
    name="Ada Lovelace",
    street="Keizersgracht 123",
    postal_code="1015 CJ",
    city="Amsterdam",
    country="NL",
)


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
