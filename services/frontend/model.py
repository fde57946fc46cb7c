"""What the pages show and the browser keeps: carts, drafts of orders, other services' answers.

Answers hold only what a page uses; whatever else a service says is ignored, so that it can grow.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from services.common.delivery import MAX_PARCEL_GRAMS
from services.common.limits import MAX_LINES
from services.common.money import Money

MAX_QUANTITY = 20
MAX_SEEN = 6


class CartRefused(Exception):
    """The cart stays as it is: it cannot hold that, or it was not asked for so that it could. The
    message is for the customer.
    """


@dataclass(frozen=True, slots=True)
class CartLine:
    """A product and how many of it, 1 to MAX_QUANTITY."""

    product_id: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Cart:
    lines: tuple[CartLine, ...] = ()

    @property
    def count(self) -> int:
        """How many items, over all lines."""
        return sum(line.quantity for line in self.lines)

    @property
    def product_ids(self) -> tuple[str, ...]:
        """The products, in the order in which they were added."""
        return tuple(line.product_id for line in self.lines)

    def quantity_of(self, product_id: str) -> int:
        """How many of one product; 0 when it is not there."""
        return next((line.quantity for line in self.lines if line.product_id == product_id), 0)

    def with_added(self, product_id: str, quantity: int) -> Cart:
        """More of a product.

        :raises CartRefused: it would be more than MAX_QUANTITY, or more than MAX_LINES
            products.
        """
        return self.with_quantity(product_id, self.quantity_of(product_id) + quantity)

    def with_quantity(self, product_id: str, quantity: int) -> Cart:
        """Exactly that many of a product; 0 removes it.

        :raises CartRefused: as for `with_added`.
        """
        if quantity <= 0:
            return self.without(product_id)
        if quantity > MAX_QUANTITY:
            raise CartRefused(f"You can order at most {MAX_QUANTITY} of one product.")
        line = CartLine(product_id, quantity)
        if self.quantity_of(product_id):
            return Cart(tuple(line if old.product_id == product_id else old for old in self.lines))
        if len(self.lines) >= MAX_LINES:
            raise CartRefused(f"Your cart can hold {MAX_LINES} different products.")
        return Cart((*self.lines, line))

    def without(self, product_id: str) -> Cart:
        """The cart but for one product."""
        return Cart(tuple(line for line in self.lines if line.product_id != product_id))

    def without_all_of(self, bought: Cart) -> Cart:
        """What is left after an order: a line that was changed meanwhile keeps the difference."""
        left = (
            CartLine(line.product_id, line.quantity - bought.quantity_of(line.product_id))
            for line in self.lines
        )
        return Cart(tuple(line for line in left if line.quantity > 0))


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ProductCard(NamedTuple):
    """What the card of a product shows, and so what decides how it looks."""

    id: str
    name: str
    blurb: str
    price: Money
    available: int | None
    version: str
    rating: float | None
    reviews: int
    badges: tuple[str, ...]
    sustainability: str | None


class CatalogueProduct(_Answer):
    """A product of the catalogue. `badges` and `sustainability` come from version 2 on."""

    id: str
    name: str
    category: str = ""
    brand: str = ""
    blurb: str = ""
    description: str = ""
    price_cents: int
    currency: str
    available: int | None = None
    version: str = "v1"
    rating: float | None = None
    reviews: int = 0
    details: dict[str, str] = {}
    badges: tuple[str, ...] = ()
    sustainability: str | None = None

    @property
    def price(self) -> Money:
        """What one costs."""
        return Money(self.price_cents, self.currency)

    @property
    def card(self) -> ProductCard:
        """The product in a list."""
        return ProductCard(
            self.id,
            self.name,
            self.blurb,
            self.price,
            self.available,
            self.version,
            self.rating,
            self.reviews,
            self.badges,
            self.sustainability,
        )


class ProductWithRelated(CatalogueProduct):
    """A product, with others of its department."""

    related: tuple[CatalogueProduct, ...] = ()


class CataloguePage(_Answer):
    """Some of the catalogue. `arrivals`: what is newest in it, when that was asked for."""

    items: tuple[CatalogueProduct, ...]
    next_cursor: str | None = None
    suggestion: str | None = None
    arrivals: tuple[CatalogueProduct, ...] = ()


class Department(_Answer):
    """A department of the shop."""

    id: str
    name: str
    blurb: str = ""


class PostalAddress(_Answer):
    """Where a parcel goes; `country` is ISO 3166-1 alpha-2."""

    name: str
    street: str
    postal_code: str
    city: str
    country: str


class AddressBookEntry(PostalAddress):
    """An address of the customer's address book."""

    id: str


