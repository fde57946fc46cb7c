"""Stock and reservations: the documents, and the rules that need no store.

The promise is: what is available, reserved and sold of a product always adds up to the same total,
nothing is held twice or sold twice for an order, and nothing stays held for an order that is over.
It has to stand although a store changes only one document in one step, any process may die between
two steps, and any message may come late or twice.

**Tickets.** Every movement of stock that follows a decision about an order goes in three steps:

1. *place* a ticket with a fresh id in the stock document of each line,
2. *list* the tickets in the reservation, in the same compare-and-set that changes its state: the
   decision,
3. *cash* each listed ticket: one guarded step that takes it out of the stock document and moves the
   quantity.

A ticket is placed at most once (its id is new for each attempt), so it is cashed at most once, by
whoever comes first. A ticket that was placed but not listed (its attempt came too late, or lost to
another) is a *stray*: it can never be listed any more once the state has changed, so anybody may
take it back at any time.

::

    pending ──> held ──> committing ──> sold ──> returning ──> restocking ──> returned
      │  │        │
      │  └────────┴──> releasing ──> released
      └──> refusing ──> refused

Holds are placed in `pending` and listed by the step to `held`; returns are placed in `returning`
and listed by the step to `restocking`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Self, TypedDict, Unpack

from pydantic import Field

from services.common import error_codes
from services.common.documents import Document
from services.common.errors import Kind, ShopError
from services.common.fields import Slug
from services.common.limits import MAX_LINES

MAX_QUANTITY = 999

Quantity = Annotated[int, Field(ge=1, le=MAX_QUANTITY)]


class ReservationState(StrEnum):
    """Where a reservation stands."""

    PENDING = "pending"
    HELD = "held"
    REFUSING = "refusing"
    REFUSED = "refused"
    COMMITTING = "committing"
    SOLD = "sold"
    RELEASING = "releasing"
    RELEASED = "released"
    RETURNING = "returning"
    RESTOCKING = "restocking"
    RETURNED = "returned"


# States that lead on by themselves. `pending` and `held` are not among them: there the order
# decides what comes next.
PASSING = frozenset(
    {
        ReservationState.REFUSING,
        ReservationState.COMMITTING,
        ReservationState.RELEASING,
        ReservationState.RETURNING,
        ReservationState.RESTOCKING,
    }
)
# States in which the order has its stock.
RESERVED = frozenset({ReservationState.HELD, ReservationState.COMMITTING, ReservationState.SOLD})


class ReservationLine(Document):
    """A quantity of one product."""

    product_id: Slug
    quantity: Quantity


class Shortage(Document):
    """Why a reservation was refused: of this product only so many were available."""

    product_id: Slug
    available: int


class Ticket(Document):
    """A quantity set aside for an order, or about to come back from it."""

    quantity: Quantity


class Tickets(StrEnum):
    """The two kinds of tickets, by the field of the stock document that has them."""

    HOLDS = "holds"
    RETURNS = "returns"


class Stock(Document):
    """The stock of one product; `id` is the product's.

    `holds` and `returns` have the open tickets: order id, then ticket id. An order has at most one
    of each kind here.
    """

    id: Slug
    available: int = Field(ge=0)
    reserved: int = Field(default=0, ge=0)
    sold: int = Field(default=0, ge=0)
    holds: Mapping[str, Mapping[str, Ticket]] = {}
    returns: Mapping[str, Mapping[str, Ticket]] = {}

    def ticket_of(self, kind: Tickets, order_id: str) -> str | None:
        """The id of the order's open ticket here, if there is one."""
        return next(iter(self.tickets(kind).get(order_id, {})), None)

    def tickets(self, kind: Tickets) -> Mapping[str, Mapping[str, Ticket]]:
        """All open tickets of that kind."""
        return self.holds if kind is Tickets.HOLDS else self.returns


class ReservationChanges(TypedDict, total=False):
    state: ReservationState
    holds: Mapping[str, str]
    returns: Mapping[str, str]
    refusal: Shortage | None
    unfinished_since_ms: int | None


class Reservation(Document):
    """What one order holds or has bought; `id` is the order's.

    `holds` and `returns` list the tickets that count, by product. `unfinished_since_ms` is there
    only in a state that leads on by itself, so that a sweep finds the reservations that got stuck
    in one.
    """

    id: str
    state: ReservationState
    lines: tuple[ReservationLine, ...] = ()
    holds: Mapping[str, str] = {}
    returns: Mapping[str, str] = {}
    refusal: Shortage | None = None
    unfinished_since_ms: int | None = None

    def changed(self, **to: Unpack[ReservationChanges]) -> Self:
        return self._changed(to)

    def lists(self, kind: Tickets, product_id: str, ticket_id: str) -> bool:
        """Whether a ticket counts, until it is cashed or undone: it can never become a stray."""
        listed = self.holds if kind is Tickets.HOLDS else self.returns
        return listed.get(product_id) == ticket_id

    def is_stray(self, kind: Tickets, product_id: str, ticket_id: str) -> bool:
        """Whether a ticket that was placed for this order counts for nothing, now and for ever.

        True only after the step that lists such tickets, or another one, has left the state in
        which they are placed: a reservation never returns to a state.
        """
        if kind is Tickets.HOLDS:
            has_listed = self.state is not ReservationState.PENDING
        else:
            has_listed = self.state in {ReservationState.RESTOCKING, ReservationState.RETURNED}
        return has_listed and not self.lists(kind, product_id, ticket_id)


