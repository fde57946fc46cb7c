"""The services that order calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from services.common.calls.grpc_client import GrpcEdge
from services.common.money import Money
from services.order.model import Contact, Order, RefundStatus
from services.pb import (
    inventory_pb2,
    payment_pb2,
    product_pb2,
    shared_pb2,
    shipping_pb2,
    user_pb2,
)


class PricedProduct(NamedTuple):
    """What a product costs and weighs now."""

    name: str
    price_cents: int
    currency: str
    weight_grams: int


class Buyers:
    """user: who buys."""

    def __init__(self, edge: GrpcEdge) -> None:
        self._get = edge.rpc(
            "meshmart.user.v1.UserService/GetUser", user_pb2.GetUserRequest, user_pb2.User
        )

    async def contact(self, user_id: str) -> Contact:
        """The user's name and e-mail address as they are now."""
        user = await self._get(user_pb2.GetUserRequest(user_id=user_id))
        # A user service of an earlier version, during an upgrade, knows no guests.
        return Contact(name=user.name, email=user.contact_email or user.email)


class Products:
    """product: what things cost."""

    def __init__(self, edge: GrpcEdge) -> None:
        self._get = edge.rpc(
            "meshmart.product.v1.ProductService/GetProducts",
            product_pb2.GetProductsRequest,
            product_pb2.GetProductsResponse,
        )

    async def priced(self, product_ids: Sequence[str]) -> dict[str, PricedProduct]:
        """The products by id. NOT_FOUND names the first unknown one."""
        response = await self._get(product_pb2.GetProductsRequest(product_ids=product_ids))
        return {
            product.product_id: PricedProduct(
                product.name, product.price.cents, product.price.currency, product.weight_grams
            )
            for product in response.products
        }


class Inventory:
    """inventory: holds the stock of an order, sells it, gives it back."""

    def __init__(self, edge: GrpcEdge) -> None:
        service = "meshmart.inventory.v1.InventoryService"
        self._reserve = edge.rpc(
            f"{service}/Reserve", inventory_pb2.ReserveRequest, inventory_pb2.ReserveResponse
        )
        self._commit = edge.rpc(
            f"{service}/Commit", inventory_pb2.CommitRequest, inventory_pb2.CommitResponse
        )
        self._release = edge.rpc(
            f"{service}/Release", inventory_pb2.ReleaseRequest, inventory_pb2.ReleaseResponse
        )

    async def reserve(self, order: Order) -> None:
        """Holds all lines, or none (CONFLICT)."""
        lines = [
            shared_pb2.Line(product_id=line.product_id, quantity=line.quantity)
            for line in order.lines
        ]
        await self._reserve(inventory_pb2.ReserveRequest(order_id=order.id, lines=lines))

    async def commit(self, order: Order) -> None:
        """Sells what is held."""
        await self._commit(inventory_pb2.CommitRequest(order_id=order.id))

    async def release(self, order: Order) -> None:
        """Gives back what is held or was sold."""
        await self._release(inventory_pb2.ReleaseRequest(order_id=order.id))


_REFUNDS = {
    payment_pb2.PAYMENT_STATE_REFUNDED: RefundStatus.PAID,
    payment_pb2.PAYMENT_STATE_DISPUTED: RefundStatus.DISPUTED,
    payment_pb2.PAYMENT_STATE_REFUND_FAILED: RefundStatus.FAILED,
}


class PaymentGateway:
    """payment: authorizes, captures, and undoes either."""

    def __init__(self, edge: GrpcEdge) -> None:
        service = "meshmart.payment.v1.PaymentService"
        self._authorize = edge.rpc(
            f"{service}/Authorize", payment_pb2.AuthorizeRequest, payment_pb2.Payment
        )
        self._capture = edge.rpc(
            f"{service}/Capture", payment_pb2.CaptureRequest, payment_pb2.Payment
        )
        self._cancel = edge.rpc(f"{service}/Cancel", payment_pb2.CancelRequest, payment_pb2.Payment)

    async def authorize(self, order: Order) -> None:
        """Sets the total aside on the customer's card. DECLINED with the card's reason."""
        await self._authorize(
            payment_pb2.AuthorizeRequest(
                order_id=order.id,
                user_id=order.user_id,
                amount=Money(order.total_cents, order.currency).to_message(),
                payment_method=order.payment_method,
            )
        )

    async def capture(self, order: Order) -> None:
        """Charges what was set aside."""
        await self._capture(payment_pb2.CaptureRequest(order_id=order.id))

    async def cancel(self, order: Order) -> RefundStatus:
        """Voids or refunds, whichever is needed. Asked again, it tells what has become of that."""
        payment = await self._cancel(payment_pb2.CancelRequest(order_id=order.id))
        return _REFUNDS.get(payment.state, RefundStatus.NONE)


class Shipping:
    """shipping: prepares the parcel, sends it, stops it."""

    def __init__(self, edge: GrpcEdge) -> None:
        service = "meshmart.shipping.v1.ShippingService"
        self._quotes = edge.rpc(
            f"{service}/GetQuotes", shipping_pb2.GetQuotesRequest, shipping_pb2.GetQuotesResponse
        )
        self._create = edge.rpc(
            f"{service}/CreateShipment", shipping_pb2.CreateShipmentRequest, shipping_pb2.Shipment
        )
        self._dispatch = edge.rpc(
            f"{service}/DispatchShipment",
            shipping_pb2.DispatchShipmentRequest,
            shipping_pb2.Shipment,
        )
        self._cancel = edge.rpc(
            f"{service}/CancelShipment",
            shipping_pb2.CancelShipmentRequest,
            shipping_pb2.CancelShipmentResponse,
        )

    async def quotes_cents(self, country: str, weight_grams: int) -> dict[str, int]:
        """What each service costs, in cents."""
        response = await self._quotes(
            shipping_pb2.GetQuotesRequest(country=country, weight_grams=weight_grams)
        )
        return {quote.service: quote.price.cents for quote in response.quotes}

    async def prepare(self, order: Order) -> None:
        """Creates the shipment, which waits for its dispatch."""
        address = shared_pb2.Address(**order.address.model_dump())
        await self._create(
            shipping_pb2.CreateShipmentRequest(
                order_id=order.id,
                contact=order.recipient.to_message(),
                address=address,
                weight_grams=order.weight_grams,
                service=order.shipping_service,
            )
        )

    async def dispatch(self, order: Order) -> None:
        """Hands the shipment to the carrier."""
        await self._dispatch(shipping_pb2.DispatchShipmentRequest(order_id=order.id))

    async def recall(self, order: Order) -> None:
        """Stops the shipment. CONFLICT when the carrier has it already."""
        await self._cancel(shipping_pb2.CancelShipmentRequest(order_id=order.id))
