"""Wires the order service."""

from __future__ import annotations

from services.common.notifying import Notifications
from services.common.serving.host import Host
from services.order import api
from services.order.checkout import Callees
from services.order.clients import Buyers, Inventory, PaymentGateway, Products, Shipping
from services.order.model import ORDERS, Order
from services.order.refunds import Refunds
from services.order.saga import Saga
from services.order.service import Orders
from services.order.settings import OrderSettings
from services.order.store import OrderStore

SWEEP_SECONDS = 1.0
REFUNDS_SECONDS = 5.0


async def wire(host: Host) -> None:
    """Builds the service on its host."""
    settings = host.settings(OrderSettings)
    store = OrderStore(await host.documents(ORDERS, Order))
    shipping = Shipping(host.grpc("shipping"))
    payments = PaymentGateway(host.grpc("payment"))
    saga = Saga(
        store,
        callees=Callees(Inventory(host.grpc("inventory")), payments, shipping),
        notifications=Notifications(host.grpc("notification")),
        settings=settings,
        owner=host.process.instance,
        tracer=host.tracer,
        metrics=host.metrics,
    )
    orders = Orders(
        store,
        saga,
        users=Buyers(host.grpc("user")),
        products=Products(host.grpc("product")),
        shipping=shipping,
        settings=settings,
    )
    host.serve_http(api.router, orders)
    host.every(
        "sweep orders",
        SWEEP_SECONDS,
        saga.sweep,
        callees=["inventory", "payment", "shipping", "notification"],
    )
    refunds = Refunds(store, payments)
    host.every("look at refunds", REFUNDS_SECONDS, refunds.run, callees=["payment"])
    host.on_close(saga.stop)
