"""Whom the auth service calls."""

from __future__ import annotations

from services.auth.model.accounts import Account, Credentials
from services.auth.model.links import Mail
from services.common.calls.grpc_client import GrpcEdge
from services.common.documents import Event
from services.common.errors import Kind, ShopError
from services.common.notifying import Notifications, Recipient
from services.pb import notification_pb2
from services.pb import user_pb2 as pb


class Accounts:
    """user: keeps the accounts and their password hashes."""

    def __init__(self, edge: GrpcEdge) -> None:
        service = "meshmart.user.v1.UserService"
        self._create = edge.rpc(f"{service}/CreateUser", pb.CreateUserRequest, pb.User)
        self._create_guest = edge.rpc(f"{service}/CreateGuest", pb.CreateGuestRequest, pb.User)
        self._keep_guest = edge.rpc(f"{service}/KeepGuest", pb.KeepGuestRequest, pb.User)
        self._change_guest_email = edge.rpc(
            f"{service}/ChangeGuestEmail", pb.ChangeGuestEmailRequest, pb.User
        )
        self._credentials = edge.rpc(
            f"{service}/GetCredentials", pb.GetCredentialsRequest, pb.Credentials
        )
        self._replace_hash = edge.rpc(
            f"{service}/ReplacePasswordHash",
            pb.ReplacePasswordHashRequest,
            pb.ReplacePasswordHashResponse,
        )
        self._change = edge.rpc(f"{service}/ChangePassword", pb.ChangePasswordRequest, pb.User)
        self._get = edge.rpc(f"{service}/GetUser", pb.GetUserRequest, pb.User)

    async def create(self, *, email: str, name: str, password_hash: str) -> Account:
        """Opens an account. CONFLICT ("email-taken") for an address that has one."""
        request = pb.CreateUserRequest(email=email, name=name, password_hash=password_hash)
        return _account(await self._create(request))

    async def create_guest(self, *, email: str, name: str) -> Account:
        """Opens an account for one who orders without."""
        return _account(await self._create_guest(pb.CreateGuestRequest(email=email, name=name)))

    async def keep_guest(self, user_id: str, password_hash: str, email: str) -> Account:
        """Makes a guest's account one with a password. CONFLICT ("email-taken", "not-a-guest").

        :param email: to log in with; empty for the address that the guest has given.
        """
        request = pb.KeepGuestRequest(user_id=user_id, password_hash=password_hash, email=email)
        return _account(await self._keep_guest(request))

    async def change_guest_email(self, user_id: str, email: str) -> Account:
        """Changes where to write to a guest. CONFLICT ("not-a-guest")."""
        request = pb.ChangeGuestEmailRequest(user_id=user_id, email=email)
        return _account(await self._change_guest_email(request))

    async def credentials(self, email: str) -> Credentials | None:
        """The account of an e-mail address and its password hash; None for an unknown address."""
        try:
            answer = await self._credentials(pb.GetCredentialsRequest(email=email))
        except ShopError as error:
            if error.kind is Kind.NOT_FOUND:
                return None
            raise
        return Credentials(_account(answer.user), answer.password_hash)

    async def replace_password_hash(self, user_id: str, old: str, new: str) -> None:
        """Stores a new password hash, if the old one still stands."""
        request = pb.ReplacePasswordHashRequest(
            user_id=user_id, old_password_hash=old, new_password_hash=new
        )
        await self._replace_hash(request)

    async def change_password(self, user_id: str, old_hash: str, new_hash: str) -> Account:
        """Stores another password's hash. CONFLICT when the old hash no longer stands."""
        request = pb.ChangePasswordRequest(
            user_id=user_id, old_password_hash=old_hash, new_password_hash=new_hash
        )
        return _account(await self._change(request))

    async def get(self, user_id: str) -> Account | None:
        """The account as it is now; None when it is gone."""
        try:
            return _account(await self._get(pb.GetUserRequest(user_id=user_id)))
        except ShopError as error:
            if error.kind is Kind.NOT_FOUND:
                return None
            raise


class AccountNotifications(Notifications):
    """notification: mails the owners of accounts, and learns which addresses reach them."""

    def __init__(self, edge: GrpcEdge) -> None:
        super().__init__(edge)
        self._confirm = edge.rpc(
            "meshmart.notification.v1.NotificationService/ConfirmAddress",
            notification_pb2.ConfirmAddressRequest,
            notification_pb2.ConfirmAddressResponse,
        )

    async def mail(self, event_id: str, mail: Mail, account: Account, code: str) -> None:
        """Sends a mail, once per event.

        :param code: what its link bears; empty for a mail without one.
        """
        to = Recipient(user_id=account.user_id, name=account.name, email=account.contact_email)
        facts = {"code": code} if code else {}
        await self.deliver(to, Event(id=event_id, kind=mail, facts=facts))

    async def confirm_address(self, user_id: str, email: str) -> None:
        """Tells that mail to the address reaches the user."""
        await self._confirm(notification_pb2.ConfirmAddressRequest(user_id=user_id, email=email))


def _account(user: pb.User) -> Account:
    return Account(
        user_id=user.user_id,
        email=user.email,
        name=user.name,
        groups=tuple(user.groups),
        password_version=user.password_version,
        # A user service of an earlier version, during an upgrade, knows no guests.
        contact_email=user.contact_email or user.email,
    )
