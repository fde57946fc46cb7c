"""What the auth service does: lets people in, and keeps them in."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import NamedTuple

from services.auth.clients import Users
from services.auth.keyring import Keyring
from services.auth.model.accounts import Account, Credentials
from services.auth.model.password_rules import check_password, normalised
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
    expires_in: int


class Auth:
    """Registration, log-in, refresh and log-out."""

    def __init__(
        self,
        *,
        users: Users,
        passwords: Passwords,
        throttle: LoginThrottle,
        keyring: Keyring,
        sessions: Sessions,
        metrics: Metrics,
    ) -> None:
        self._users = users
        self._passwords = passwords
        self._throttle = throttle
        self._keyring = keyring
        self._sessions = sessions
        self._outcomes = metrics.counter(
            "authentications", "Registrations, log-ins and refreshes.", ("action", "outcome")
        )

    async def register(self, *, email: str, password: str, name: str) -> Tokens:
        """Opens an account and its first session.

        :raises ShopError: INVALID for a password that is easily guessed; CONFLICT for an e-mail
            address that has an account.
        """
        with self._counted("register"):
            check_password(normalised(password), email)
            password_hash = await self._passwords.hash(password)
            account = await self._users.create(email=email, name=name, password_hash=password_hash)
            return await self._begun(account)

    async def log_in(self, *, email: str, password: str) -> Tokens:
        """A new session for whoever knows the password.

        :raises ShopError: UNAUTHENTICATED, and in the same words and time for an unknown address;
            THROTTLED after too many attempts, whether or not the password is right.
        """
        with self._counted("log-in"):
            await self._throttle.check(email)
            credentials = await self._users.credentials(email)
            self._passwords.refuse_when_busy()
            await self._throttle.count(email)
            stands = await self._passwords.verify(
                credentials.password_hash if credentials else None, password
            )
            if credentials is None or not stands:
                await self._throttle.failed()
                raise ShopError(
                    Kind.UNAUTHENTICATED,
                    "wrong-credentials",
                    "The e-mail address or the password is wrong.",
                )
            await self._throttle.succeeded(email)
            await self._keep_hash_up_to_date(credentials, password)
            return await self._begun(credentials.account)

    async def refresh(self, refresh_token: str) -> Tokens:
        """New tokens for a session, which say what is true of the user now.

        The refresh token is used up last: when something fails before, it is still good.

        :raises ShopError: UNAUTHENTICATED, when the session has ended.
        """
        with self._counted("refresh"):
            account = await self._users.get(await self._sessions.user_of(refresh_token))
            if account is None:
                await self._sessions.end(refresh_token)
                raise ShopError(
                    Kind.UNAUTHENTICATED, "account-gone", "This account does not exist any more."
                )
            access_token = await self._keyring.access_token(account)
            successor = await self._sessions.renew(refresh_token)
            return Tokens(access_token, successor, self._keyring.access_token_seconds)

    async def log_out(self, refresh_token: str) -> None:
        """Ends a session; one that is not there has ended already."""
        await self._sessions.end(refresh_token)

    async def _begun(self, account: Account) -> Tokens:
        access_token = await self._keyring.access_token(account)
        refresh_token = await self._sessions.begin(account.user_id)
        return Tokens(access_token, refresh_token, self._keyring.access_token_seconds)

    async def _keep_hash_up_to_date(self, credentials: Credentials, password: str) -> None:
        """Hashes the password anew when the parameters have changed: now it is there in clear."""
        old = credentials.password_hash
        if not self._passwords.is_outdated(old):
            return
        user_id = credentials.account.user_id
        try:
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
