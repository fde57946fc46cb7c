"""Every query of the notification service."""

from __future__ import annotations

from services.common.documents import AlreadyExists, Documents, Page, RevisionConflict, Stored
from services.notification.model import ConfirmedAddress, Message

_PAGE = 100


class MessageStore:
    """The messages to all customers, and the addresses that these have confirmed."""

    def __init__(
        self, messages: Documents[Message], addresses: Documents[ConfirmedAddress]
    ) -> None:
        self._messages = messages
        self._addresses = addresses

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

    async def held(self, user_id: str, since_ms: int) -> list[Stored[Message]]:
        """A user's messages from then on whose mails wait until an address is confirmed."""
        found: list[Stored[Message]] = []
        cursor: str | None = None
        while True:
            page = await self._messages.find(
                "by_user", equal=(user_id,), at_least=since_ms, limit=_PAGE, cursor=cursor
            )
            found += [stored for stored in page.items if stored.value.is_held]
            cursor = page.next_cursor
            if cursor is None:
                return found

    async def confirmed_address(self, user_id: str) -> ConfirmedAddress | None:
        """The address that a user has confirmed."""
        stored = await self._addresses.get(user_id)
        return stored.value if stored else None

    async def confirm_address(self, address: ConfirmedAddress) -> None:
        """Stores a confirmed address in the place of the user's earlier one."""
        while True:
            stored = await self._addresses.get(address.id)
            if stored is not None and stored.value.email == address.email:
                return
            try:
                if stored is None:
                    await self._addresses.insert(address)
                else:
                    await self._addresses.replace(stored, address)
            except (AlreadyExists, RevisionConflict):
                continue  # somebody else was faster; seldom, and the request's deadline bounds it
            return

    async def forget_other_address(self, user_id: str, email: str) -> None:
        """Removes the user's confirmed address, unless it is this one."""
        while True:
            stored = await self._addresses.get(user_id)
            if stored is None or stored.value.email == email:
                return
            try:
                await self._addresses.delete(stored)
            except RevisionConflict:
                continue  # somebody else was faster; seldom, and the request's deadline bounds it
            return

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
