"""The parts of the public API's answers that the journeys use.

Other fields are ignored, so that the API can grow. A field that is missing or of another type fails
the request.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Answer(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)


class Problem(_Answer):
    """An error (RFC 9457)."""

    status: int
    code: str
    detail: str = Field(min_length=1)
    fields: dict[str, str] = {}


class Tokens(_Answer):
    """A session's tokens; `expires_in` is in seconds."""

    access_token: str = Field(min_length=1)
    refresh_token: str = Field(min_length=1)
    token_type: Literal["Bearer"]
    expires_in: int = Field(ge=1)


class Profile(_Answer):
    """One's own account."""

    email: str
    name: str


class Address(_Answer):
    """Where a parcel goes."""

    name: str
    street: str
    postal_code: str
    city: str
    country: str


class SavedAddress(Address):
    """An entry of the address book."""

    id: str


class AddressBook(_Answer):
    """All of one's addresses."""

    items: list[SavedAddress]


class Category(_Answer):
    """A department of the shop."""

    id: str
    name: str
    count: int


class Categories(_Answer):
    """All departments."""

    items: list[Category] = Field(min_length=1)


class Product(_Answer):
    """A product in a list."""

    id: str
    name: str
    category: str
    brand: str
    blurb: str
    price_cents: int = Field(ge=1)
    currency: Literal["EUR"]
    available: int | None = Field(ge=0)
    version: str


class ProductDetails(Product):
    """A product by itself."""

    tags: list[str]
    weight_grams: int = Field(ge=1)


class ProductPage(_Answer):
    """Some products, and where the next ones are."""

    items: list[Product]
    next_cursor: str | None


class Quote(_Answer):
    """What one way of shipping costs."""

    service: str
    price_cents: int = Field(ge=0)
    currency: Literal["EUR"]


class Quotes(_Answer):
    """All ways of shipping."""

    quotes: list[Quote]


class Line(_Answer):
    """A line of an order."""

    product_id: str
    quantity: int = Field(ge=1)
    unit_price_cents: int
    total_cents: int


class Reason(_Answer):
    """Why an order was cancelled."""

    code: str
    detail: str


class Order(_Answer):
    """An order."""

    order_id: str
    state: Literal["working", "confirmed", "cancelling", "cancelled"]
    reason: Reason | None
    lines: list[Line] = Field(min_length=1)
    items_cents: int
    shipping_cents: int
    total_cents: int
    currency: Literal["EUR"]
    address: Address
    payment_method: str
    created_at: datetime


class OrderPage(_Answer):
    """Some of one's orders, newest first."""

    items: list[Order]


class Tracking(_Answer):
    """A place that a parcel has passed."""

    state: str
    at: datetime
    place: str = Field(min_length=1)


class Shipment(_Answer):
    """A parcel and its way."""

    order_id: str
    state: Literal[
        "prepared", "dispatched", "in-transit", "out-for-delivery", "delivered", "cancelled"
    ]
    tracking_number: str = Field(pattern=r"^MM\d{10}NL$")
    history: list[Tracking] = Field(min_length=1)


class Message(_Answer):
    """A message in the inbox."""

    kind: str
    order_id: str
    subject: str = Field(min_length=1)
    text: str


class Inbox(_Answer):
    """Some messages, newest first."""

    items: list[Message]
