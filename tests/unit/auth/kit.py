"""Processes of the auth service on one database, with a clock that the test turns."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from services.auth.clients import AccountNotifications, Accounts
from services.auth.devices import Devices
from services.auth.keyring import Keyring
from services.auth.links import Limits, Links
from services.auth.model.accounts import Account, Credentials
from services.auth.model.attempts import ATTEMPTS, FAILURES, LoginAttempts, LoginFailures
from services.auth.model.devices import DEVICE_KEYS, DeviceKey
from services.auth.model.keys import KEYS, KeyPolicy, SigningKey
from services.auth.model.links import (
    LINKS,
    MAIL_COUNTS,
    MAIL_REQUESTS,
    MAIL_TIMES,
    Link,
    Mail,
    MailCount,
    MailRequest,
    MailTimes,
)
from services.auth.model.sessions import SESSIONS, Session
from services.auth.passwords import Passwords
from services.auth.service import Auth
from services.auth.sessions import Sessions
from services.auth.settings import AuthSettings
from services.auth.store import (
    AttemptStore,
    DeviceKeyStore,
    KeyStore,
    LinkStore,
    SessionStore,
)
from services.auth.throttle import LoginThrottle
from services.common.documents import Documents, open_store
from services.common.errors import Kind, ShopError
from services.common.identity.access_tokens import TokenVerifier
from services.common.observing.metrics import Metrics

# The cheapest that Argon2 can do: what a hash costs is of no interest here.
SETTINGS = AuthSettings(password_hash_memory_kib=1024, password_hash_iterations=1)
POLICY = KeyPolicy(rotation_ms=86_400_000, publish_ms=1_800_000, access_token_ms=900_000)

EMAIL = "ada@example.com"
PASSWORD = "correct horse battery"
# Clients in networks of their own (RFC 5737).
HOME, ELSEWHERE = "192.0.2.1", "198.51.100.1"


class ManualWallClock:
    """The time in milliseconds, which passes only when the test says so."""

    def __init__(self, ago_seconds: float = 0) -> None:
        self.now_ms = int((time.time() - ago_seconds) * 1000)

    def __call__(self) -> int:
        return self.now_ms

    def pass_seconds(self, seconds: float) -> None:
        """Lets time pass."""
        self.now_ms += round(seconds * 1000)


class MemoryUsers(Accounts):
    """The user service as far as auth asks it, in memory."""

    def __init__(self) -> None:
        self.accounts: dict[str, Credentials] = {}
        self.guests: dict[str, Account] = {}
        self.is_down = False

    async def create(self, *, email: str, name: str, password_hash: str) -> Account:
        self._answer()
        if email in self.accounts:
            raise ShopError(Kind.CONFLICT, "email-taken", "There is one.")
        account = Account(f"usr_{len(self.accounts)}", email, name, (), contact_email=email)
        self.accounts[email] = Credentials(account, password_hash)
        return account

    async def create_guest(self, *, email: str, name: str) -> Account:
        self._answer()
        account = Account(f"usr_guest_{len(self.guests)}", "", name, (), contact_email=email)
        self.guests[account.user_id] = account
        return account

    async def keep_guest(self, user_id: str, password_hash: str, email: str) -> Account:
        self._answer()
        if user_id not in self.guests:
            raise ShopError(Kind.CONFLICT, "not-a-guest", "It has a password.")
        guest = self.guests[user_id]
        email = email or guest.contact_email
        if email in self.accounts:
            raise ShopError(Kind.CONFLICT, "email-taken", "There is one.")
        del self.guests[user_id]
        account = guest._replace(email=email, contact_email=email)
        self.accounts[account.email] = Credentials(account, password_hash)
        return account

    async def change_guest_email(self, user_id: str, email: str) -> Account:
        self._answer()
        if user_id not in self.guests:
            raise ShopError(Kind.CONFLICT, "not-a-guest", "It has a password.")
        self.guests[user_id] = self.guests[user_id]._replace(contact_email=email)
        return self.guests[user_id]

    async def credentials(self, email: str) -> Credentials | None:
        self._answer()
        return self.accounts.get(email)

    async def replace_password_hash(self, user_id: str, old: str, new: str) -> None:
        self._answer()
        for email, (account, password_hash) in self.accounts.items():
            if account.user_id == user_id and password_hash == old:
                self.accounts[email] = Credentials(account, new)

    async def change_password(self, user_id: str, old_hash: str, new_hash: str) -> Account:
        self._answer()
        for email, (account, password_hash) in self.accounts.items():
            if account.user_id == user_id and password_hash == old_hash:
                changed = account._replace(password_version=account.password_version + 1)
                self.accounts[email] = Credentials(changed, new_hash)
                return changed
        raise ShopError(Kind.CONFLICT, "password-replaced", "It was changed.")

    async def get(self, user_id: str) -> Account | None:
        self._answer()
        for account, _ in self.accounts.values():
            if account.user_id == user_id:
                return account
        return self.guests.get(user_id)

    def change(self, email: str, **changes: Any) -> None:
        """What the user service would do on its own API."""
        account, password_hash = self.accounts[email]
        self.accounts[email] = Credentials(account._replace(**changes), password_hash)

    def _answer(self) -> None:
        if self.is_down:
            raise ShopError(Kind.UNAVAILABLE, "user-unavailable", "user cannot be reached.")


class SentMail(NamedTuple):
    """A mail as the notification service is asked for it."""

    mail: Mail
    email: str
    code: str


class MemoryNotifications(AccountNotifications):
    """The notification service as far as auth asks it, in memory."""

    def __init__(self) -> None:
        self.by_event: dict[str, SentMail] = {}
        self.confirmed: dict[str, str] = {}
        self.error: ShopError | None = None

    async def mail(self, event_id: str, mail: Mail, account: Account, code: str) -> None:
        self._answer()
        self.by_event.setdefault(event_id, SentMail(mail, account.contact_email, code))

    async def confirm_address(self, user_id: str, email: str) -> None:
        self._answer()
        self.confirmed[user_id] = email

    def mails(self, mail: Mail) -> list[SentMail]:
        """The mails of a kind, oldest first."""
        return [sent for sent in self.by_event.values() if sent.mail is mail]

    def _answer(self) -> None:
        if self.error is not None:
            raise self.error


@dataclass(frozen=True, slots=True)
class AuthProcess:
    """One process of the auth service."""

    auth: Auth
    keyring: Keyring
    sessions: Sessions
    throttle: LoginThrottle
    passwords: Passwords
    links: Links

    def verifier(self) -> TokenVerifier:
        """Another service, which has not yet fetched this process' keys."""

        async def fetch_keys() -> Any:
            return {"keys": await self.keyring.public_keys()}

        return TokenVerifier(fetch_keys)


