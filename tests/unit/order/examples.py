"""An order to test with, and the errors that can befall it."""

from __future__ import annotations

from typing import Any

from services.common.errors import Kind, ShopError
from services.common.fields import AddressFields
from services.order.model import Contact, Line, Order
from tests.testkit import customer

ADDRESS = AddressFields.model_validate(customer.ADDRESS)
PLACED_MS = 1_700_000_000_000
OUTAGES = (
    Kind.UNAVAILABLE,
    Kind.TIMEOUT,
    Kind.THROTTLED,
    Kind.INTERNAL,
    Kind.DENIED,
    Kind.UNAUTHENTICATED,
)
REFUSALS = tuple(kind for kind in Kind if kind not in OUTAGES)


def an_order(**changes: Any) -> Order:
    """Two boards and a bowl, just placed: 2 * 34.95 + 12.00 + 4.95 = 86.85 EUR."""
    order = Order(
        id="ord_" + "a" * 24,
        user_id="usr_ada",
        fingerprint="f",
        contact=Contact(name="Ada", email="ada@example.com"),
        address=ADDRESS,
        lines=(
            Line(
                product_id="oak-board",
                name="Oak Serving Board",
                quantity=2,
                unit_price_cents=3495,
                weight_grams=900,
            ),
            Line(
                product_id="bowl",
                name="Bowl",
                quantity=1,
                unit_price_cents=1200,
                weight_grams=400,
            ),
        ),
        shipping_service="standard",
        shipping_cents=495,
        currency="EUR",
        payment_method="pm_card_visa",
        created_ms=PLACED_MS,
        open_since_ms=PLACED_MS,
    )
    return order.model_copy(update=changes)


def error(kind: Kind, code: str = "told-so") -> ShopError:
    """A failure of that kind."""
    return ShopError(kind, code, "As the test says.", fields={"product_id": "bowl"})
