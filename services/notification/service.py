"""What the notification service does: keeps the inbox, and mails what is in it."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable

from services.common.background.jobs import for_each
from services.common.background.stall_detector import StallDetector
from services.common.backoff import any_jitter
from services.common.clock import now_ms
from services.common.documents import Page, RevisionConflict, Stored
from services.common.errors import Kind, ShopError
from services.common.observing.logs import get_logger
from services.common.observing.metrics import Metrics
from services.notification import model
from services.notification.clients import Mailer
from services.notification.model import ConfirmedAddress, MailState, Message, Notify
from services.notification.store import MessageStore

log = get_logger(__name__)

# Mail servers name the recipient, and the log does not.
_ADDRESS = re.compile(r"[^\s'\"<>(),;:]+@[^\s'\"<>(),;:]+")
_SWEEP_LIMIT = 100
_MAILS_AT_ONCE = 4
# How long nobody else takes up a mail that is being sent, in terms of the longest that takes.
_LEASE_PER_TIMEOUT = 3


class Messages:
    """The messages to all customers."""

    def __init__(
        self,
        store: MessageStore,
        mailer: Mailer,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._claims = StallDetector(_LEASE_PER_TIMEOUT * mailer.timeout_seconds, clock)
        self._store = store
        self._mailer = mailer
        self._mails = metrics.counter(
            "mails", "Mails to the mail server, by outcome.", ("outcome",)
        )

    async def notify(self, command: Notify) -> bool:
        """Puts a message into the user's inbox and queues its mail, or holds it until the user's
        address is confirmed. A repeated event changes nothing, and so does one that is about a
        mail, where none are sent.

        The link that confirms another address than the confirmed one ends that confirmation: the
        user is written to there no more.

        :returns: whether there may be a mail to send now.
        """
        facts = {**command.facts, "shop_url": self._mailer.shop_url}
        text = model.compose(command.kind, command.name, facts)
        is_mailed = self._mailer.is_configured
        if text.mail and not is_mailed:
            log.warning("mail.not_configured", event_id=command.event_id, kind=command.kind)
            return False
        message = model.queued(command, text, now_ms(), is_mailed=is_mailed)
        if model.gives_address(command.kind):
            await self._store.forget_other_address(command.user_id, command.email)
        if is_mailed and not model.may_be_mailed(message, await self._confirmed(message)):
            message = model.held(message)
        stored = await self._store.add(message)
        if stored is None:
            log.info("notification.repeated", event_id=command.event_id)
            stored = await self._store.get(command.event_id)
        elif message.is_held:
            self._mails.labels("held").inc()
        if stored is not None and stored.value.is_held:
            return await self._released_if_confirmed(stored)
        return is_mailed

    async def inbox(self, user_id: str, limit: int, cursor: str | None) -> Page[Message]:
        """The user's messages, newest first."""
        return await self._store.of_user(user_id, limit, cursor)

    async def mail_state(self, user_id: str) -> MailState:
        """Whether messages to a user are mailed."""
        if not self._mailer.is_configured:
            return MailState.OFF
        confirmed = await self._store.confirmed_address(user_id)
        return MailState.WAITING if confirmed is None else MailState.ON

    async def confirm_address(self, user_id: str, email: str) -> None:
        """Mail to the address reaches the user: from now on it is sent there, and what was held for
        less than a day is sent, too. What is older is in the inbox.
        """
        now = now_ms()
        # In this order: whoever holds a mail looks afterwards whether that is still right.
        await self._store.confirm_address(
            ConfirmedAddress(id=user_id, email=email, confirmed_ms=now)
        )
        for stored in await self._store.held(user_id, now - model.PATIENCE_MS):
            await self._release(stored)

    async def send_mails(self) -> bool:
        """Sends mails that are due; whether there may be more. Safe in several processes at once:
        each takes a message for itself first. A mail that stays taken is one of a process that
        died, and sent again.
        """
        if not self._mailer.is_configured:
            return False
        unsent = await self._store.unsent(now_ms(), model.BACKOFF.longest_ms, _SWEEP_LIMIT)
        taken = [stored for stored in unsent if stored.value.is_being_sent]
        abandoned = {
            stored.value.id
            for stored in taken
            if self._claims.has_stalled(stored.value.id, stored.revision)
        }
        self._claims.forget_others([stored.value.id for stored in taken])
        free = [
            stored
            for stored in unsent
            if not stored.value.is_being_sent or stored.value.id in abandoned
        ]
        # Processes that all went through them in one order would only race for each.
        random.shuffle(free)
        await for_each(free, self._take_and_send, _MAILS_AT_ONCE)
        return len(free) >= _SWEEP_LIMIT

    async def _take_and_send(self, stored: Stored[Message]) -> None:
        try:
            confirmed = await self._confirmed(stored.value)
            if model.may_be_mailed(stored.value, confirmed):
                claimed = model.claimed(stored.value, confirmed)
                await self._send(await self._store.save(stored, claimed))
            else:
                await self._hold(stored)
        except RevisionConflict:
            return  # another process has it

    async def _hold(self, stored: Stored[Message]) -> None:
        self._mails.labels("held").inc()
        await self._released_if_confirmed(await self._store.save(stored, model.held(stored.value)))

    async def _released_if_confirmed(self, held: Stored[Message]) -> bool:
        """Releases a mail that was just held, if the address was confirmed meanwhile: whoever did
        that may not have seen it. Returns whether it was.
        """
        if not model.may_be_mailed(held.value, await self._confirmed(held.value)):
            return False
        await self._release(held)
        return True

    async def _confirmed(self, message: Message) -> ConfirmedAddress | None:
        return await self._store.confirmed_address(message.user_id)

    async def _release(self, stored: Stored[Message]) -> None:
        try:
            await self._store.save(stored, model.released(stored.value))
        except RevisionConflict:
            return  # somebody else has released it

    async def _send(self, stored: Stored[Message]) -> None:
        message = stored.value
        try:
            await self._mailer.send(message)
        except ShopError as error:
            self._mails.labels(error.code).inc()
            log.warning(
                "mail.failed",
                event_id=message.id,
                reason=error.detail,
                cause=_ADDRESS.sub("ADDRESS", str(error.__cause__)),
            )
            await self._store.save(stored, self._failed(message, error))
            return
        self._mails.labels("sent").inc()
        await self._store.save(stored, model.mailed(message, now_ms()))

    def _failed(self, message: Message, error: ShopError) -> Message:
        if error.kind is Kind.INVALID:
            return model.unmailable(message)
        changed = model.postponed(message, now_ms(), any_jitter())
        if changed.due_ms is None:
            self._mails.labels("given-up").inc()
            log.error("mail.given_up", event_id=message.id, attempts=changed.attempts)
        return changed
