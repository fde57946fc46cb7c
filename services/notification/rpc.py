"""The gRPC side of the notification service."""

from __future__ import annotations

from typing import Any

from services.common.background.jobs import Job
from services.notification.model import Notify
from services.notification.service import Messages
from services.pb import notification_pb2 as pb
from services.pb import notification_pb2_grpc


class NotificationRpc(notification_pb2_grpc.NotificationServiceServicer):
    """meshmart.notification.v1.NotificationService."""

    def __init__(self, messages: Messages, mail_job: Job) -> None:
        self._messages = messages
        self._mail_job = mail_job

    async def Notify(self, request: pb.NotifyRequest, context: Any) -> pb.NotifyResponse:
        command = Notify(
            event_id=request.event_id,
            user_id=request.contact.user_id,
            name=request.contact.name,
            email=request.contact.email,
            kind=request.kind,
            facts=dict(request.facts),  # protobuf's own map has a value for every key
        )
        if await self._messages.notify(command):
            self._mail_job.wake()
        return pb.NotifyResponse()

    async def ConfirmAddress(
        self, request: pb.ConfirmAddressRequest, context: Any
    ) -> pb.ConfirmAddressResponse:
        await self._messages.confirm_address(request.user_id, request.email)
        self._mail_job.wake()
        return pb.ConfirmAddressResponse()
