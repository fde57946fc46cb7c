"""Mends what a restored store has lost: repeats the effects that an order has behind it.

Every effect of the saga is keyed by the order, so that doing it again changes nothing where it
still stands (docs/checkout.md). They are done with the services' own code on their own stores, be
the shop open or closed. Before it opens is better: then nobody else buys what was sold already.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack

from services.audit.invariants import NO_ORDER
from services.common import context
from services.common.clock import now_ms
from services.common.documents import RevisionConflict
from services.common.errors import ShopError
from services.common.notifying import Notifications
from services.common.observing.logs import get_logger
from services.common.serving.host import Host
from services.common.settings import ProcessSettings
from services.common.topology import Topology
from services.inventory.model import Reservation, Stock, merge_lines
from services.inventory.service import InventoryService
from services.inventory.store import RESERVATIONS, STOCK, ReservationStore, StockStore
from services.order import checkout
from services.order import model as orders
from services.order.model import ORDERS, Order, Step
from services.order.store import OrderStore
from services.payment.clients import Stripe
from services.payment.model import PAYMENTS, AuthorizePayment, Payment
from services.payment.service import Payments
from services.payment.settings import PaymentSettings
from services.payment.store import PaymentStore
from services.shipping import model as shipping
from services.shipping.model import SHIPMENTS, CreateShipment, Shipment
from services.shipping.service import Shipments
from services.shipping.settings import ShippingSettings
from services.shipping.store import ShipmentStore

log = get_logger(__name__)

_EFFECT_SECONDS = 30.0

# Whatever was captured was authorized; asked for again after a day, it would be so a second time.
_MONEY_FIRST = (Step.CAPTURE, Step.AUTHORIZE)


class Mending:
    """Does again what orders have behind them."""

    def __init__(
        self,
        *,
        orders: OrderStore,
        inventory: InventoryService,
        payments: Payments,
        shipments: Shipments,
        parcels: ShipmentStore,
    ) -> None:
        self._orders = orders
        self._inventory = inventory
        self._payments = payments
        self._shipments = shipments
        self._parcels = parcels
        self._effects: Mapping[Step, Callable[[Order], Awaitable[object]]] = {
            Step.RESERVE: self._reserve,
            Step.AUTHORIZE: self._authorize,
            Step.SHIP: self._ship,
            Step.CAPTURE: self._capture,
            Step.COMMIT: lambda order: inventory.commit(order.id),
            Step.DISPATCH: lambda order: shipments.dispatch(order.id),
            Step.RECALL: lambda order: shipments.cancel(order.id),
            Step.REFUND: lambda order: payments.cancel(order.id),
            Step.RELEASE: lambda order: inventory.release(order.id),
        }

    @staticmethod
    async def open(
        topology: Topology,
        process: ProcessSettings,
        stripe_settings: PaymentSettings,
        resources: AsyncExitStack,
    ) -> Mending:
        """Builds the services' own code on their stores; `resources` closes it.

        :raises ConfigurationError: naming a setting that is wrong or missing.
        """

        def host(name: str) -> Host:
            return Host(name, topology, process, resources)

        order, inventory, payment, shipping_host = map(
            host, ("order", "inventory", "payment", "shipping")
        )
        stripe = Stripe(stripe_settings, payment.call_tools)
        resources.push_async_callback(stripe.close)
        parcels = ShipmentStore(await shipping_host.documents(SHIPMENTS, Shipment))
        return Mending(
            orders=OrderStore(await order.documents(ORDERS, Order)),
            inventory=InventoryService(
                StockStore(await inventory.documents(STOCK, Stock)),
                ReservationStore(await inventory.documents(RESERVATIONS, Reservation)),
                count=lambda outcome: log.info("reservation.mended", outcome=outcome),
                count_stock_out=lambda product_id: log.info("stock.out", product_id=product_id),
            ),
            payments=Payments(
                PaymentStore(await payment.documents(PAYMENTS, Payment)), stripe, payment.metrics
            ),
            shipments=Shipments(
                parcels,
                Notifications(shipping_host.grpc("notification")),
                shipping_host.settings(ShippingSettings),
                shipping_host.tracer,
                shipping_host.metrics,
            ),
            parcels=parcels,
        )

    async def mend(self, order_id: str) -> str | None:
        """Repeats what an order has behind it. Returns what a person must look at, if anything."""
        try:
            return await self._mend(order_id)
        except RevisionConflict:
            return "it has just changed: audit it again"

    async def mend_unfinished(self) -> dict[str, str]:
        """Repeats it for all orders under way, in a shop that is closed, so that each finds on its
        way what it left behind. Returns what a person must look at, by order.
        """
        found = {
            stored.value.id: await self.mend(stored.value.id)
            for stored in await self._orders.unfinished()
        }
        return {order_id: what for order_id, what in found.items() if what is not None}

    async def _mend(self, order_id: str) -> str | None:
        stored = await self._orders.get(order_id)
        if stored is None:
            return NO_ORDER
        order = stored.value
        refusals = [await self._again(step, order) for step in _in_safe_order(order)]
        told = orders.told_again(order, now_ms())
        if told != order:
            await self._orders.save(stored, told)
        parcel = await self._parcels.get(order_id)
        if parcel is not None:
            told_parcel = shipping.told_again(parcel.value, now_ms())
            if told_parcel != parcel.value:
                await self._parcels.save(parcel, told_parcel)
        return "; ".join(filter(None, refusals)) or None

    async def _again(self, step: Step, order: Order) -> str | None:
        try:
            with context.background(_EFFECT_SECONDS):
                await self._effects[step](order)
        except ShopError as error:
            return f"{step.value} is refused: {error.detail}"
        return None

    async def _reserve(self, order: Order) -> None:
        lines = merge_lines((line.product_id, line.quantity) for line in order.lines)
        await self._inventory.reserve(order.id, lines)

    async def _authorize(self, order: Order) -> None:
        await self._payments.authorize(
            AuthorizePayment(
                order_id=order.id,
                user_id=order.user_id,
                amount_cents=order.total_cents,
                currency=order.currency,
                payment_method=order.payment_method,
            )
        )

    async def _capture(self, order: Order) -> None:
        await self._payments.capture(order.id)
        await self._authorize(order)  # it is, and learns whose it is

    async def _ship(self, order: Order) -> None:
        await self._shipments.create(
            CreateShipment(
                order_id=order.id,
                contact=order.recipient,
                address=order.address,
                weight_grams=order.weight_grams,
                service=order.shipping_service,
            )
        )


def _in_safe_order(order: Order) -> list[Step]:
    behind = checkout.steps_behind(order)
    money = [step for step in _MONEY_FIRST if step in behind][:1]
    return [*money, *(step for step in behind if step not in _MONEY_FIRST)]
