"""Users, as far as logging in concerns them."""

from __future__ import annotations

from typing import NamedTuple


class Account(NamedTuple):
    """A user, as `user` knows them.

    :ivar email: by which the account is found; empty for a guest's, who has proved no address.
    :ivar contact_email: where to write to; a guest's may be that of somebody else's account.
    """

    user_id: str
    email: str
    name: str
    groups: tuple[str, ...]
    password_version: int = 0
    contact_email: str = ""


class Credentials(NamedTuple):
    """An account and the hash of its password, a PHC string; empty where there is none yet."""

    account: Account
    password_hash: str
