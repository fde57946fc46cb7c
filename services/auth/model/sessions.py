"""Sessions: their document, and the rules of refresh tokens as pure functions."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from enum import StrEnum
from typing import NamedTuple, Self, TypedDict, Unpack

from services.auth.model.expiry import EXPIRED
from services.common.documents import Collection, Document

SESSIONS = Collection("sessions", indexes=(EXPIRED,))

# Within this time a replaced token gets its successor once more: for requests that were sent at the
# same time, and for an answer that got lost.
REPEAT_GRACE_MS = 10_000

_SECRET_BYTES = 32
_REFRESH_TOKEN = re.compile(r"(ses_[a-z2-7]{24})\.([A-Za-z0-9_-]{43})")


class RefreshToken(NamedTuple):
    """A session's id, and the secret that changes with each use."""

    session_id: str
    secret: str

    @property
    def text(self) -> str:
        """The token as clients hold it; opaque to them."""
        return f"{self.session_id}.{self.secret}"

    @property
    def digest(self) -> str:
        """What is stored of it. 256 random bits need no slow hash."""
        return hashlib.sha256(self.secret.encode()).hexdigest()

    @classmethod
    def parse(cls, text: str) -> RefreshToken | None:
        """The token that a client sent; None when it cannot be one."""
        found = _REFRESH_TOKEN.fullmatch(text)
        return cls(found[1], found[2]) if found else None


class SessionChanges(TypedDict, total=False):
    token_hash: str
    previous_hash: str
    salt: str
    renewed_ms: int
    expires_ms: int


class Session(Document):
    """One log-in and its chain of refresh tokens. Only the last is good (RFC 9700 §4.14.2).

    The next token is the HMAC of the present one with a salt that stays here: so it can be given
    once more to whoever shows its predecessor, though neither token is stored, and neither can be
    had from the other or from the salt.

    :param password_version: the account's when the session began: with its password it ends.
    """

    id: str
    user_id: str
    password_version: int = 0
    token_hash: str
    previous_hash: str = ""
    salt: str = ""
    renewed_ms: int
    expires_ms: int

    def changed(self, **to: Unpack[SessionChanges]) -> Self:
        return self._changed(to)


class TokenUse(StrEnum):
    """What it means that a refresh token is shown."""

    CURRENT = "current"
    REPEATED = "repeated"
    REUSED = "reused"
    EXPIRED = "expired"


def new_session(
    user_id: str, password_version: int, now_ms: int, lifetime_ms: int
) -> tuple[Session, RefreshToken]:
    """A session and its first token."""
    session_id = "ses_" + base64.b32encode(secrets.token_bytes(15)).decode().lower()
    token = RefreshToken(session_id, secrets.token_urlsafe(_SECRET_BYTES))
    session = Session(
        id=session_id,
        user_id=user_id,
        password_version=password_version,
        token_hash=token.digest,
        renewed_ms=now_ms,
        expires_ms=now_ms + lifetime_ms,
    )
    return session, token


def use_of(session: Session, token: RefreshToken, now_ms: int) -> TokenUse:
    """Tells the rightful use of a token from that of a token that somebody else may have, too.

    A secret that was never the session's counts as reused: who knows the session's id has seen one
    of its tokens.
    """
    if session.expires_ms <= now_ms:
        return TokenUse.EXPIRED
    if hmac.compare_digest(token.digest, session.token_hash):
        return TokenUse.CURRENT
    is_previous = hmac.compare_digest(token.digest, session.previous_hash)
    if is_previous and now_ms - session.renewed_ms <= REPEAT_GRACE_MS:
        return TokenUse.REPEATED
    return TokenUse.REUSED


def renewed(session: Session, token: RefreshToken, now_ms: int, lifetime_ms: int) -> Session:
    """The session after the use of its current token."""
    salted = session.changed(salt=secrets.token_hex(_SECRET_BYTES))
    return salted.changed(
        token_hash=successor(salted, token).digest,
        previous_hash=token.digest,
        renewed_ms=now_ms,
        expires_ms=now_ms + lifetime_ms,
    )


def successor(session: Session, token: RefreshToken) -> RefreshToken:
    """The token that has replaced the session's previous one.

    :param token: the previous one.
    """
    mac = hmac.digest(token.secret.encode(), session.salt.encode(), hashlib.sha256)
    return RefreshToken(session.id, base64.urlsafe_b64encode(mac).rstrip(b"=").decode())
