"""What the shop has stored at one moment: every service's documents, and what Stripe has."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple, Protocol, Self, TypeVar

import orjson

from services.common.documents import DocumentModel, Json
from services.inventory.model import Reservation, Stock
from services.notification.model import Message
from services.order.model import Order
from services.payment.model import Payment
from services.shipping.model import Shipment


class Readable(DocumentModel, Protocol):
    """A pydantic ``BaseModel`` with an ``id: str``, as it is read from JSON."""

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray) -> Self: ...


Model = TypeVar("Model", bound=Readable)


class Shelf(Stock):
    """A product's stock as it is stored, be it less than nothing."""

    available: int
    reserved: int = 0
    sold: int = 0


class Collected(Mapping[str, Model]):
    """Documents by id. They are kept as JSON and read when they are looked at: as models, those of
    100,000 orders would take gigabytes.
    """

    def __init__(self, model: type[Model]) -> None:
        self._model = model
        self._texts: dict[str, bytes] = {}

    def add(self, document_id: str, body: Mapping[str, Json]) -> None:
        """Takes a document as it is stored."""
        self._texts[document_id] = orjson.dumps(body)

    def __getitem__(self, document_id: str) -> Model:
        return self._model.model_validate_json(self._texts[document_id])

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)


class LedgerIntent(NamedTuple):
    """What Stripe knows of a payment intent, as its API names it; amounts in cents.

    :param is_paid_back: whether a person has noted there that a charge was paid back another way.
    """

    id: str
    status: str
    amount: int
    amount_capturable: int
    amount_received: int
    is_paid_back: bool = False


class LedgerRefund(NamedTuple):
    """Money that was paid back, or is under way; in cents."""

    id: str
    amount: int


class LedgerDispute(NamedTuple):
    """A charge that its card's owner wants back from the bank; in cents.

    :param status: https://docs.stripe.com/api/disputes/object#dispute_object-status
    """

    id: str
    amount: int
    status: str

    @property
    def is_charge_kept(self) -> bool:
        """Whether it has ended and the money stays with the shop."""
        return self.status in {"won", "warning_closed", "prevented"}

    @property
    def is_open(self) -> bool:
        """Whether the bank has not decided yet."""
        return self.status != "lost" and not self.is_charge_kept


@dataclass(frozen=True, slots=True)
class Ledger:
    """Stripe's side: payment intents by order, refunds and disputes by payment intent."""

    intents: Mapping[str, Sequence[LedgerIntent]]
    refunds: Mapping[str, Sequence[LedgerRefund]]
    disputes: Mapping[str, Sequence[LedgerDispute]] = field(
        default_factory=dict[str, Sequence[LedgerDispute]]
    )

    def charges(self, order_id: str) -> list[int]:
        """The amount of each charge of an order, in cents."""
        return [
            intent.amount_received
            for intent in self.intents.get(order_id, ())
            if intent.amount_received
        ]

    def refunds_of(self, order_id: str) -> list[LedgerRefund]:
        """The refunds of an order's charges."""
        return [
            refund
            for intent in self.intents.get(order_id, ())
            for refund in self.refunds.get(intent.id, ())
        ]

    def is_paid_back(self, order_id: str) -> bool:
        """Whether a charge of an order was paid back another way than by a refund."""
        return any(intent.is_paid_back for intent in self.intents.get(order_id, ()))

    def refunded(self, order_id: str) -> int:
        """What was paid back of an order's charges, in cents."""
        return sum(refund.amount for refund in self.refunds_of(order_id))


@dataclass(frozen=True)
class Snapshot:
    """Everything at one moment, by id.

    :ivar moving: the products whose stock changed while the reservations were read, so that the two
        cannot be compared.
    :ivar user_ids: everybody with an account, guests included; None where that was not read.
    """

    orders: Mapping[str, Order]
    stock: Mapping[str, Stock]
    reservations: Mapping[str, Reservation]
    payments: Mapping[str, Payment]
    shipments: Mapping[str, Shipment]
    messages: Mapping[str, Message]
    ledger: Ledger
    moving: frozenset[str] = frozenset()
    user_ids: frozenset[str] | None = None

    def messages_of(self, order_id: str) -> list[Message]:
        """The messages about an order."""
        return [self.messages[message_id] for message_id in self.message_ids.get(order_id, ())]

    def waiting_messages(self) -> int:
        """How many messages are told once more, or for the first time, when the shop is open."""
        return sum(
            event.id not in self.messages
            for document in (*self.orders.values(), *self.shipments.values())
            for event in document.events
        )

    @cached_property
    def message_ids(self) -> Mapping[str, Sequence[str]]:
        """The ids of the messages by order; those about an account are of none."""
        ids: defaultdict[str, list[str]] = defaultdict(list)
        for message_id, message in self.messages.items():
            if message.order_id:
                ids[message.order_id].append(message_id)
        return ids
