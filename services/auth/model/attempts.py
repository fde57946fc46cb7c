"""Attempts to log in: their documents, and when there have been too many."""

from __future__ import annotations

import hashlib

from pydantic import BaseModel

from services.auth.model.expiry import EXPIRED
from services.auth.model.sources import Source
from services.common import error_codes
from services.common.documents import Collection
from services.common.errors import Kind, ShopError

ATTEMPTS = Collection("login_attempts", indexes=(EXPIRED,))
FAILURES = Collection("login_failures", indexes=(EXPIRED,))

FREE_ATTEMPTS = 5
ATTEMPTS_WINDOW_MS = 5 * 60_000
FIRST_PAUSE_MS = 30_000
LONGEST_PAUSE_MS = 15 * 60_000
FAILURES_WINDOW_MS = 60_000


class LoginAttempts(BaseModel, frozen=True):
    """One source's attempts to log in with one e-mail address, since the last that succeeded."""

    id: str
    count: int
    blocked_until_ms: int = 0
    expires_ms: int


class LoginFailures(BaseModel, frozen=True):
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
        doublings = min(count - FREE_ATTEMPTS, 16)
        pause_ms = min(FIRST_PAUSE_MS << doublings, LONGEST_PAUSE_MS)
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
