"""Accounts: their document, and the rules for changing it as pure functions."""

from __future__ import annotations

import base64
import secrets
from typing import Annotated, Any, Self, TypedDict, Unpack

from pydantic import (
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)

from services.common import error_codes
from services.common.documents import Collection, Document, Index
from services.common.errors import Kind, ShopError
from services.common.fields import AddressFields, Email, OneLine
from services.common.limits import MAX_NAME_LENGTH
from services.common.validation import first_wrong

BY_EMAIL = "by_email"
USERS = Collection("users", indexes=(Index(BY_EMAIL, equal=("email",), unique=True),))

BETA = "beta"
MAX_ADDRESSES = 20

PersonName = Annotated[str, OneLine(MAX_NAME_LENGTH)]

_ID_BYTES = 15  # 120 random bits: 24 characters of Base32, without padding


class _UserCommand(Document):
    """A command that is checked.

    :raises ShopError: INVALID, by the name of the first field that is wrong.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    @model_validator(mode="wrap")
    @classmethod
    def _names_what_is_wrong(cls, values: Any, check: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return check(values)
        except ValidationError as error:
            wrong = first_wrong(error)
            detail = f"{wrong.place('The account')}: {wrong.reason}."
            raise ShopError(Kind.INVALID, "invalid-account", detail) from error


class CreateGuest(_UserCommand):
    """Opens an account for one who orders without, whoever else has that address."""

    email: Email
    name: PersonName


class CreateUser(CreateGuest):
    """Opens an account."""

    password_hash: str = Field(pattern=r"^\$argon2id\$", max_length=256, repr=False)


class ChangeGuestEmail(_UserCommand):
    """Changes where to write to a guest, whoever else has that address."""

    user_id: str
    email: Email


class KeepGuest(_UserCommand):
    """Makes a guest's account one that its owner can log in to.

    :param email: replaces the address of the guest.
    """

    user_id: str
    password_hash: str = Field(repr=False)
    email: Email | None = None


class ReplaceHash(_UserCommand):
    """Replaces an old password hash."""

    user_id: str
    old_hash: str = Field(repr=False)
    new_hash: str = Field(repr=False)


class SavedAddress(AddressFields):
    """An entry of a user's address book."""

    id: str = Field(examples=["adr_mfrggzdfmztwq2lkmfrggzdf"])


class UserChanges(TypedDict, total=False):
    email: str | None
    guest_email: str
    name: str
    password_hash: str
    password_version: int
    groups: tuple[str, ...]
    addresses: tuple[SavedAddress, ...]


class User(Document):
    """An account.

    A guest's account has no password and no `email`, by which it could be found: whoever orders
    without an account proves nothing about the address that they give. So several guests may give
    the same, and one that has an account.

    :param password_hash: a PHC string, or empty where there is no password yet; only `auth` ever
        gets to see it.
    :param password_version: how often the password was changed. A session of an earlier version has
        ended.
    """

    id: str
    email: str | None
    guest_email: str = ""
    name: str
    password_hash: str = Field(repr=False)
    created_ms: int
    password_version: int = 0
    groups: tuple[str, ...] = ()
    addresses: tuple[SavedAddress, ...] = ()

    @property
    def is_guest(self) -> bool:
        """Whether nobody can log in to it."""
        return self.email is None

    @property
    def contact_email(self) -> str:
        """Where to write to its owner."""
        return self.guest_email if self.email is None else self.email

    def changed(self, **to: Unpack[UserChanges]) -> Self:
        return self._changed(to)


class EmailTaken(ShopError):
    """Another account has that e-mail address."""

    def __init__(self) -> None:
        super().__init__(
            Kind.CONFLICT,
            error_codes.EMAIL_TAKEN,
            "There is already an account with this e-mail address.",
        )


class UnknownUser(ShopError):
    """There is no such account."""

    def __init__(self) -> None:
        super().__init__(Kind.NOT_FOUND, "unknown-user", "There is no such account.")


