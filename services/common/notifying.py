"""Telling a user something, by way of the service `notification`."""

from __future__ import annotations

from services.common.calls.grpc_client import GrpcEdge
from services.common.documents import Document, Event
from services.pb import notification_pb2, shared_pb2


class Recipient(Document):
    """Whom to tell."""

    user_id: str
    name: str
    email: str

    def to_message(self) -> shared_pb2.Contact:
        """Returns the recipient as a gRPC message."""
        return shared_pb2.Contact(user_id=self.user_id, name=self.name, email=self.email)


class Notifications:
    """notification: tells users."""

    def __init__(self, edge: GrpcEdge) -> None:
        self._notify = edge.rpc(
            "meshmart.notification.v1.NotificationService/Notify",
            notification_pb2.NotifyRequest,
            notification_pb2.NotifyResponse,
        )

    async def deliver(self, to: Recipient, event: Event) -> None:
        """Hands over one event; a repeated one changes nothing."""
        await self._notify(
            notification_pb2.NotifyRequest(
                event_id=event.id, contact=to.to_message(), kind=event.kind, facts=event.facts
            )
        )
