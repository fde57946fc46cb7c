"""The HTTP API of the auth service."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr
from pydantic_core import PydanticCustomError

from services.auth.keyring import Keyring
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
from services.auth.model.links import Mail
from services.auth.service import Auth, Tokens
from services.common import context
from services.common.dependency_injection import provided
from services.common.errors import Kind
from services.common.fields import Email, NewName
from services.common.identity.access_tokens import JWKS_CACHE_SECONDS, JWKS_PATH
from services.common.limits import MAX_CODE_LENGTH, MAX_PASSWORD_LENGTH, MIN_PASSWORD_LENGTH
from services.common.protocols.problem import documented


def _is_text(secret: SecretStr) -> SecretStr:
    # JSON can spell half a surrogate pair, which no encoding can hold; pydantic lets it pass here.
    try:
        secret.get_secret_value().encode()
    except UnicodeEncodeError as error:
        raise PydanticCustomError("text", "Input should be valid text") from error
    return secret


_Secret = Annotated[SecretStr, AfterValidator(_is_text)]
_NewPassword = Annotated[
    _Secret,
    Field(
        min_length=MIN_PASSWORD_LENGTH,
        max_length=MAX_PASSWORD_LENGTH,
        description="Any characters; only what is guessed first is refused.",
        examples=["correct horse battery"],
    ),
]
_Code = Annotated[
    _Secret,
    Field(
        min_length=1,
        max_length=MAX_CODE_LENGTH,
        description="What the mailed link bears behind its #.",
        examples=["Nn3zPr0eG1oJ6QmIYQ2Yc5vYkq2r8i1mD5b0Hc3xS7E"],
    ),
]


class Registration(BaseModel):
    """A new account."""

    model_config = ConfigDict(extra="forbid")

    email: Email
    password: _NewPassword
    name: NewName = Field(examples=["Ada Lovelace"])


class Guest(BaseModel):
    """Somebody who orders without an account."""

    model_config = ConfigDict(extra="forbid")

    email: Email
    name: NewName = Field(examples=["Ada Lovelace"])


class LogIn(BaseModel):
    """What proves who somebody is."""

    model_config = ConfigDict(extra="forbid")

    email: Email
    password: _Secret = Field(
        min_length=1, max_length=MAX_PASSWORD_LENGTH, examples=["correct horse battery"]
    )
    device_token: SecretStr = Field(
        default=SecretStr(""),
        description="That of an earlier session of this account: it is not kept waiting for "
        "failures elsewhere. One that is not good is ignored.",
    )


class PasswordChange(LogIn):
    """What proves who somebody is, and what will prove it from now on."""

    new_password: _NewPassword


class Addressee(BaseModel):
    """Whom to mail a link."""

    model_config = ConfigDict(extra="forbid")

    email: Email


class LinkCode(BaseModel):
    """What proves that somebody gets an address' mail."""

    model_config = ConfigDict(extra="forbid")

    code: _Code


class PasswordReset(LinkCode):
    """The same, and the password to set."""

    new_password: _NewPassword


class RefreshTokenBody(BaseModel):
    """The refresh token of a session."""

    model_config = ConfigDict(extra="forbid")

    refresh_token: _Secret = Field(
        min_length=1,
        max_length=200,
        examples=["ses_mfrggzdfmztwq2lkmfrggzdf.Nn3zPr0eG1oJ6QmIYQ2Yc5vYkq2r8i1mD5b0Hc3xS7E"],
    )


class KeptGuest(RefreshTokenBody):
    """A guest's session, and the password that the account is to have."""

    email: Email | None = Field(
        default=None, description="To log in with, if not the address that the guest has given."
    )
    password: _Secret = Field(
        min_length=MIN_PASSWORD_LENGTH,
        max_length=MAX_PASSWORD_LENGTH,
        description="Any characters; only what is guessed first is refused.",
        examples=["correct horse battery"],
    )


class GuestEmail(RefreshTokenBody):
    """A guest's session, and where to write to them from now on."""

    email: Email


