"""Every query of the user service."""

from __future__ import annotations

from collections.abc import Callable

from services.common.documents import AlreadyExists, Documents
from services.user.model import BY_EMAIL, EmailTaken, UnknownUser, User


class UserStore:
    """The accounts."""

    def __init__(self, users: Documents[User]) -> None:
        self._users = users

    async def add(self, user: User) -> None:
        """Stores a new account.

        :raises EmailTaken: another one has its e-mail address.
        """
        if await self._users.add(user) is None:
            raise EmailTaken

    async def get(self, user_id: str) -> User:
        """One account.

        :raises UnknownUser: there is none.
        """
        stored = await self._users.get(user_id)
        if stored is None:
            raise UnknownUser
        return stored.value

    async def by_email(self, email: str) -> User:
        """The account with a normalised e-mail address.

        :raises UnknownUser: there is none.
        """
        page = await self._users.find(BY_EMAIL, equal=(email,), limit=1)
        if not page.items:
            raise UnknownUser
        return page.items[0].value

    async def update(self, user_id: str, change: Callable[[User], User]) -> User:
        """Changes an account as it is now; see :meth:`Documents.update`.

        :raises UnknownUser: there is no such account.
        :raises EmailTaken: another one has the e-mail address that it would be found by.
        """
        try:
            updated = await self._users.update(user_id, change)
        except AlreadyExists as error:
            raise EmailTaken from error
        if updated is None:
            raise UnknownUser
        return updated.stored.value
