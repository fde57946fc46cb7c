"""Access tokens as `auth` would issue them, and the verifier that knows their key."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey

from services.common.identity.access_tokens import ALGORITHM, AUDIENCE, ISSUER, TokenVerifier

_KEY = ECKey.generate_key("P-256", {"use": "sig", "alg": ALGORITHM}, auto_kid=True)


def token_of(user_id: str) -> str:
    """A token of that user."""
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": user_id, "exp": int(time.time()) + 60}
    return jwt.encode({"alg": ALGORITHM, "kid": _KEY.kid}, claims, _KEY)


def headers_of(user_id: str) -> Mapping[str, str]:
    """The header that a request of that user has."""
    return {"authorization": f"Bearer {token_of(user_id)}"}


def verifier() -> TokenVerifier:
    """Accepts the tokens of this module."""

    async def keys() -> Any:
        return {"keys": [_KEY.as_dict(private=False)]}

    return TokenVerifier(keys)
