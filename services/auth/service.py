"""What the auth service does: lets people in, and keeps them in."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import NamedTuple

from services.auth.clients import Users
from services.auth.devices import Devices
from services.auth.keyring import Keyring
from services.auth.model.accounts import Account, Credentials
from services.auth.model.password_rules import check_password, normalised
from services.auth.model.sources import Source, client_network
from services.auth.passwords import Passwords
from services.auth.sessions import Sessions
from services.auth.throttle import LoginThrottle
from services.common.errors import Kind, ShopError
from services.common.logs import get_logger
from services.common.metrics import Metrics

log = get_logger(__name__)


class Tokens(NamedTuple):
    """What a client holds of its session."""

    access_token: str
    refresh_token: str
    device_token: str
    expires_in: int


class Auth:
    """Registration, log-in, refresh and log-out."""

    def __init__(
        self,
        *,
        users: Users,
        passwords: Passwords,
        throttle: LoginThrottle,
        devices: Devices,
        keyring: Keyring,
        sessions: Sessions,
        metrics: Metrics,
    ) -> None:
        self._users = users
        self._passwords = passwords
        self._throttle = throttle
        self._devices = devices
        self._keyring = keyring
        self._sessions = sessions
        self._outcomes = metrics.counter(
            "authentications", "Registrations, log-ins and refreshes.", ("action", "outcome")
        )

    async def register(
        self, *, email: str, password: str, name: str, client_address: str
    ) -> Tokens:
        """Opens an account and its first session.

        :raises ShopError: INVALID for a password that is easily guessed; CONFLICT for an e-mail
            address that has an account; THROTTLED when many want to be let in.
        """
        with self._counted("register"):
            check_password(normalised(password), email)
            async with self._passwords.turn(Source(client_network(client_address)).line):
                password_hash = await self._passwords.hash(password)
            account = await self._users.create(email=email, name=name, password_hash=password_hash)
            return await self._begun(account)

    async def log_in(
        self, *, email: str, password: str, client_address: str, device_token: str = ""
    ) -> Tokens:
        """A new session for whoever knows the password.

        :param device_token: of an earlier session of this account, if the client has one.
        :raises ShopError: UNAUTHENTICATED, and in the same words and time for an unknown address;
            THROTTLED after too many attempts from there, whether or not the password is right.
        """
        with self._counted("log-in"):
            device = await self._devices.known(device_token, email)
            source = Source(client_network(client_address), device)
            await self._throttle.check(source, email)
            credentials = await self._users.credentials(email)
            async with self._passwords.turn(source.line):
                await self._throttle.count(source, email)
                stands = await self._passwords.verify(
                    credentials.password_hash if credentials else None, password
                )
                if credentials is None or not stands:
                    await self._throttle.failed(source)
                    raise ShopError(
                        Kind.UNAUTHENTICATED,
                        "wrong-credentials",
                        "The e-mail address or the password is wrong.",
                    )
            await self._throttle.succeeded(source, email)
            await self._keep_hash_up_to_date(credentials, password, source)
            return await self._begun(credentials.account)

    async def refresh(self, refresh_token: str) -> Tokens:
        """New tokens for a session, which say what is true of the user now.

        The refresh token is used up last: when something fails before, it is still good.

        :raises ShopError: UNAUTHENTICATED, when the session has ended.
        """
        with self._counted("refresh"):
            session = await self._sessions.of_token(refresh_token)
            account = await self._users.get(session.user_id)
            if account is None:
                await self._sessions.end(refresh_token)
                raise ShopError(
                    Kind.UNAUTHENTICATED, "account-gone", "This account does not exist any more."
                )
            access_token = await self._keyring.access_token(account)
            device_token = await self._devices.token(session.id, account.email)
            successor = await self._sessions.renew(refresh_token)
            return Tokens(access_token, successor, device_token, self._keyring.access_token_seconds)

    async def log_out(self, refresh_token: str) -> None:
        """Ends a session; one that is not there has ended already."""
        await self._sessions.end(refresh_token)

    async def _begun(self, account: Account) -> Tokens:
        access_token = await self._keyring.access_token(account)
        refresh_token = await self._sessions.begin(account.user_id)
        device_token = await self._devices.token(refresh_token.session_id, account.email)
        return Tokens(
            access_token, refresh_token.text, device_token, self._keyring.access_token_seconds
        )

    async def _keep_hash_up_to_date(
        self, credentials: Credentials, password: str, source: Source
    ) -> None:
        """Hashes the password anew when the parameters have changed: now it is there in clear."""
        old = credentials.password_hash
        if not self._passwords.is_outdated(old):
            return
        user_id = credentials.account.user_id
        try:
            async with self._passwords.turn(source.line):
                new = await self._passwords.hash(password)
            await self._users.replace_password_hash(user_id, old, new)
        except ShopError as error:  # the old hash is good, and there will be another log-in
            log.warning("password.not_rehashed", user_id=user_id, reason=error.detail)

    @contextmanager
    def _counted(self, action: str) -> Generator[None]:
        outcome = "failed"
        try:
            yield
            outcome = "ok"
        except ShopError as error:
            outcome = error.code
            raise
        finally:
            self._outcomes.labels(action, outcome).inc()
