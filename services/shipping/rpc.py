"""The gRPC side of the shipping service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.common.errors import Kind, ShopError
from services.common.fields import AddressFields, checked_order_id
from services.common.identity.access_tokens import TokenVerifier
from services.common.identity.caller_dependency import require_caller
from services.common.money import Money
from services.common.notifying import Recipient
from services.pb import shared_pb2, shipping_pb2_grpc
from services.pb import shipping_pb2 as pb
from services.shipping import model
from services.shipping.model import CreateShipment, Shipment, ShipmentState
from services.shipping.service import Shipments

_STATES: Mapping[ShipmentState, pb.ShipmentState.ValueType] = {
    ShipmentState.PREPARED: pb.SHIPMENT_STATE_PREPARED,
    ShipmentState.DISPATCHED: pb.SHIPMENT_STATE_DISPATCHED,
    ShipmentState.IN_TRANSIT: pb.SHIPMENT_STATE_IN_TRANSIT,
    ShipmentState.OUT_FOR_DELIVERY: pb.SHIPMENT_STATE_OUT_FOR_DELIVERY,
    ShipmentState.DELIVERED: pb.SHIPMENT_STATE_DELIVERED,
    ShipmentState.CANCELLED: pb.SHIPMENT_STATE_CANCELLED,
}


class ShippingRpc(shipping_pb2_grpc.ShippingServiceServicer):
    """meshmart.shipping.v1.ShippingService."""

    def __init__(self, shipments: Shipments, verifier: TokenVerifier) -> None:
        self._shipments = shipments
        self._verifier = verifier

    async def GetQuotes(self, request: pb.GetQuotesRequest, context: Any) -> pb.GetQuotesResponse:
        return pb.GetQuotesResponse(
            quotes=[
                pb.Quote(
                    service=quote.service,
                    price=Money(quote.price_cents).to_message(),
                    days_min=quote.days_min,
                    days_max=quote.days_max,
                )
                for quote in model.quotes(request.country, request.weight_grams)
            ]
        )

    async def CreateShipment(self, request: pb.CreateShipmentRequest, context: Any) -> pb.Shipment:
        command = CreateShipment(
            order_id=checked_order_id(request.order_id),
            contact=Recipient(
                user_id=request.contact.user_id,
                name=request.contact.name,
                email=request.contact.email,
            ),
            address=_address(request.address),
            weight_grams=request.weight_grams,
            service=request.service,
        )
        return _message(await self._shipments.create(command))

    async def DispatchShipment(
        self, request: pb.DispatchShipmentRequest, context: Any
    ) -> pb.Shipment:
        return _message(await self._shipments.dispatch(checked_order_id(request.order_id)))

    async def CancelShipment(
        self, request: pb.CancelShipmentRequest, context: Any
    ) -> pb.CancelShipmentResponse:
        await self._shipments.cancel(checked_order_id(request.order_id))
        return pb.CancelShipmentResponse()

    async def GetShipment(self, request: pb.GetShipmentRequest, context: Any) -> pb.Shipment:
        caller = await require_caller(self._verifier)
        return _message(await self._shipments.get(caller.user_id, request.order_id))


def _address(address: shared_pb2.Address) -> AddressFields:
    try:
        return AddressFields(
            name=address.name,
            street=address.street,
            postal_code=address.postal_code,
            city=address.city,
            country=address.country,
        )
    except ValueError as error:
        raise ShopError(Kind.INVALID, "invalid-address", "The address is not complete.") from error


def _message(shipment: Shipment) -> pb.Shipment:
    return pb.Shipment(
        order_id=shipment.id,
        state=_STATES[shipment.state],
        tracking_number=shipment.tracking_number,
        service=shipment.service,
        history=[
            pb.TrackingEvent(state=_STATES[moment.state], at_ms=moment.at_ms, place=moment.place)
            for moment in shipment.history
        ],
    )