class TokensView(BaseModel):
    """A session's tokens. Send the access token as ``Authorization: Bearer …``."""

    access_token: str = Field(description="A JWT (RFC 7519), signed ES256.")
    refresh_token: str = Field(description="Works once: each refresh answers with the next one.")
    device_token: str = Field(
        description="For the next log-in from here; good for a year. Empty for a guest."
    )
    token_type: str = Field(default="Bearer", examples=["Bearer"])
    expires_in: int = Field(description="Seconds until the access token expires.", examples=[900])


class PublicKey(BaseModel):
    """A key that verifies access tokens (RFC 7517, RFC 7518 §6.2)."""

    kty: str = Field(examples=["EC"])
    crv: str = Field(examples=["P-256"])
    x: str
    y: str
    kid: str = Field(description="The key's thumbprint (RFC 7638).")
    use: str = Field(examples=["sig"])
    alg: str = Field(examples=["ES256"])


class PublicKeys(BaseModel):
    """A JWK Set."""

    keys: list[PublicKey]


_Auth = Annotated[Auth, provided(Auth)]
_Keyring = Annotated[Keyring, provided(Keyring)]

router = APIRouter(tags=["auth"])


@router.post(
    "/api/auth/register",
    status_code=201,
    operation_id="register",
    summary="Open an account",
    response_model=TokensView,
    responses=documented(Kind.CONFLICT),
)
async def register(body: Registration, auth: _Auth, response: Response) -> TokensView:
    command = Register(
        email=body.email,
        password=body.password.get_secret_value(),
        name=body.name,
        client_address=context.current().client_address,
    )
    return _view(await auth.register(command), response)


@router.post(
    "/api/auth/guest",
    status_code=201,
    operation_id="open_guest",
    summary="Begin a session without an account, to order as a guest",
    response_model=TokensView,
    responses=documented(),
)
async def open_guest(body: Guest, auth: _Auth, response: Response) -> TokensView:
    command = OpenGuest(
        email=body.email, name=body.name, client_address=context.current().client_address
    )
    return _view(await auth.open_guest(command), response)


@router.post(
    "/api/auth/guest/keep",
    operation_id="keep_guest",
    summary="Set a password, to keep a guest's account",
    response_model=TokensView,
    responses=documented(Kind.UNAUTHENTICATED, Kind.CONFLICT),
)
async def keep_guest(body: KeptGuest, auth: _Auth, response: Response) -> TokensView:
    command = KeepGuestAccount(
        refresh_token=body.refresh_token.get_secret_value(),
        password=body.password.get_secret_value(),
        client_address=context.current().client_address,
        email=body.email or "",
    )
    return _view(await auth.keep_guest(command), response)


@router.post(
    "/api/auth/guest/address",
    status_code=204,
    operation_id="change_guest_email",
    summary="Change a guest's e-mail address; a link to confirm it is mailed",
    response_model=None,
    responses=documented(Kind.UNAUTHENTICATED, Kind.CONFLICT),
)
async def change_guest_email(body: GuestEmail, auth: _Auth) -> None:
    command = ChangeGuestAddress(
        refresh_token=body.refresh_token.get_secret_value(),
        email=body.email,
        client_address=context.current().client_address,
    )
    await auth.change_guest_email(command)


@router.post(
    "/api/auth/guest/address/mail",
    status_code=202,
    operation_id="mail_guest_link",
    summary="Mail a guest the link to confirm the address again",
    response_model=None,
    responses=documented(Kind.UNAUTHENTICATED, Kind.CONFLICT),
)
async def mail_guest_link(body: RefreshTokenBody, auth: _Auth) -> None:
    await auth.mail_guest_link(
        body.refresh_token.get_secret_value(), client_address=context.current().client_address
    )


