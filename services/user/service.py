"""What the user service does."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import partial

from pydantic import ValidationError

from services.common import error_codes
from services.common.clock import now_ms
from services.common.errors import Kind, ShopError
from services.common.fields import AddressFields, normalised_email
from services.user import model
from services.user.model import GuestEmail, NewGuest, NewUser, SavedAddress, UnknownUser, User
from services.user.store import UserStore


class Users:
    """The accounts, for the other services."""

    def __init__(self, store: UserStore) -> None:
        self._store = store

    async def create(self, *, email: str, name: str, password_hash: str) -> User:
        """Opens an account.

        :raises EmailTaken: the e-mail address has one already, in whatever spelling.
        :raises ShopError: INVALID, naming the first field that is wrong.
        """
        with _named_fields():
            new = NewUser(email=email, name=name, password_hash=password_hash)
        user = model.opened(new, now_ms())
        await self._store.add(user)
        return user

    async def create_guest(self, *, email: str, name: str) -> User:
        """Opens an account for one who orders without, whoever else has that address.

        :raises ShopError: INVALID, naming the first field that is wrong.
        """
        with _named_fields():
            new = NewGuest(email=email, name=name)
        user = model.opened_for_guest(new, now_ms())
        await self._store.add(user)
        return user

    async def keep_guest(self, user_id: str, password_hash: str, email: str = "") -> User:
        """Makes a guest's account one that its owner can log in to.

        :param email: in the place of the address that the guest has given; empty for that one.
        :raises UnknownUser: there is no such account.
        :raises EmailTaken: its address has another account.
        :raises ShopError: CONFLICT, when it is no guest's; INVALID for an address that is none.
        """
        with _named_fields():
            other = GuestEmail(email=email) if email else None
        change = partial(model.kept, password_hash=password_hash, other=other)
        return await self._store.update(user_id, change)

    async def change_guest_email(self, user_id: str, email: str) -> User:
        """Changes where to write to a guest, whoever else has that address.

        :raises UnknownUser: there is no such account.
        :raises ShopError: CONFLICT, when it is no guest's; INVALID for an address that is none.
        """
        with _named_fields():
            new = GuestEmail(email=email)
        return await self._store.update(user_id, partial(model.with_guest_email, new=new))

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

    async def replace_password_hash(self, user_id: str, old: str, new: str) -> None:
        """Stores a new password hash, unless somebody else has replaced the old one already.

        :raises UnknownUser: there is no such account.
        """
        await self._store.update(user_id, partial(model.with_password_hash, old=old, new=new))

    async def change_password(self, user_id: str, old_hash: str, new_hash: str) -> User:
        """Stores the hash of another password. Sessions of the old one have ended with that.

        :raises UnknownUser: there is no such account.
        :raises ShopError: CONFLICT, when somebody else has changed it already.
        """
        change = partial(model.with_password, old_hash=old_hash, new_hash=new_hash)
        return await self._store.update(user_id, change)


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


@contextmanager
def _named_fields() -> Generator[None]:
    """Refuses what is not valid, by the name of the first field that is not."""
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ShopError(
            Kind.INVALID, "invalid-account", f"{first['loc'][0]}: {first['msg']}."
        ) from error


def _gone() -> ShopError:
    return ShopError(
        Kind.UNAUTHENTICATED,
        error_codes.ACCOUNT_GONE,
        "Please log in again: this account does not exist.",
    )
