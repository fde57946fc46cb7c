"""Browsers that an account was used in: the tokens by which they are known again.

These are the device cookies of OWASP's "Slow Down Online Guessing Attacks with Device Cookies"
(https://owasp.org/www-community/Slow_Down_Online_Guessing_Attacks_with_Device_Cookies). A token
lets nobody in. It only gives its holder guesses of their own at one account.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

from services.common.documents import Collection, Document

DEVICE_KEYS = Collection("device_keys")
DEVICE_LIFETIME_MS = 365 * 86_400_000

_KEY_ID = "device_key"
_TOKEN = re.compile(r"dev_([0-9a-f]{32})\.([0-9]{1,15})\.([0-9a-f]{64})")


class DeviceKey(Document):
    """What signs the tokens, for all processes. Without it, all browsers are unknown again."""

    id: str = _KEY_ID
    secret: str


def new_key() -> DeviceKey:
    """A key that nobody knows."""
    return DeviceKey(secret=secrets.token_hex(32))


def device_token(key: DeviceKey, session_id: str, email: str, now_ms: int) -> str:
    """The token for whoever holds a session of the account.

    The device is the session, across all its renewals: so a session brings no more guesses than
    those of one device.
    """
    device = hashlib.sha256(session_id.encode()).hexdigest()[:32]
    expires_ms = now_ms + DEVICE_LIFETIME_MS
    return f"dev_{device}.{expires_ms}.{_signature(key, device, expires_ms, email)}"


def known_device(key: DeviceKey, token: str, email: str, now_ms: int) -> str | None:
    """The device's id; None when the token is of another account, out of date, or none."""
    found = _TOKEN.fullmatch(token)
    if found is None:
        return None
    device, expires_ms = found[1], int(found[2])
    is_signed = hmac.compare_digest(found[3], _signature(key, device, expires_ms, email))
    return device if is_signed and now_ms < expires_ms else None


def _signature(key: DeviceKey, device: str, expires_ms: int, email: str) -> str:
    text = f"{device}\n{expires_ms}\n{email}"
    return hmac.new(bytes.fromhex(key.secret), text.encode(), hashlib.sha256).hexdigest()
