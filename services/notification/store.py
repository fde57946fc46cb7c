"""Every query of the notification service."""

from __future__ import annotations

from services.common.documents import Documents, Page, Stored
from services.notification.model import ConfirmedAddress, Message


class MessageStore:
    """The messages to all customers, and the addresses that these have confirmed."""

    def __init__(
        self, messages: Documents[Message], addresses: Documents[ConfirmedAddress]
    ) -> None:
        self._messages = messages
        self._addresses = addresses

    async def add(self, message: Message) -> Stored[Message] | None:
        """Stores a message; None when its event was there already."""
        return await self._messages.add(message)

    async def get(self, event_id: str) -> Stored[Message] | None:
        """The message of an event."""
        return await self._messages.get(event_id)

    async def of_user(self, user_id: str, limit: int, cursor: str | None) -> Page[Message]:
        """A user's messages, newest first."""
        return await self._messages.find(
            "by_user", equal=(user_id,), descending=True, limit=limit, cursor=cursor
        )

    async def held(self, user_id: str, since_ms: int) -> list[Stored[Message]]:
        """A user's messages from then on whose mails wait until an address is confirmed."""
        messages = self._messages.each("by_user", equal=(user_id,), at_least=since_ms)
        return [stored async for stored in messages if stored.value.is_held]

    async def confirmed_address(self, user_id: str) -> ConfirmedAddress | None:
        """The address that a user has confirmed."""
        stored = await self._addresses.get(user_id)
        return stored.value if stored else None

    async def confirm_address(self, address: ConfirmedAddress) -> None:
        """Replaces a user's address by a confirmed one."""

        def confirmed(known: ConfirmedAddress | None) -> ConfirmedAddress:
            return known if known and known.email == address.email else address

        await self._addresses.upsert(address.id, confirmed)

    async def forget_other_address(self, user_id: str, email: str) -> None:
        """Removes the user's confirmed address, unless it is this one."""
        await self._addresses.remove(user_id, lambda address: address.email != email)

    async def unsent(self, now_ms: int, longest_pause_ms: int, limit: int) -> list[Stored[Message]]:
        """Messages whose mail is due; see :meth:`Documents.due`."""
        return await self._messages.due("unsent", now_ms, limit, longest_pause_ms=longest_pause_ms)

    async def save(self, stored: Stored[Message], message: Message) -> Stored[Message]:
        """Writes the message, unless somebody else has since it was read (RevisionConflict)."""
        return await self._messages.replace(stored, message)
