"""What the notification service does: keeps the inbox, and mails what is in it."""

from __future__ import annotations

from collections.abc import Mapping

from services.common.clock import now_ms
from services.common.documents import Page, RevisionConflict, Stored
from services.common.errors import Kind, ShopError
from services.common.logs import get_logger
from services.common.metrics import Metrics
from services.notification import model
from services.notification.clients import Mailer
from services.notification.model import Message
from services.notification.store import MessageStore

log = get_logger(__name__)

_SWEEP_LIMIT = 100
# Nobody else takes a message up while its mail is being sent.
_SENDING_MS = 60_000


class Messages:
    """The messages to all customers."""

    def __init__(self, store: MessageStore, mailer: Mailer, metrics: Metrics) -> None:
        self._store = store
        self._mailer = mailer
        self._mails = metrics.counter(
            "mails", "Mails handed to the mail server, by outcome.", ("outcome",)
        )

    async def notify(
        self,
        *,
        event_id: str,
        user_id: str,
        name: str,
        email: str,
        kind: str,
        facts: Mapping[str, str],
    ) -> None:
        """Puts a message into the user's inbox and queues its mail. A repeated event changes
        nothing.
        """
        text = model.compose(kind, name, facts)
        at_ms = now_ms()
        message = Message(
            id=event_id,
            user_id=user_id,
            name=name,
            email=email,
            kind=kind,
            order_id=facts.get("order_id", ""),
            subject=text.subject,
            text=text.body,
            created_ms=at_ms,
            due_ms=at_ms if self._mailer.is_configured else None,
        )
        if not await self._store.add(message):
            log.info("notification.repeated", event_id=event_id)

    async def inbox(self, user_id: str, limit: int, cursor: str | None) -> Page[Message]:
        """The user's messages, newest first."""
        return await self._store.of_user(user_id, limit, cursor)

    async def send_mails(self) -> None:
        """Sends the mails that are due. Safe in several processes at once: each takes a message for
        itself first.
        """
        if not self._mailer.is_configured:
            return
        for stored in await self._store.unsent(now_ms(), _SWEEP_LIMIT):
            try:
                claim = stored.value.model_copy(update={"due_ms": now_ms() + _SENDING_MS})
                await self._send(await self._store.save(stored, claim))
            except RevisionConflict:
                continue  # another process has it

    async def _send(self, stored: Stored[Message]) -> None:
        message = stored.value
        try:
            await self._mailer.send(message)
        except ShopError as error:
            self._mails.labels(error.code).inc()
            log.warning(
                "mail.failed", event_id=message.id, reason=error.detail, cause=str(error.__cause__)
            )
            refused = error.kind is Kind.INVALID
            changed = model.unmailable(message) if refused else model.postponed(message, now_ms())
            await self._store.save(stored, changed)
            return
        self._mails.labels("sent").inc()
        await self._store.save(stored, model.mailed(message, now_ms()))
