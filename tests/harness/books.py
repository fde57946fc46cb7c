"""All that the shop has written down: every service's store and the sandbox's ledger, and what must
be true across them.
"""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from services.common.documents import Collection, DocumentModel, Documents, Index, SqliteStore
from services.inventory.model import Reservation, Stock
from services.inventory.model import State as ReservationState
from services.inventory.seed import read_stock_file
from services.inventory.settings import InventorySettings
from services.notification.model import Message
from services.order.model import Order
from services.order.model import State as OrderState
from services.payment.model import Payment
from services.payment.model import State as PaymentState
from services.shipping.model import Shipment
from services.shipping.model import State as ShipmentState
from tests.harness.shop import Shop
from tests.harness.waiting import eventually

Model = TypeVar("Model", bound=DocumentModel)

_BOOKS = ("order", "inventory", "payment", "shipping", "notification")
_GIVEN_BACK = frozenset(
    {ReservationState.REFUSED, ReservationState.RELEASED, ReservationState.RETURNED}
)
_ON_ITS_WAY = frozenset(ShipmentState) - {ShipmentState.PREPARED, ShipmentState.CANCELLED}


@dataclass(frozen=True, slots=True)
class Ledger:
    """The sandbox's side: payment intents and refunds as Stripe's API shows them, by order."""

    intents: Mapping[str, list[dict[str, Any]]]
    refunded_cents: Mapping[str, int]

    def charges(self, order_id: str) -> list[int]:
        """The amount of each charge of an order, in cents."""
        return [
            intent["amount_received"]
            for intent in self.intents.get(order_id, ())
            if intent["amount_received"]
        ]

    def refunded(self, order_id: str) -> int:
        """What was paid back of an order's charges, in cents."""
        return sum(
            self.refunded_cents.get(intent["id"], 0) for intent in self.intents.get(order_id, ())
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything at one moment, by id."""

    orders: Mapping[str, Order]
    stock: Mapping[str, Stock]
    reservations: Mapping[str, Reservation]
    payments: Mapping[str, Payment]
    shipments: Mapping[str, Shipment]
    messages: Mapping[str, Message]
    ledger: Ledger

    def messages_of(self, order_id: str) -> Counter[str]:
        """How many messages of each kind were sent about an order."""
        return Counter(
            message.kind for message in self.messages.values() if message.order_id == order_id
        )


class Books:
    """Reads a shop's stores directly, beside the running services, and writes nothing."""

    def __init__(self, shop: Shop, stores: Mapping[str, SqliteStore]) -> None:
        self._shop = shop
        self._stores = stores

    async def order(self, order_id: str) -> Order | None:
        """One order as it is stored now."""
        stored = await self._documents("order", "orders", Order).get(order_id)
        return stored.value if stored else None

    async def stock(self, product_id: str) -> Stock:
        """The stock of one product as it is stored now."""
        stored = await self._documents("inventory", "stock", Stock).get(product_id)
        assert stored is not None, f"{product_id} has no stock"
        return stored.value

    async def ledger(self) -> Ledger:
        """The sandbox's ledger."""
        url = f"{self._shop.sandbox_url}/sandbox/ledger"
        async with (
            aiohttp.ClientSession() as session,
            session.get(url, params={"limit": 10_000}) as response,
        ):
            ledger = await response.json()
        intents: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for intent in ledger["payment_intents"]:
            intents[intent["metadata"]["order_id"]].append(intent)
        refunded_cents: Counter[str] = Counter()
        for refund in ledger["refunds"]:
            refunded_cents[refund["payment_intent"]] += refund["amount"]
        return Ledger(intents, refunded_cents)

    async def read(self) -> Snapshot:
        """Everything. Only of a quiet shop is it one consistent whole."""
        return Snapshot(
            orders=await self._all("order", "orders", Order),
            stock=await self._all("inventory", "stock", Stock),
            reservations=await self._all("inventory", "reservations", Reservation),
            payments=await self._all("payment", "payments", Payment),
            shipments=await self._all("shipping", "shipments", Shipment),
            messages=await self._all("notification", "messages", Message),
            ledger=await self.ledger(),
        )

    async def settled(self, within_seconds: float = 30.0) -> Snapshot:
        """Waits until no order has anything left to do, then checks all invariants.

        :raises AssertionError: naming every violation.
        """

        async def quiet() -> bool:
            orders = await self._all("order", "orders", Order)
            return all(order.due_ms is None for order in orders.values())

        await eventually(quiet, "every order is settled and its events delivered", within_seconds)
        snapshot = await self.read()
        violations = list(violations_of(snapshot, self._seed()))
        assert not violations, "\n".join(violations)
        return snapshot

    def _seed(self) -> Mapping[str, int]:
        stock_file = self._shop.environment.get("STOCK_FILE")
        return read_stock_file(Path(stock_file) if stock_file else InventorySettings().stock_file)

    def _documents(self, service: str, collection: str, model: type[Model]) -> Documents[Model]:
        # Of all that the service declares, `all` is enough here, and SQLite needs nothing for it.
        view = Collection(collection, indexes=(Index("all"),))
        return Documents(self._stores[service], view, model)

    async def _all(self, service: str, collection: str, model: type[Model]) -> dict[str, Model]:
        documents = self._documents(service, collection, model)
        found: dict[str, Model] = {}
        cursor: str | None = None
        while True:
            page = await documents.find("all", limit=500, cursor=cursor)
            found.update({stored.value.id: stored.value for stored in page.items})
            cursor = page.next_cursor
            if cursor is None:
                return found


@contextlib.asynccontextmanager
async def open_books(shop: Shop) -> AsyncGenerator[Books]:
    """The books of a shop, which may run or not; the ledger needs it to run."""
    stores = {service: SqliteStore(shop.data / f"{service}.db") for service in _BOOKS}
    try:
        yield Books(shop, stores)
    finally:
        for store in stores.values():
            await store.close()


def violations_of(snapshot: Snapshot, seed: Mapping[str, int]) -> Iterator[str]:
    """A sentence for everything that must not be, in a shop where every order is settled."""
    yield from _stock_violations(snapshot, seed)
    for order in snapshot.orders.values():
        check = _CHECKS.get(order.state)
        if check is None or not order.is_settled:
            yield f"{order.id} ended {order.state} at step {order.step}"
            continue
        for violation in check(order, snapshot):
            history = ", ".join(moment.what for moment in order.history)
            yield f"{order.id} ({order.state}; {history}): {violation}"
    for name, ids in {
        "reservation": snapshot.reservations,
        "payment": snapshot.payments,
        "payment intent": snapshot.ledger.intents,
        "shipment": snapshot.shipments,
    }.items():
        for order_id in ids.keys() - snapshot.orders.keys():
            yield f"there is a {name} for {order_id}, but no such order"


def _stock_violations(snapshot: Snapshot, seed: Mapping[str, int]) -> Iterator[str]:
    sold: Counter[str] = Counter()
    for order in snapshot.orders.values():
        if order.state is OrderState.CONFIRMED:
            for line in order.lines:
                sold[line.product_id] += line.quantity
    for stock in snapshot.stock.values():
        total = stock.available + stock.reserved + stock.sold
        if total != seed[stock.id]:
            yield f"{stock.id}: there are {total}, but it began with {seed[stock.id]}"
        if stock.reserved or stock.holds or stock.returns:
            yield f"{stock.id}: {stock.reserved} reserved, {stock.holds=}, {stock.returns=}"
        if stock.sold != sold[stock.id]:
            yield f"{stock.id}: {stock.sold} sold, but confirmed orders have {sold[stock.id]}"


def _confirmed(order: Order, snapshot: Snapshot) -> Iterator[str]:
    reservation = snapshot.reservations.get(order.id)
    if reservation is None or reservation.state is not ReservationState.SOLD:
        yield f"its reservation is {reservation}"
    payment = snapshot.payments.get(order.id)
    if payment is None or payment.state is not PaymentState.CAPTURED:
        yield f"its payment is {payment}"
    if snapshot.ledger.charges(order.id) != [order.total_cents]:
        yield f"charged {snapshot.ledger.charges(order.id)} cents, not once {order.total_cents}"
    if snapshot.ledger.refunded(order.id):
        yield f"{snapshot.ledger.refunded(order.id)} cents were refunded"
    yield from _open_authorizations(order, snapshot)
    shipment = snapshot.shipments.get(order.id)
    if shipment is None or shipment.state not in _ON_ITS_WAY:
        yield f"its shipment is {shipment}"
    messages = snapshot.messages_of(order.id)
    if messages["order-confirmed"] != 1 or messages["order-cancelled"] != 0:
        yield f"its messages are {dict(messages)}"


def _cancelled(order: Order, snapshot: Snapshot) -> Iterator[str]:
    reservation = snapshot.reservations.get(order.id)
    if reservation is None or reservation.state not in _GIVEN_BACK:
        yield f"its reservation is {reservation}"
    payment = snapshot.payments.get(order.id)
    if payment is not None and payment.state not in {PaymentState.VOIDED, PaymentState.REFUNDED}:
        yield f"its payment is {payment}"
    charged = sum(snapshot.ledger.charges(order.id))
    if charged != snapshot.ledger.refunded(order.id):
        yield f"{charged} cents charged, {snapshot.ledger.refunded(order.id)} refunded"
    yield from _open_authorizations(order, snapshot)
    shipment = snapshot.shipments.get(order.id)
    if shipment is not None and shipment.state is not ShipmentState.CANCELLED:
        yield f"its shipment is {shipment.state}"
    messages = snapshot.messages_of(order.id)
    was_confirmed = any(moment.what == OrderState.CONFIRMED for moment in order.history)
    if messages != Counter({"order-cancelled": 1, "order-confirmed": int(was_confirmed)}):
        yield f"its messages are {dict(messages)}"


def _open_authorizations(order: Order, snapshot: Snapshot) -> Iterable[str]:
    for intent in snapshot.ledger.intents.get(order.id, ()):
        if intent["status"] == "requires_capture":
            yield f"{intent['id']} still holds {intent['amount_capturable']} cents"


_CHECKS: Mapping[OrderState, Callable[[Order, Snapshot], Iterator[str]]] = {
    OrderState.CONFIRMED: _confirmed,
    OrderState.CANCELLED: _cancelled,
}