def moved(reservation: Reservation, state: ReservationState, now_ms: int) -> Reservation:
    """The reservation in its next state."""
    since_ms = now_ms if state in PASSING else None
    return reservation.changed(state=state, unfinished_since_ms=since_ms)


def held(reservation: Reservation, holds: Mapping[str, str], now_ms: int) -> Reservation:
    """The reservation with a ticket for each line, listed by product."""
    return moved(reservation, ReservationState.HELD, now_ms).changed(holds=holds)


def refusing(reservation: Reservation, refusal: Shortage, now_ms: int) -> Reservation:
    """The reservation of a product of which there is not enough."""
    return moved(reservation, ReservationState.REFUSING, now_ms).changed(refusal=refusal)


def restocking(reservation: Reservation, returns: Mapping[str, str], now_ms: int) -> Reservation:
    """The reservation with a ticket for each line that comes back, listed by product."""
    return moved(reservation, ReservationState.RESTOCKING, now_ms).changed(returns=returns)


class OutOfStock(ShopError):
    """A line could not be held; nothing is."""

    def __init__(self, refusal: Shortage) -> None:
        product_id, available = refusal.product_id, refusal.available
        super().__init__(
            Kind.CONFLICT,
            error_codes.OUT_OF_STOCK,
            f"Not enough of {product_id} is left: {available}."
            if available
            else f"{product_id} is sold out.",
            fields={"product_id": product_id, "available": str(available)},
        )


class UnstockedProduct(ShopError):
    """There is no stock document for a product."""

    def __init__(self, product_id: str) -> None:
        super().__init__(
            Kind.NOT_FOUND,
            "unknown-product",
            f"There is no product {product_id}.",
            fields={"product_id": product_id},
        )


class UnknownReservation(ShopError):
    """There is nothing to commit."""

    def __init__(self, order_id: str) -> None:
        super().__init__(
            Kind.NOT_FOUND, "unknown-reservation", f"Nothing was reserved for order {order_id}."
        )


class ReservationClosed(ShopError):
    """The order gave its stock back, or never got it: it cannot have any more."""

    def __init__(self, order_id: str) -> None:
        super().__init__(
            Kind.CONFLICT, "reservation-closed", f"The reservation of order {order_id} is closed."
        )


class ReservationNotHeld(ShopError):
    """The order's stock is not held yet."""

    def __init__(self, order_id: str) -> None:
        super().__init__(
            Kind.CONFLICT,
            "reservation-not-held",
            f"The stock for order {order_id} is not held yet: reserve it first.",
        )


class ReservationDiffers(ShopError):
    """The same order id came with other lines."""

    def __init__(self, order_id: str) -> None:
        super().__init__(
            Kind.INVALID,
            "reservation-differs",
            f"Order {order_id} has reserved other lines before.",
        )


def merge_lines(lines: Iterable[tuple[str, int]]) -> tuple[ReservationLine, ...]:
    """The lines of an order with one line per product, sorted by product.

    Sorted, so that equal orders compare equal, and so that two orders for the same last pieces go
    for them in the same sequence and cannot each get half of what they want.

    :raises ShopError: INVALID, for no line, more than MAX_LINES, or a quantity outside
        1..MAX_QUANTITY.
    """
    quantities: Counter[str] = Counter()
    count = 0
    for product_id, quantity in lines:
        count += 1
        if quantity < 1:
            raise _invalid_quantity(product_id)
        quantities[product_id] += quantity
    if not 1 <= count <= MAX_LINES:
        raise ShopError(
            Kind.INVALID,
            "invalid-lines",
            f"An order has between 1 and {MAX_LINES} lines, not {count}.",
        )
    for product_id, quantity in quantities.items():
        if quantity > MAX_QUANTITY:
            raise _invalid_quantity(product_id)
    return tuple(
        # Not validated: a product id of the wrong form is an unknown product, which is found out by
        # looking.
        ReservationLine.model_construct(product_id=product_id, quantity=quantity)
        for product_id, quantity in sorted(quantities.items())
    )


def _invalid_quantity(product_id: str) -> ShopError:
    return ShopError(
        Kind.INVALID,
        "invalid-quantity",
        f"The quantity of a product is between 1 and {MAX_QUANTITY}.",
        fields={"product_id": product_id[:64]},
    )