@dataclass(frozen=True, slots=True)
class AuthHarness:
    """What the processes share."""

    data: Path
    clock: ManualWallClock = field(default_factory=ManualWallClock)
    users: MemoryUsers = field(default_factory=MemoryUsers)
    notifications: MemoryNotifications = field(default_factory=MemoryNotifications)

    @asynccontextmanager
    async def process(
        self, settings: AuthSettings = SETTINGS, policy: KeyPolicy = POLICY
    ) -> AsyncGenerator[AuthProcess]:
        """One more process."""
        store = open_store(f"sqlite:///{self.data}", "auth")
        passwords = Passwords(settings)
        try:
            keyring = Keyring(
                KeyStore(await Documents.open(store, KEYS, SigningKey)), policy, self.clock
            )
            sessions = Sessions(
                SessionStore(await Documents.open(store, SESSIONS, Session)),
                settings.refresh_token_seconds,
                self.clock,
            )
            attempts = AttemptStore(
                await Documents.open(store, ATTEMPTS, LoginAttempts),
                await Documents.open(store, FAILURES, LoginFailures),
            )
            throttle = LoginThrottle(attempts, settings.login_failures_per_minute, self.clock)
            device_keys = DeviceKeyStore(await Documents.open(store, DEVICE_KEYS, DeviceKey))
            links = Links(
                LinkStore(
                    await Documents.open(store, LINKS, Link),
                    await Documents.open(store, MAIL_REQUESTS, MailRequest),
                    await Documents.open(store, MAIL_TIMES, MailTimes),
                    await Documents.open(store, MAIL_COUNTS, MailCount),
                ),
                self.users,
                self.notifications,
                Limits(settings.network_link_mails_per_hour, settings.link_mails_per_minute),
                self.clock,
            )
            auth = Auth(
                users=self.users,
                notifications=self.notifications,
                passwords=passwords,
                throttle=throttle,
                devices=Devices(device_keys, self.clock),
                keyring=keyring,
                sessions=sessions,
                links=links,
                metrics=Metrics(),
            )
            yield AuthProcess(auth, keyring, sessions, throttle, passwords, links)
        finally:
            await passwords.close()
            await store.close()
