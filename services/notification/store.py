"""Every query of the notification service."""

from __future__ import annotations

from services.common.documents import AlreadyExists, Documents, Page, Stored
from services.notification.model import Message


class MessageStore:
    """The messages to all customers."""

    def __init__(self, messages: Documents[Message]) -> None:
        self._messages = messages

    async def add(self, message: Message) -> bool:
        """Stores a message; False when its event was there already."""
        try:
            await self._messages.insert(message)
        except AlreadyExists:
            return False
        return True

    async def of_user(self, user_id: str, limit: int, cursor: str | None) -> Page[Message]:
        """A user's messages, newest first."""
        return await self._messages.find(
            "by_user", equal=(user_id,), descending=True, limit=limit, cursor=cursor
        )

    async def unsent(self, now_ms: int, longest_pause_ms: int, limit: int) -> list[Stored[Message]]:
        """Messages whose mail is due, longest overdue first. One that is due after more than the
        longest pause was written by a wrong clock, or is read by one: it is due, too.
        """
        due = await self._messages.find("unsent", below=now_ms + 1, limit=limit)
        far = await self._messages.find(
            "unsent", at_least=now_ms + longest_pause_ms + 1, limit=limit
        )
        return due.items + far.items

    async def save(self, stored: Stored[Message], message: Message) -> Stored[Message]:
        """Writes the message, unless somebody else has since it was read (RevisionConflict)."""
        return await self._messages.replace(stored, message)