@router.post(
    "/api/auth/login",
    operation_id="log_in",
    summary="Log in",
    response_model=TokensView,
    responses=documented(Kind.UNAUTHENTICATED),
)
async def log_in(body: LogIn, auth: _Auth, response: Response) -> TokensView:
    command = Authenticate(
        email=body.email,
        password=body.password.get_secret_value(),
        client_address=context.current().client_address,
        device_token=body.device_token.get_secret_value(),
    )
    return _view(await auth.log_in(command), response)


@router.post(
    "/api/auth/refresh",
    operation_id="refresh",
    summary="Get new tokens for a session",
    response_model=TokensView,
    responses=documented(Kind.UNAUTHENTICATED),
)
async def refresh(body: RefreshTokenBody, auth: _Auth, response: Response) -> TokensView:
    return _view(await auth.refresh(body.refresh_token.get_secret_value()), response)


@router.post(
    "/api/auth/logout",
    status_code=204,
    operation_id="log_out",
    summary="Log out",
    response_model=None,
    responses=documented(),
)
async def log_out(body: RefreshTokenBody, auth: _Auth) -> None:
    await auth.log_out(body.refresh_token.get_secret_value())


@router.post(
    "/api/auth/password",
    operation_id="change_password",
    summary="Change the password; all other sessions end",
    response_model=TokensView,
    responses=documented(Kind.UNAUTHENTICATED, Kind.CONFLICT),
)
async def change_password(body: PasswordChange, auth: _Auth, response: Response) -> TokensView:
    command = ChangePassword(
        email=body.email,
        password=body.password.get_secret_value(),
        new_password=body.new_password.get_secret_value(),
        client_address=context.current().client_address,
    )
    return _view(await auth.change_password(command), response)


@router.post(
    "/api/auth/password/mail",
    status_code=202,
    operation_id="mail_password_link",
    summary="Mail a link to set a password; the answer is the same without an account",
    response_model=None,
    responses=documented(),
)
async def mail_password_link(body: Addressee, auth: _Auth) -> None:
    await _mail_link(auth, Mail.SET_PASSWORD, body)


@router.post(
    "/api/auth/password/reset",
    status_code=204,
    operation_id="reset_password",
    summary="Set a password with a mailed link; all sessions end",
    response_model=None,
    responses=documented(Kind.CONFLICT),
)
async def reset_password(body: PasswordReset, auth: _Auth) -> None:
    command = ResetPassword(
        code=body.code.get_secret_value(),
        new_password=body.new_password.get_secret_value(),
        client_address=context.current().client_address,
    )
    await auth.reset_password(command)


@router.post(
    "/api/auth/address/mail",
    status_code=202,
    operation_id="mail_address_link",
    summary="Mail a link to confirm an address; the answer is the same without an account",
    response_model=None,
    responses=documented(),
)
async def mail_address_link(body: Addressee, auth: _Auth) -> None:
    await _mail_link(auth, Mail.CONFIRM_ADDRESS, body)


@router.post(
    "/api/auth/address/confirm",
    status_code=204,
    operation_id="confirm_address",
    summary="Confirm an address with a mailed link",
    response_model=None,
    responses=documented(),
)
async def confirm_address(body: LinkCode, auth: _Auth) -> None:
    await auth.confirm_address(body.code.get_secret_value())


@router.get(
    JWKS_PATH,
    operation_id="public_keys",
    summary="The keys that verify access tokens",
    response_model=PublicKeys,
    responses=documented(),
)
async def public_keys(keyring: _Keyring, response: Response) -> PublicKeys:
    response.headers["cache-control"] = f"public, max-age={JWKS_CACHE_SECONDS:.0f}"
    return PublicKeys(keys=[PublicKey(**key) for key in await keyring.public_keys()])


async def _mail_link(auth: Auth, mail: Mail, body: Addressee) -> None:
    await auth.mail_link(
        MailLink(mail=mail, email=body.email, client_address=context.current().client_address)
    )


def _view(tokens: Tokens, response: Response) -> TokensView:
    response.headers["cache-control"] = "no-store"  # RFC 6749 §5.1
    return TokensView(**tokens._asdict())
