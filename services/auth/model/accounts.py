"""Users, as far as logging in concerns them."""

from __future__ import annotations

from typing import NamedTuple


class Account(NamedTuple):
    """A user, as `user` knows them."""

    user_id: str
    email: str
    name: str
    groups: tuple[str, ...]
    password_version: int = 0


class Credentials(NamedTuple):
    """An account and the hash of its password, a PHC string; empty where there is none yet."""

    account: Account
    password_hash: str
