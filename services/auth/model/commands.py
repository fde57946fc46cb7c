"""What clients ask for. Secrets stay out of what is logged of a command."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.auth.model.links import Mail
from services.auth.model.sources import Source, client_network


@dataclass(frozen=True, slots=True, kw_only=True)
class _AuthCommand:
    """A command, and where it comes from."""

    client_address: str

    @property
    def source(self) -> Source:
        """Whose failures are counted together, as long as no device is known."""
        return Source(client_network(self.client_address))


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenGuest(_AuthCommand):
    """Begins a session without an account."""

    email: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Register(OpenGuest):
    """Opens an account."""

    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepGuestAccount(_AuthCommand):
    """Gives a guest's account a password.

    :ivar email: to log in with; replaces the address of the guest.
    """

    refresh_token: str = field(repr=False)
    password: str = field(repr=False)
    email: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeGuestAddress(_AuthCommand):
    """Writes to a guest at another address from now on."""

    refresh_token: str = field(repr=False)
    email: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Authenticate(_AuthCommand):
    """Begins a session for whoever knows the password.

    :ivar device_token: of an earlier session of this account, if the client has one.
    """

    email: str
    password: str = field(repr=False)
    device_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangePassword(_AuthCommand):
    """Sets another password."""

    email: str
    password: str = field(repr=False)
    new_password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetPassword(_AuthCommand):
    """Sets a password with a mailed link."""

    code: str = field(repr=False)
    new_password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class MailLink(_AuthCommand):
    """Mails a link to the owner of an account."""

    mail: Mail
    email: str
