"""A run in which everything went as it must, for tests of the checker."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from services.audit.snapshot import Ledger, LedgerIntent, LedgerRefund, Snapshot
from services.common.documents import Event
from services.common.errors import Kind, ShopError
from services.common.fields import AddressFields
from services.inventory.model import Reservation, ReservationState, Stock
from services.notification.model import Message
from services.order import checkout
from services.order import model as orders
from services.order.model import Order, Step
from services.payment.model import Payment, PaymentState
from services.shipping import model as shipping
from services.shipping.model import Shipment
from tests.chaos.checker import Evidence
from tests.chaos.checkout import Behaviour, Checkout, initial_stock
from tests.chaos.history import NO_ANSWER, Action, CheckoutHistory, History, Op
from tests.chaos.mails import Mail
from tests.testkit.customer import ADDRESS

_NOW_MS = 1_700_000_000_000
_STEP_MS = 1000
_SHIPPING_CENTS = 495


class ValidRun:
    """Books, history and mails of a number of checkouts; tests change what they like."""

    def __init__(self, checkouts: int, seed: str = "world") -> None:
        self.history = History(seed)
        self.orders: dict[str, Order] = {}
        self.reservations: dict[str, Reservation] = {}
        self.payments: dict[str, Payment] = {}
        self.shipments: dict[str, Shipment] = {}
        self.messages: dict[str, Message] = {}
        self.intents: defaultdict[str, list[LedgerIntent]] = defaultdict(list)
        self.refunds: dict[str, list[LedgerRefund]] = {}
        self.mails: set[Mail] = set()
        self.initial_stock = initial_stock(checkouts)
        self._sold: Counter[str] = Counter()
        for number in range(checkouts):
            self._live(Checkout.of(seed, number), f"usr_{number % 8}")
        self.stock = {
            product_id: Stock(
                id=product_id,
                available=began - self._sold[product_id],
                sold=self._sold[product_id],
            )
            for product_id, began in self.initial_stock.items()
        }

    def evidence(self) -> Evidence:
        """All of it."""
        snapshot = Snapshot(
            orders=self.orders,
            stock=self.stock,
            reservations=self.reservations,
            payments=self.payments,
            shipments=self.shipments,
            messages=self.messages,
            ledger=Ledger(self.intents, self.refunds),
        )
        return Evidence(snapshot, self.history, self.initial_stock, self.mails)

    def order_that(self, ended: str) -> Order:
        """The first order with that outcome: ``confirmed`` or the code of a reason."""
        return next(
            order
            for order in self.orders.values()
            if (order.reason.code if order.reason else order.state) == ended
        )

    def order_of(self, behaviour: Behaviour) -> Order:
        """The first confirmed order whose customer is like that."""
        return next(
            self.orders[one.order_id]
            for one in self.history
            if self.history.checkout_of(one).behaviour is behaviour
            and one.order_id in self.orders
            and self.orders[one.order_id].state is orders.OrderState.CONFIRMED
        )

    def _live(self, checkout: Checkout, user_id: str) -> None:
        own = self.history.begin(checkout, user_id)
        if checkout.behaviour is Behaviour.IMPATIENT:
            own.ops.append(Op(Action.PLACE, 0.0, 0.1, NO_ANSWER, reason="TimeoutError"))
        if not checkout.is_possible:
            own.ops.append(Op(Action.PLACE, 1.0, 2.0, 422, reason="unknown-product"))
            return
        order = _placed(checkout, own)
        if checkout.decline_code is not None:
            order = _refused(order, Step.AUTHORIZE, Kind.DECLINED, checkout.decline_code)
            own.ops.append(_refusal(order, 402))
            self._give_back(order, ReservationState.RELEASED)
            self._pay(order, PaymentState.VOIDED, "requires_payment_method")
        elif self._is_sold_out(checkout):
            order = _refused(order, Step.RESERVE, Kind.CONFLICT, "out-of-stock")
            own.ops.append(_refusal(order, 409))
            self._give_back(order, ReservationState.REFUSED)
        else:
            order = _until_settled(order)
            own.ops += [_view(Action.PLACE, 1.0, 201, order)]
            order = self._follow_up(order, checkout, own)
        self._tell(order.events, order)
        while order.events:
            order = orders.delivered(order)
        self.orders[order.id] = order

    def _is_sold_out(self, checkout: Checkout) -> bool:
        return any(
            self._sold[product_id] + quantity > self.initial_stock[product_id]
            for product_id, quantity in checkout.items.items()
        )

    def _follow_up(self, order: Order, checkout: Checkout, own: CheckoutHistory) -> Order:
        """What happens to a confirmed order."""
        shipment = shipping.dispatched(_parcel(order), _NOW_MS, _STEP_MS)
        if checkout.behaviour in {Behaviour.CANCELS, Behaviour.CANCELS_TWICE}:
            order = _until_settled(orders.cancelled_by_customer(order, _NOW_MS))
            own.ops.append(_view(Action.CANCEL, 3.0, 200, order))
            self._give_back(order, ReservationState.RETURNED)
            intent = self._pay(order, PaymentState.REFUNDED, "succeeded")
            self.refunds[intent.id] = [LedgerRefund(f"re_{order.id}", order.total_cents)]
            self.shipments[order.id] = shipping.cancelled(shipment, _NOW_MS)
            return order
        match checkout.behaviour:
            case Behaviour.REUSES_KEY:
                own.ops.append(
                    Op(Action.PLACE_OTHER, 3.0, 4.0, 422, reason="idempotency-key-reused")
                )
            case Behaviour.LOOKS:
                own.ops.append(_view(Action.LOOK, 3.0, 200, order))
            case _:
                pass
        self._sold.update(checkout.items)
        self._give_back(order, ReservationState.SOLD)
        self._pay(order, PaymentState.CAPTURED, "succeeded")
        while shipment.moves_ms is not None:
            shipment = shipping.advanced(shipment, shipment.moves_ms, _STEP_MS)
        self._tell(shipment.events, order)
        while shipment.events:
            shipment = shipping.delivered(shipment, _NOW_MS)
        self.shipments[order.id] = shipment
        return order

    def _give_back(self, order: Order, state: ReservationState) -> None:
        self.reservations[order.id] = Reservation(id=order.id, state=state)

    def _pay(self, order: Order, state: PaymentState, status: str) -> LedgerIntent:
        received = order.total_cents if status == "succeeded" else 0
        intent = LedgerIntent(f"pi_{order.id}", status, order.total_cents, 0, received)
        self.intents[order.id].append(intent)
        self.payments[order.id] = Payment(
            id=order.id,
            user_id=order.user_id,
            amount_cents=order.total_cents,
            currency=order.currency,
            payment_method=order.payment_method,
            state=state,
            created_ms=_NOW_MS,
            intent_id=intent.id,
        )
        return intent

    def _tell(self, events: Iterable[Event], order: Order) -> None:
        for event in events:
            self.messages[event.id] = Message(
                id=event.id,
                user_id=order.user_id,
                name=order.contact.name,
                email=order.contact.email,
                kind=event.kind,
                order_id=order.id,
                subject="",
                text="",
                created_ms=_NOW_MS,
            )
            self.mails.add(Mail(order.id, event.kind, order.contact.email, f"<{event.id}@shop>"))


def _placed(checkout: Checkout, own: CheckoutHistory) -> Order:
    return Order(
        id=own.order_id,
        user_id=own.user_id,
        fingerprint="",
        contact=orders.Contact(name="Ada", email=f"{own.user_id}@example.com"),
        address=AddressFields.model_validate(ADDRESS),
        lines=tuple(
            orders.Line(
                product_id=product_id,
                name=product_id,
                quantity=quantity,
                unit_price_cents=1000,
                weight_grams=500,
            )
            for product_id, quantity in checkout.items.items()
        ),
        shipping_service="standard",
        shipping_cents=_SHIPPING_CENTS,
        currency="EUR",
        payment_method=checkout.payment_method,
        created_ms=_NOW_MS,
        open_since_ms=_NOW_MS,
        history=(orders.Moment(at_ms=_NOW_MS, what="placed"),),
    )


def _parcel(order: Order) -> Shipment:
    return Shipment(
        id=order.id,
        contact=order.recipient,
        address=order.address,
        weight_grams=order.weight_grams,
        service=order.shipping_service,
        state=shipping.ShipmentState.PREPARED,
        history=(),
    )


def _refused(order: Order, step: Step, kind: Kind, code: str) -> Order:
    while order.step is not step:
        order = checkout.succeeded(order, _NOW_MS)
    error = ShopError(kind, code, f"{code}.")
    verdict = checkout.verdict(order, error, may_wait=True)
    settled = _until_settled(checkout.failed(order, error, verdict, _NOW_MS))
    return orders.answered(settled, _NOW_MS)


def _until_settled(order: Order) -> Order:
    while not order.is_settled:
        order = checkout.succeeded(order, _NOW_MS)
    return order


def _view(action: Action, sent_seconds: float, status: int, order: Order) -> Op:
    """An answer that shows the order."""
    return Op(
        action,
        sent_seconds,
        sent_seconds + 1.0,
        status,
        order_id=order.id,
        state=order.state,
        reason=order.reason.code if order.reason else None,
        total_cents=order.total_cents,
    )


def _refusal(order: Order, status: int) -> Op:
    """The problem that a cancelled checkout is answered with."""
    assert order.reason is not None
    return Op(Action.PLACE, 1.0, 2.0, status, order_id=order.id, reason=order.reason.code)
