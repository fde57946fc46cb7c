"""Attempts to log in: their documents, and when there have been too many."""

from __future__ import annotations

import hashlib

from services.auth.model.expiry import EXPIRED
from services.auth.model.sources import Source
from services.common import error_codes
from services.common.backoff import Backoff
from services.common.documents import Collection, Document
from services.common.errors import Kind, ShopError

ATTEMPTS = Collection("login_attempts", indexes=(EXPIRED,))
FAILURES = Collection("login_failures", indexes=(EXPIRED,))

FREE_ATTEMPTS = 5
ATTEMPTS_WINDOW_MS = 5 * 60_000
_BACKOFF = Backoff(first_seconds=30, longest_seconds=15 * 60)
FAILURES_WINDOW_MS = 60_000


class LoginAttempts(Document):
    """One source's attempts to log in with one e-mail address, since the last that succeeded."""

    id: str
    count: int
    blocked_until_ms: int = 0
    expires_ms: int


class LoginFailures(Document):
    """All wrong passwords that came from one network within one minute."""

    id: str
    count: int
    expires_ms: int


def attempts_id(source: Source, email: str) -> str:
    """The id of a source's attempts at an address. It hides both: people mistype their password
    there.
    """
    return "source_" + hashlib.sha256(f"{source.key}\n{email}".encode()).hexdigest()


def failures_id(network: str, now_ms: int) -> str:
    """The id of a network's failures in the current minute."""
    digest = hashlib.sha256(network.encode()).hexdigest()
    return f"minute_{now_ms // FAILURES_WINDOW_MS}_{digest}"


def attempted(
    attempts: LoginAttempts | None, source: Source, email: str, now_ms: int
) -> LoginAttempts:
    """The attempts with one more. From FREE_ATTEMPTS on, each doubles the pause before the next.

    :raises ShopError: THROTTLED during such a pause.
    """
    check_pause(attempts, now_ms)
    count = 1
    if attempts is not None and now_ms < attempts.expires_ms:
        count = attempts.count + 1
    pause_ms = 0
    if count >= FREE_ATTEMPTS:
        pause_ms = _BACKOFF.pause_ms(count - FREE_ATTEMPTS + 1)
    return LoginAttempts(
        id=attempts_id(source, email),
        count=count,
        blocked_until_ms=now_ms + pause_ms,
        expires_ms=now_ms + pause_ms + ATTEMPTS_WINDOW_MS,
    )


def check_pause(attempts: LoginAttempts | None, now_ms: int) -> None:
    """Returns when an attempt may be made.

    :raises ShopError: THROTTLED.
    """
    if attempts is not None and now_ms < attempts.blocked_until_ms:
        raise throttled((attempts.blocked_until_ms - now_ms) / 1000)


def throttled(retry_after_seconds: float) -> ShopError:
    """Too many wrong passwords."""
    return ShopError(
        Kind.THROTTLED,
        error_codes.TOO_MANY_ATTEMPTS,
        "Too many attempts to log in. Please wait a while and try again.",
        retry_after_seconds=retry_after_seconds,
    )
