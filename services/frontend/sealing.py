"""Sealed text: what the browser keeps or sends back for the frontend, so that nobody can change it
on the way.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from itsdangerous import BadData, URLSafeTimedSerializer

_MAX_SEALED_LENGTH = 16 * 1024


class Seal:
    """Signs small JSON values, each purpose with a key of its own. It does not encrypt: the browser
    may read them.
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def close(self, purpose: str, value: Any) -> str:
        """The value as URL-safe text with a signature and the time."""
        return self._serializer(purpose).dumps(value)

    def open(self, purpose: str, text: str, max_age_seconds: int | None = None) -> object:
        """The value that was sealed for this purpose, or None when the text is not such a value
        (any more).
        """
        if len(text) > _MAX_SEALED_LENGTH:
            return None
        try:
            return self._serializer(purpose).loads(text, max_age=max_age_seconds)
        except BadData:
            return None

    def mark(self, purpose: str, text: str) -> str:
        """A keyed digest of the text, in hexadecimal."""
        key = f"{purpose}\n{self._secret}".encode()
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()

    def _serializer(self, purpose: str) -> URLSafeTimedSerializer:
        return URLSafeTimedSerializer(
            self._secret,
            salt=f"meshmart.{purpose}",
            signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
        )
