"""Wires the shipping service."""

from __future__ import annotations

from services.common.notifying import Notifications
from services.common.serving.host import Host
from services.pb import shipping_pb2
from services.pb.shipping_pb2_grpc import add_ShippingServiceServicer_to_server
from services.shipping import api
from services.shipping.model import SHIPMENTS, Shipment
from services.shipping.rpc import ShippingRpc
from services.shipping.service import Shipments
from services.shipping.settings import ShippingSettings
from services.shipping.store import ShipmentStore

SWEEP_SECONDS = 1.0


async def wire(host: Host) -> None:
    """Builds the service on its host."""
    store = ShipmentStore(await host.documents(SHIPMENTS, Shipment))
    notifications = Notifications(host.grpc("notification"))
    settings = host.settings(ShippingSettings)
    shipments = Shipments(store, notifications, settings, host.tracer, host.metrics)
    host.serve_http(api.router, shipments)
    host.serve_grpc(
        add_ShippingServiceServicer_to_server,
        ShippingRpc(shipments, host.token_verifier),
        shipping_pb2.DESCRIPTOR.services_by_name["ShippingService"].full_name,
    )
    host.every("move parcels on", SWEEP_SECONDS, shipments.move_on, callees=["notification"])
