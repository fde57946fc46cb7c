"""Which passwords are refused."""

from __future__ import annotations

import unicodedata

from services.common import error_codes
from services.common.errors import Kind, ShopError
from services.common.limits import MIN_PASSWORD_LENGTH

# What people choose first when they are asked for ten characters, in lower case.
_COMMON_PASSWORDS = frozenset(
    {
        "0123456789",
        "0987654321",
        "1234567890",
        "12345678910",
        "123456789a",
        "1q2w3e4r5t",
        "1qaz2wsx3edc",
        "abcdefghij",
        "abcdefghijk",
        "administrator",
        "asdfghjkl1",
        "changeme123",
        "iloveyou12",
        "iloveyou123",
        "letmein123",
        "meshmart12",
        "meshmart123",
        "password10",
        "password11",
        "password12",
        "password123",
        "password1234",
        "passwordpassword",
        "q1w2e3r4t5",
        "qazwsxedcrfv",
        "qwerty1234",
        "qwerty12345",
        "qwerty123456",
        "qwertyuiop",
        "qwertyuiop1",
        "welcome123",
        "zaq12wsxcde",
    }
)
_MIN_DISTINCT_CHARACTERS = 3


def normalised(password: str) -> str:
    """The form in which a password is checked and hashed: NFKC, so that it does not matter which
    keyboard the text came from (NIST SP 800-63B §5.1.1.2).
    """
    return unicodedata.normalize("NFKC", password)


def check_password(password: str, *, email: str, name: str) -> None:
    """Refuses what is guessed first; no rules of composition beyond that (NIST SP 800-63B).

    :param password: as :func:`normalised` returns it.
    :raises ShopError: INVALID.
    """
    if len(password) < MIN_PASSWORD_LENGTH:
        raise _weak(f"A password has at least {MIN_PASSWORD_LENGTH} characters.")
    folded = password.casefold().strip()
    if folded in _COMMON_PASSWORDS or len(set(folded)) < _MIN_DISTINCT_CHARACTERS:
        raise _weak("This password is one of the first that anybody would try.")
    local_part = email.partition("@")[0]
    known = (email, local_part, local_part.partition("+")[0], normalised(name))
    if _bare(folded) in {_bare(text) for text in known} - {""}:
        raise _weak("The password must not be your e-mail address or your name.")


def _bare(text: str) -> str:
    """The letters and digits alone: Ada.Lovelace is no other guess than ada lovelace."""
    return "".join(filter(str.isalnum, text.casefold()))


def check_difference(new_password: str, password: str) -> None:
    """Refuses a change that changes nothing.

    Both are as :func:`normalised` returns them.

    :raises ShopError: INVALID.
    """
    if new_password == password:
        raise ShopError(
            Kind.INVALID,
            error_codes.SAME_PASSWORD,
            "This is the password that you have. Please choose another.",
        )


def _weak(detail: str) -> ShopError:
    return ShopError(Kind.INVALID, error_codes.WEAK_PASSWORD, f"{detail} Please choose another.")
