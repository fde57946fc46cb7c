"""What the auth service does: lets people in, and keeps them in."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import NamedTuple

from services.auth.clients import AccountNotifications, Accounts
from services.auth.devices import Devices
from services.auth.keyring import Keyring
from services.auth.links import Links
from services.auth.model.accounts import Account, Credentials
from services.auth.model.commands import (
    Authenticate,
    ChangeGuestAddress,
    ChangePassword,
    KeepGuestAccount,
    MailLink,
    OpenGuest,
    Register,
    ResetPassword,
)
from services.auth.model.links import Mail, link_over
from services.auth.model.password_rules import check_difference, check_password, normalised
from services.auth.model.sources import Source, client_network
from services.auth.passwords import Passwords
from services.auth.sessions import Sessions, not_good
from services.auth.throttle import LoginThrottle
from services.common import error_codes
from services.common.errors import Kind, ShopError
from services.common.observing.logs import get_logger
from services.common.observing.metrics import Metrics

log = get_logger(__name__)


class Tokens(NamedTuple):
    """What a client holds of its session."""

    access_token: str
    refresh_token: str
    device_token: str
    expires_in: int


class Auth:
    """Registration, log-in, refresh and log-out; passwords that change, addresses that are
    confirmed.
    """

    def __init__(
        self,
        *,
        users: Accounts,
        notifications: AccountNotifications,
        passwords: Passwords,
        throttle: LoginThrottle,
        devices: Devices,
        keyring: Keyring,
        sessions: Sessions,
        links: Links,
        metrics: Metrics,
    ) -> None:
        self._users = users
        self._notifications = notifications
        self._passwords = passwords
        self._throttle = throttle
        self._devices = devices
        self._keyring = keyring
        self._sessions = sessions
        self._links = links
        self._outcomes = metrics.counter(
            "authentications",
            "Registrations, log-ins, refreshes, passwords.",
            ("action", "outcome"),
        )

    async def register(self, command: Register) -> Tokens:
        """Opens an account and its first session. A link to confirm the address is mailed.

        :raises ShopError: INVALID for a password that is easily guessed; CONFLICT for an e-mail
            address that has an account; THROTTLED when many want to be let in.
        """
        with self._counted("register"):
            email, name = command.email, command.name
            check_password(normalised(command.password), email=email, name=name)
            async with self._passwords.turn(command.source.line):
                password_hash = await self._passwords.hash(command.password)
            account = await self._users.create(email=email, name=name, password_hash=password_hash)
            await self._ask_to_confirm(account, command.source)
            return await self._begun(account)

    async def open_guest(self, command: OpenGuest) -> Tokens:
        """A session for one who orders without an account. The address may be anybody's: neither is
        an account that has it touched, nor does the answer say whether there is one. A link to
        confirm it is mailed.
        """
        with self._counted("guest"):
            account = await self._users.create_guest(email=command.email, name=command.name)
            await self._ask_to_confirm(account, command.source)
            return await self._begun(account)

    async def keep_guest(self, command: KeepGuestAccount) -> Tokens:
        """Sets the password of a guest's account, and replaces the guest's session. A link to
        confirm another address than the guest's is mailed.

        :raises ShopError: UNAUTHENTICATED, when the session has ended; INVALID for a password that
            is easily guessed; CONFLICT for an account that has a password, or an address that has
            another account; THROTTLED when many want to be let in.
        """
        with self._counted("keep-guest"):
            account = await self._account_of(command.refresh_token)
            email = command.email or account.contact_email
            check_password(normalised(command.password), email=email, name=account.name)
            async with self._passwords.turn(command.source.line):
                password_hash = await self._passwords.hash(command.password)
            kept = await self._users.keep_guest(account.user_id, password_hash, command.email)
            if kept.email != account.contact_email:
                await self._ask_to_confirm(kept, command.source)
            tokens = await self._begun(kept)
            await self._sessions.end(command.refresh_token)
            return tokens

    async def mail_guest_link(self, refresh_token: str, *, client_address: str) -> None:
        """Mails a guest once more the link that confirms the address which they gave.

        :raises ShopError: UNAUTHENTICATED, when the session has ended; CONFLICT for an account that
            has a password; THROTTLED after too many mails.
        """
        account = await self._guest_of(refresh_token)
        await self._links.request(
            Mail.CONFIRM_ADDRESS,
            account.contact_email,
            client_network(client_address),
            user_id=account.user_id,
        )

    async def change_guest_email(self, command: ChangeGuestAddress) -> None:
        """Writes to a guest at another address from now on, as far as they confirm it: a link for
        that is mailed. Nothing happens for the address that they have given already.

        :raises ShopError: UNAUTHENTICATED, when the session has ended; CONFLICT for an account that
            has a password.
        """
        account = await self._guest_of(command.refresh_token)
        if account.contact_email != command.email:
            changed = await self._users.change_guest_email(account.user_id, command.email)
            await self._ask_to_confirm(changed, command.source)

    async def log_in(self, command: Authenticate) -> Tokens:
        """A new session for whoever knows the password.

        :raises ShopError: UNAUTHENTICATED, and in the same words and time for an unknown address;
            THROTTLED after too many attempts from there, whether or not the password is right.
        """
        with self._counted("log-in"):
            device = await self._devices.known(command.device_token, command.email)
            source = command.source._replace(device=device)
            credentials = await self._proven(command.email, command.password, source)
            await self._keep_hash_up_to_date(credentials, command.password, source)
            return await self._begun(credentials.account)

    async def change_password(self, command: ChangePassword) -> Tokens:
        """Another password, and a new session: all others have ended.

        :raises ShopError: as :meth:`log_in` does; INVALID for the password that it has, or one that
            is easily guessed; CONFLICT when somebody else changes it at the same time.
        """
        with self._counted("change-password"):
            credentials = await self._proven(command.email, command.password, command.source)
            check_difference(normalised(command.new_password), normalised(command.password))
            return await self._begun(
                await self._with_password(credentials, command.new_password, command.source)
            )

    async def mail_link(self, command: MailLink) -> None:
        """Mails a link to the owner of an account. The answer, and when it comes, say nothing about
        whether there is one.

        :raises ShopError: THROTTLED after too many of them.
        """
        await self._links.request(command.mail, command.email, command.source.network)

    async def confirm_address(self, code: str) -> None:
        """Whoever has the code gets the address' mail.

        :raises ShopError: INVALID for a code that is not good (any more).
        """
        link = await self._links.find(Mail.CONFIRM_ADDRESS, code)
        account = await self._users.get(link.user_id)
        if account is None or account.contact_email != link.email:
            raise link_over()  # a guest has given another one since: this may be a stranger's
        await self._notifications.confirm_address(link.user_id, link.email)
        await self._links.use_up(link)

    async def reset_password(self, command: ResetPassword) -> None:
        """Sets a password for whoever gets the account's mail, the first one too. All sessions have
        ended, and all other links of the kind.

        It is the new password that ends the link: when something fails before, it is still good.

        :raises ShopError: INVALID for a code that is not good (any more), or for a password that is
            easily guessed.
        """
        with self._counted("reset-password"):
            link = await self._links.find(Mail.SET_PASSWORD, command.code)
            credentials = await self._users.credentials(link.email)
            if (
                credentials is None
                or credentials.account.user_id != link.user_id
                or credentials.account.password_version != link.password_version
            ):
                raise link_over()
            await self._notifications.confirm_address(link.user_id, link.email)
            await self._with_password(credentials, command.new_password, command.source)
            await self._throttle.succeeded(command.source, link.email)
            await self._links.use_up(link)

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
                raise _account_gone()
            if account.password_version != session.password_version:
                await self._sessions.end(refresh_token)
                raise not_good()
            access_token = await self._keyring.access_token(account)
            device_token = await self._device_token(session.id, account)
            successor = await self._sessions.renew(refresh_token)
            return Tokens(access_token, successor, device_token, self._keyring.access_token_seconds)

    async def log_out(self, refresh_token: str) -> None:
        """Ends a session; one that is not there has ended already."""
        await self._sessions.end(refresh_token)

    async def _account_of(self, refresh_token: str) -> Account:
        """Whose session that is.

        :raises ShopError: UNAUTHENTICATED, when it has ended, or the account is gone.
        """
        session = await self._sessions.of_token(refresh_token)
        account = await self._users.get(session.user_id)
        if account is None:
            raise _account_gone()
        return account

    async def _guest_of(self, refresh_token: str) -> Account:
        """The same for a guest.

        :raises ShopError: CONFLICT for an account that has a password.
        """
        account = await self._account_of(refresh_token)
        if account.email:
            raise ShopError(
                Kind.CONFLICT, error_codes.NOT_A_GUEST, "This account has a password already."
            )
        return account

    async def _begun(self, account: Account) -> Tokens:
        access_token = await self._keyring.access_token(account)
        refresh_token = await self._sessions.begin(account)
        device_token = await self._device_token(refresh_token.session_id, account)
        return Tokens(
            access_token, refresh_token.text, device_token, self._keyring.access_token_seconds
        )

    async def _proven(self, email: str, password: str, source: Source) -> Credentials:
        """The account of whoever knows its password.

        :raises ShopError: UNAUTHENTICATED, THROTTLED, as :meth:`log_in` says.
        """
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
        return credentials

    async def _with_password(
        self, credentials: Credentials, new_password: str, source: Source
    ) -> Account:
        """The account with another password, of which its owner is told."""
        account = credentials.account
        check_password(normalised(new_password), email=account.email, name=account.name)
        async with self._passwords.turn(source.line):
            new_hash = await self._passwords.hash(new_password)
        changed = await self._users.change_password(
            account.user_id, credentials.password_hash, new_hash
        )
        event_id = f"password:{changed.user_id}:{changed.password_version}"
        await self._links.tell(Mail.PASSWORD_CHANGED, changed.email, event_id)
        return changed

    async def _ask_to_confirm(self, account: Account, source: Source) -> None:
        guest_id = "" if account.email else account.user_id
        try:
            await self._links.request(
                Mail.CONFIRM_ADDRESS, account.contact_email, source.network, user_id=guest_id
            )
        except ShopError as error:  # the account is there, and its owner can ask for the link
            log.warning("link.not_requested", user_id=account.user_id, reason=error.detail)

    async def _device_token(self, session_id: str, account: Account) -> str:
        """Empty for a guest: the browser may keep that of an account."""
        return await self._devices.token(session_id, account.email) if account.email else ""

    async def _keep_hash_up_to_date(
        self, credentials: Credentials, password: str, source: Source
    ) -> None:
        """Hashes the password again when the parameters have changed: now it is there in clear."""
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


def _account_gone() -> ShopError:
    return ShopError(
        Kind.UNAUTHENTICATED, error_codes.ACCOUNT_GONE, "This account does not exist any more."
    )
