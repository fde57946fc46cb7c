"""Whom the shipping service calls."""

from __future__ import annotations

from services.common.calls.grpc_client import GrpcEdge
from services.common.documents import Event
from services.pb import notification_pb2, shared_pb2
from services.shipping.model import Shipment


class Notifications:
    """notification: tells the customer."""

    def __init__(self, edge: GrpcEdge) -> None:
        self._notify = edge.rpc(
            "meshmart.notification.v1.NotificationService/Notify",
            notification_pb2.NotifyRequest,
            notification_pb2.NotifyResponse,
        )

    async def deliver(self, shipment: Shipment, event: Event) -> None:
        """Hands over one event; a repeated one changes nothing."""
        await self._notify(
            notification_pb2.NotifyRequest(
                event_id=event.id,
                contact=shared_pb2.Contact(**shipment.contact.model_dump()),
                kind=event.kind,
                facts=event.facts,
            )
        )
