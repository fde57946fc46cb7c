"""Links that are mailed, once they are asked for: their documents and their limits."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from enum import StrEnum

from services.auth.model.accounts import Account
from services.auth.model.expiry import EXPIRED
from services.common.documents import Collection, Document
from services.common.errors import Kind, ShopError

LINKS = Collection("links", indexes=(EXPIRED,))
MAIL_REQUESTS = Collection("mail_requests", indexes=(EXPIRED,))
MAIL_TIMES = Collection("mail_times", indexes=(EXPIRED,))
MAIL_COUNTS = Collection("mail_counts", indexes=(EXPIRED,))

MAILS_PER_ADDRESS = 5
HOUR_MS = 3_600_000
MINUTE_MS = 60_000

_SECRET_BYTES = 32


class Mail(StrEnum):
    """What auth has mailed; the values are the kinds that `notification` knows."""

    CONFIRM_ADDRESS = "confirm-address"
    SET_PASSWORD = "set-password"  # noqa: S105  no password
    PASSWORD_CHANGED = "password-changed"  # noqa: S105  no password


# A link to set a password opens the account; one that confirms an address opens nothing. A mail
# without a link is worth sending for a day.
LIFETIME_MS: Mapping[Mail, int] = {
    Mail.CONFIRM_ADDRESS: 3 * 86_400_000,
    Mail.SET_PASSWORD: 30 * 60_000,
    Mail.PASSWORD_CHANGED: 86_400_000,
}


class MailRequest(Document):
    """A mail that somebody has asked for. Whether the address has an account is not looked at yet:
    so asking takes the same time either way.

    :param user_id: of the guest whom it is for: no account is found by the address that they gave.
    """

    id: str
    mail: Mail
    email: str
    user_id: str = ""
    expires_ms: int


class Link(Document):
    """What the code in a mailed link stands for. The id is made of the code, which is not stored.

    :param password_version: that of the account when the link was made. A link to set a password
        ends with that password: so setting one ends all others.
    """

    id: str
    mail: Mail
    user_id: str
    email: str
    password_version: int
    expires_ms: int


class MailTimes(Document):
    """When the mails of the last hour to one address were asked for."""

    id: str
    times_ms: tuple[int, ...]
    expires_ms: int


class MailCount(Document):
    """How many mails were asked for within a window of time."""

    id: str
    count: int
    expires_ms: int


def new_request(
    mail: Mail, email: str, now_ms: int, *, request_id: str | None = None, user_id: str = ""
) -> MailRequest:
    """A request for a mail.

    :param request_id: for a request that must not count twice.
    :param user_id: of the guest whom it is for.
    """
    return MailRequest(
        id=request_id or f"mail_{secrets.token_hex(16)}",
        mail=mail,
        email=email,
        user_id=user_id,
        expires_ms=now_ms + LIFETIME_MS[mail],
    )


def new_link(request: MailRequest, account: Account, now_ms: int) -> tuple[Link, str]:
    """A link for the account's owner, and the code that it bears."""
    code = secrets.token_urlsafe(_SECRET_BYTES)
    link = Link(
        id=link_id(code),
        mail=request.mail,
        user_id=account.user_id,
        email=account.contact_email,
        password_version=account.password_version,
        expires_ms=now_ms + LIFETIME_MS[request.mail],
    )
    return link, code


def link_id(code: str) -> str:
    """The id of a code's link. 256 random bits need no slow hash."""
    return "link_" + hashlib.sha256(code.encode()).hexdigest()


def is_good(link: Link, mail: Mail, now_ms: int) -> bool:
    """Whether a link is of that kind and has not expired."""
    return link.mail is mail and now_ms < link.expires_ms


def times_id(email: str) -> str:
    """The id of the times of an address' mails. It hides the address."""
    return f"address_{hashlib.sha256(email.encode()).hexdigest()}"


def asked_again(times: MailTimes | None, email: str, now_ms: int) -> MailTimes:
    """The times of an address' mails with one more, as long as no hour has more of them than
    MAILS_PER_ADDRESS.

    :raises ShopError: THROTTLED, with the time until the oldest of them is an hour ago.
    """
    # One that is more than an hour ahead was written by a wrong clock.
    recent = sorted(
        time_ms for time_ms in (times.times_ms if times else ()) if abs(now_ms - time_ms) < HOUR_MS
    )
    if len(recent) >= MAILS_PER_ADDRESS:
        raise _too_many(recent[-MAILS_PER_ADDRESS] + HOUR_MS - now_ms)
    return MailTimes(
        id=times_id(email), times_ms=(*recent, now_ms), expires_ms=now_ms + 2 * HOUR_MS
    )


def network_count_id(network: str, now_ms: int) -> str:
    """The id of the mails that a network asks for in the current hour of the clock. It hides the
    network.
    """
    return f"hour_{hashlib.sha256(network.encode()).hexdigest()}_{now_ms // HOUR_MS}"


def shop_count_id(now_ms: int) -> str:
    """The id of the mails to everybody in the current minute of the clock."""
    return f"shop_{now_ms // MINUTE_MS}"


def check_count(count: int, limit: int, window_ms: int, now_ms: int) -> None:
    """Returns when one more mail may be sent in this window.

    :param count: with that one.
    :raises ShopError: THROTTLED, with the time until the next window.
    """
    if count > limit:
        raise _too_many(window_ms - now_ms % window_ms)


def link_over() -> ShopError:
    """The answer to a code that is not good (any more)."""
    return ShopError(
        Kind.INVALID,
        "link-over",
        "This code is wrong, or it is no longer valid. Please ask for a new link.",
    )


def _too_many(pause_ms: int) -> ShopError:
    return ShopError(
        Kind.THROTTLED,
        "too-many-mails",
        "We have sent too many of these mails just now. Please look for the last one, or try "
        "again later.",
        retry_after_seconds=pause_ms / 1000,
    )