class Profile(_Answer):
    """The customer's account."""

    email: str
    is_guest: bool = False
    name: str
    groups: tuple[str, ...] = ()


class SessionTokens(_Answer):
    """A session, as auth issues it."""

    access_token: str = Field(repr=False)
    refresh_token: str = Field(repr=False)
    device_token: str = Field(default="", repr=False)  # an `auth` of before has none
    expires_in: int


class OrderLine(_Answer):
    """One line of an order, at the price it was sold for."""

    product_id: str
    name: str
    quantity: int
    unit_price_cents: int
    total_cents: int


class CancellationReason(_Answer):
    """Why an order was cancelled."""

    code: str
    detail: str


class HistoryEntry(_Answer):
    """An entry of an order's history."""

    at: datetime
    what: str


class CustomerOrder(_Answer):
    """An order as its customer sees it. An attempt is one that was cancelled without ever having
    been confirmed: to its customer it was never placed. `refund_failed`: its money has not arrived.
    `refund_disputed`: the bank decides who gets it.
    """

    order_id: str
    state: str
    is_attempt: bool = False
    reason: CancellationReason | None = None
    refund_failed: bool = False
    refund_disputed: bool = False
    lines: tuple[OrderLine, ...]
    items_cents: int
    shipping_cents: int
    total_cents: int
    currency: str
    address: PostalAddress
    shipping: str
    payment_method: str
    created_at: datetime
    history: tuple[HistoryEntry, ...] = ()

    def amount(self, cents: int) -> Money:
        """An amount of this order, in its currency."""
        return Money(cents, self.currency)

    @property
    def is_settled(self) -> bool:
        """Whether nothing moves any more without the customer or the carrier."""
        return self.state in {"confirmed", "cancelled"}

    @property
    def count(self) -> int:
        """How many items, over all lines."""
        return sum(line.quantity for line in self.lines)


class OrderHistoryPage(_Answer):
    """Some of the customer's orders, newest first."""

    items: tuple[CustomerOrder, ...]
    next_cursor: str | None = None


class InboxMessage(_Answer):
    """A message in the customer's inbox."""

    id: str
    subject: str
    text: str
    created_at: datetime
    order_id: str | None = None
    is_held: bool = False


class InboxPage(_Answer):
    """Some of the inbox, newest first."""

    items: tuple[InboxMessage, ...]
    next_cursor: str | None = None
    mail: str = "off"


@dataclass(frozen=True, slots=True)
class Article:
    """What a product costs and weighs now."""

    product_id: str
    name: str
    price: Money
    weight_grams: int


@dataclass(frozen=True, slots=True)
class DeliveryQuote:
    """What a parcel costs; `service` is "standard" or "express"."""

    service: str
    price: Money
    days_min: int
    days_max: int


@dataclass(frozen=True, slots=True)
class TrackingEvent:
    """One step of a parcel's way."""

    state: str
    at: datetime
    place: str


@dataclass(frozen=True, slots=True)
class Parcel:
    """A parcel on its way; `state` is in lower case: "prepared" or "in-transit"."""

    state: str
    tracking_number: str
    history: tuple[TrackingEvent, ...]

    def reached(self, state: str) -> TrackingEvent | None:
        """When and where the parcel got to that state; None when it did not (yet)."""
        return next((event for event in self.history if event.state == state), None)

    @property
    def is_moving(self) -> bool:
        """Whether there is news to wait for."""
        return self.state not in {"delivered", "cancelled"}


@dataclass(frozen=True, slots=True)
class BasketLine:
    """A line of the cart with what the catalogue and the stock say about it.

    :param article: None when the shop no longer sells it.
    :param available: None while the stock is not known.
    """

    product_id: str
    quantity: int
    article: Article | None
    available: int | None

    @property
    def total(self) -> Money:
        """The price of the line."""
        return self.article.price * self.quantity if self.article else Money(0)

    @property
    def is_orderable(self) -> bool:
        """Whether nothing is known to stand in the way of ordering it."""
        return self.article is not None and (
            self.available is None or self.available >= self.quantity
        )


