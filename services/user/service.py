"""What the user service does."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from services.common import error_codes
from services.common.clock import now_ms
from services.common.errors import Kind, ShopError
from services.common.fields import AddressFields, normalised_email
from services.user import model
from services.user.model import (
    ChangeGuestEmail,
    CreateGuest,
    CreateUser,
    KeepGuest,
    ReplaceHash,
    SavedAddress,
    UnknownUser,
    User,
)
from services.user.store import UserStore


class Users:
    """The accounts, for the other services."""

    def __init__(self, store: UserStore) -> None:
        self._store = store

    async def create(self, command: CreateUser) -> User:
        """Opens an account.

        :raises EmailTaken: the e-mail address has one already, in whatever spelling.
        """
        user = model.opened(command, now_ms())
        await self._store.add(user)
        return user

    async def create_guest(self, command: CreateGuest) -> User:
        """Opens an account for one who orders without."""
        user = model.opened_for_guest(command, now_ms())
        await self._store.add(user)
        return user

    async def keep_guest(self, command: KeepGuest) -> User:
        """Makes a guest's account one that its owner can log in to.

        :raises UnknownUser: there is no such account.
        :raises EmailTaken: its address has another account.
        :raises ShopError: CONFLICT, when it is no guest's.
        """
        return await self._store.update(command.user_id, partial(model.kept, command=command))

    async def change_guest_email(self, command: ChangeGuestEmail) -> User:
        """Changes where to write to a guest.

        :raises UnknownUser: there is no such account.
        :raises ShopError: CONFLICT, when it is no guest's.
        """
        change = partial(model.with_guest_email, command=command)
        return await self._store.update(command.user_id, change)

    async def get(self, user_id: str) -> User:
        """One account.

        :raises UnknownUser: there is none.
        """
        return await self._store.get(user_id)

    async def by_email(self, email: str) -> User:
        """The account with an e-mail address, in whatever spelling.

        :raises UnknownUser: there is none.
        """
        try:
            spelled = normalised_email(email)
        except ValueError as error:
            raise UnknownUser from error
        return await self._store.by_email(spelled)

    async def replace_password_hash(self, command: ReplaceHash) -> None:
        """Stores a new hash of the same password, unless the old one was replaced already.

        :raises UnknownUser: there is no such account.
        """
        change = partial(model.with_password_hash, command=command)
        await self._store.update(command.user_id, change)

    async def change_password(self, command: ReplaceHash) -> User:
        """Stores the hash of another password. Sessions of the old one have ended with that.

        :raises UnknownUser: there is no such account.
        :raises ShopError: CONFLICT, when somebody else has changed it already.
        """
        change = partial(model.with_password, command=command)
        return await self._store.update(command.user_id, change)


class OwnAccount:
    """Each user's own account: every method takes the user whose account it may touch.

    All of them raise UNAUTHENTICATED for a user who is no longer there: a token outlives the
    account that it was issued for.
    """

    def __init__(self, store: UserStore) -> None:
        self._store = store

    async def show(self, user_id: str) -> User:
        """The account."""
        try:
            return await self._store.get(user_id)
        except UnknownUser as error:
            raise _gone() from error

    async def change(self, user_id: str, *, name: str | None, beta: bool | None) -> User:
        """Changes what is not None: the name, and whether the user is in the beta group."""
        return await self._update(user_id, partial(model.with_profile, name=name, beta=beta))

    async def addresses(self, user_id: str) -> Sequence[SavedAddress]:
        """The address book; the address that was given last is the last."""
        return (await self.show(user_id)).addresses

    async def add_address(self, user_id: str, address: AddressFields) -> SavedAddress:
        """Adds to the address book, unless it is there already.

        :raises ShopError: CONFLICT, when it is full.
        """
        user = await self._update(user_id, partial(model.with_address, address=address))
        return user.addresses[-1]

    async def remove_address(self, user_id: str, address_id: str) -> None:
        """Removes from the address book.

        :raises ShopError: NOT_FOUND, when it is not in there.
        """
        await self._update(user_id, partial(model.without_address, address_id=address_id))

    async def _update(self, user_id: str, change: partial[User]) -> User:
        try:
            return await self._store.update(user_id, change)
        except UnknownUser as error:
            raise _gone() from error


def _gone() -> ShopError:
    return ShopError(
        Kind.UNAUTHENTICATED,
        error_codes.ACCOUNT_GONE,
        "Please log in again: this account does not exist.",
    )
