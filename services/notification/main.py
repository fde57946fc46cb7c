"""Wires the notification service."""

from __future__ import annotations

from services.common.serving.host import Host
from services.notification import api
from services.notification.clients import Mailer
from services.notification.model import ADDRESSES, MESSAGES, ConfirmedAddress, Message
from services.notification.rpc import NotificationRpc
from services.notification.service import Messages
from services.notification.settings import NotificationSettings
from services.notification.store import MessageStore
from services.pb import notification_pb2
from services.pb.notification_pb2_grpc import add_NotificationServiceServicer_to_server

SWEEP_SECONDS = 2.0


async def wire(host: Host) -> None:
    """Builds the service on its host."""
    store = MessageStore(
        await host.documents(MESSAGES, Message), await host.documents(ADDRESSES, ConfirmedAddress)
    )
    messages = Messages(store, Mailer(host.settings(NotificationSettings)), host.metrics)

    async def send_mails() -> None:
        if await messages.send_mails():
            mail_job.wake()

    mail_job = host.every("send mails", SWEEP_SECONDS, send_mails)
    host.serve_http(api.router, messages)
    host.serve_grpc(
        add_NotificationServiceServicer_to_server,
        NotificationRpc(messages, mail_job),
        notification_pb2.DESCRIPTOR.services_by_name["NotificationService"].full_name,
    )