@dataclass(frozen=True, slots=True)
class Basket:
    """The cart with prices."""

    lines: tuple[BasketLine, ...]

    @property
    def total(self) -> Money:
        """The price of all lines, without delivery."""
        return sum((line.total for line in self.lines), start=Money(0))

    @property
    def weight_grams(self) -> int:
        """What the parcel's contents weigh."""
        return sum(line.quantity * line.article.weight_grams for line in self.lines if line.article)

    @property
    def is_too_heavy(self) -> bool:
        """Whether no carrier takes it."""
        return self.weight_grams > MAX_PARCEL_GRAMS

    @property
    def is_orderable(self) -> bool:
        """Whether there is something in it and nothing stands in the way of ordering it."""
        return bool(self.lines) and all(line.is_orderable for line in self.lines)


class DraftLine(BaseModel):
    """A line of a draft."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    product_id: str
    quantity: int


class Draft(BaseModel):
    """The order that a checkout page shows, and the key under which it may be placed once.

    It travels in the page's form, sealed: what the customer saw is what is ordered, however often
    the button is pressed and whatever happens to the cart meanwhile.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    idempotency_key: str
    user_id: str
    lines: tuple[DraftLine, ...]
    address: PostalAddress
    shown_totals: dict[str, int] = {}

    def showing(self, totals: Mapping[str, Money]) -> Draft:
        """This draft on a page that shows these totals, by shipping service."""
        return Draft(
            idempotency_key=self.idempotency_key,
            user_id=self.user_id,
            lines=self.lines,
            address=self.address,
            shown_totals={service: total.cents for service, total in totals.items()},
        )

    @property
    def cart(self) -> Cart:
        """The lines as a cart."""
        return Cart(tuple(CartLine(line.product_id, line.quantity) for line in self.lines))


@dataclass(frozen=True, slots=True)
class PaymentMethod:
    """One of Stripe's test payment methods, for a person to choose."""

    id: str
    label: str
    hint: str


ACCEPTED_METHODS: Sequence[PaymentMethod] = (
    PaymentMethod("pm_card_visa", "Visa ending in 4242", "Test card: the payment succeeds"),
    PaymentMethod(
        "pm_card_mastercard", "Mastercard ending in 4444", "Test card: the payment succeeds"
    ),
)
DECLINED_METHODS: Sequence[PaymentMethod] = (
    PaymentMethod("pm_card_visa_chargeDeclined", "Visa ending in 0002", "The bank declines it"),
    PaymentMethod(
        "pm_card_visa_chargeDeclinedInsufficientFunds",
        "Visa ending in 9995",
        "Not enough money on it",
    ),
    PaymentMethod(
        "pm_card_chargeDeclinedExpiredCard", "Visa ending in 0069", "The card has expired"
    ),
    PaymentMethod(
        "pm_card_chargeDeclinedProcessingError",
        "Visa ending in 0119",
        "The bank has a technical problem",
    ),
    PaymentMethod(
        "pm_card_authenticationRequired",
        "Visa ending in 3184",
        "The bank wants to ask you first (3-D Secure)",
    ),
)
PAYMENT_METHODS = {method.id: method for method in (*ACCEPTED_METHODS, *DECLINED_METHODS)}

# What a price on a page may look like: euros, with or without cents.
_EUROS = re.compile(r"([0-9]{1,5})(?:[.,]([0-9]{1,2}))?")


def cents_of(euros: str) -> int | None:
    """An amount in euros as people type it, in cents: ``12,50`` is 1250; None when it is none."""
    found = _EUROS.fullmatch(euros.strip().removeprefix("€").strip())
    if found is None:
        return None
    whole, cents = found.groups(default="")
    return 100 * int(whole) + int(cents.ljust(2, "0"))


@dataclass(frozen=True, slots=True)
class Filters:
    """What narrows a list of products."""

    min_price_cents: int | None = None
    max_price_cents: int | None = None
    in_stock: bool = False

    @property
    def are_limits_crossed(self) -> bool:
        """Whether no price can be within both limits."""
        return (
            self.min_price_cents is not None
            and self.max_price_cents is not None
            and self.min_price_cents > self.max_price_cents
        )


NO_FILTERS = Filters()

SORTS = {
    "": "Best match",
    "newest": "Newest",
    "price": "Price, low to high",
    "-price": "Price, high to low",
    "rating": "Best rated",
    "name": "Name",
}


def from_milliseconds(at_ms: int) -> datetime:
    """A time that a service gave as Unix milliseconds."""
    return datetime.fromtimestamp(at_ms / 1000, UTC)