def opened(command: CreateUser, now_ms: int) -> User:
    """The account that a registration opens."""
    return User(id=_random_id("usr"), created_ms=now_ms, **command.model_dump())


def opened_for_guest(command: CreateGuest, now_ms: int) -> User:
    """The account of one who orders without."""
    return User(
        id=_random_id("usr"),
        email=None,
        guest_email=command.email,
        name=command.name,
        password_hash="",
        created_ms=now_ms,
    )


def kept(user: User, command: KeepGuest) -> User:
    """A guest's account with a password, found by its address from now on.

    :raises ShopError: CONFLICT, when it is no guest's.
    """
    _check_is_guest(user)
    return user.changed(
        email=command.email or user.guest_email,
        guest_email="",
        password_hash=command.password_hash,
    )


def with_guest_email(user: User, command: ChangeGuestEmail) -> User:
    """A guest's account with another address to write to.

    :raises ShopError: CONFLICT, when it is no guest's: what it is found by stays.
    """
    _check_is_guest(user)
    return user.changed(guest_email=command.email)


def with_profile(user: User, name: str | None, beta: bool | None) -> User:
    """The user with another name, in or out of the beta group; None leaves either as it is."""
    groups = user.groups
    if beta is not None:
        groups = tuple(group for group in groups if group != BETA)
        if beta:
            groups = (*groups, BETA)
    return user.changed(name=user.name if name is None else name, groups=groups)


def with_address(user: User, address: AddressFields) -> User:
    """The user with this address as the last of their address book. One that is there already only
    moves, and keeps its id.

    :raises ShopError: CONFLICT, when the address book is full.
    """
    others = tuple(known for known in user.addresses if _fields(known) != address)
    if len(others) < len(user.addresses):
        known = next(known for known in user.addresses if _fields(known) == address)
        return user.changed(addresses=(*others, known))
    if len(user.addresses) >= MAX_ADDRESSES:
        raise ShopError(
            Kind.CONFLICT,
            "too-many-addresses",
            f"An address book holds {MAX_ADDRESSES} addresses: remove one first.",
        )
    saved = SavedAddress(id=_random_id("adr"), **address.model_dump())
    return user.changed(addresses=(*user.addresses, saved))


def without_address(user: User, address_id: str) -> User:
    """The user without one of their addresses.

    :raises ShopError: NOT_FOUND, when they have none with that id.
    """
    left = tuple(address for address in user.addresses if address.id != address_id)
    if len(left) == len(user.addresses):
        raise ShopError(Kind.NOT_FOUND, "unknown-address", "You have no such address.")
    return user.changed(addresses=left)


def with_password_hash(user: User, command: ReplaceHash) -> User:
    """The user with a new hash of the same password, if the old one still stands; unchanged
    otherwise.
    """
    if user.password_hash != command.old_hash:
        return user
    return user.changed(password_hash=command.new_hash)


def with_password(user: User, command: ReplaceHash) -> User:
    """The user with another password.

    :raises ShopError: CONFLICT, when the old hash no longer stands.
    """
    if user.password_hash != command.old_hash:
        raise ShopError(
            Kind.CONFLICT,
            error_codes.PASSWORD_REPLACED,
            "The password was changed in the meantime.",
        )
    return user.changed(password_hash=command.new_hash, password_version=user.password_version + 1)


def _check_is_guest(user: User) -> None:
    if not user.is_guest:
        raise ShopError(
            Kind.CONFLICT, error_codes.NOT_A_GUEST, "This account has a password already."
        )


def _fields(saved: SavedAddress) -> AddressFields:
    return AddressFields(**saved.model_dump(exclude={"id"}))


def _random_id(prefix: str) -> str:
    return f"{prefix}_{base64.b32encode(secrets.token_bytes(_ID_BYTES)).decode().lower()}"
