"""Signs access tokens with the shop's own key: ``python -c SIGN good expired``, in a pod of auth.

For who has taken that pod over, and for finding out whether anybody looks at more than the
signature. Prints a token for each word, one a line: see _CHANGES.
"""

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey

from services.auth.model.keys import KEYS, SigningKey, active_key
from services.auth.store import KeyStore
from services.common.clock import now_ms
from services.common.documents import Documents, open_store
from services.common.identity.access_tokens import ALGORITHM, AUDIENCE, ISSUER

_VALID_SECONDS = 600
_EXPIRED_SECONDS = 3600  # ago: clocks that differ by a minute are allowed for
# By what is wrong with a token: its claims that differ from those of auth's own.
_CHANGES: Mapping[str, Mapping[str, Any]] = {
    "good": {},
    "forged": {},  # by another key of the same name
    "expired": {"exp": int(time.time()) - _EXPIRED_SECONDS},
    "for-another-shop": {"aud": "another-shop"},
    "of-another-issuer": {"iss": "https://issuer.example.com"},
}


async def signing_key() -> ECKey:
    """The key that auth signs with now, out of its database."""
    store = open_store(os.environ["DATABASE_URL"], "auth")
    try:
        stored = await KeyStore(Documents(store, KEYS, SigningKey)).all()
    finally:
        await store.close()
    key = active_key([each.value for each in stored], now_ms())
    return ECKey.import_key(dict(key.private_jwk))


def token(key: ECKey, what: str) -> str:
    header = {"alg": ALGORITHM, "kid": key.kid}
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "somebody",
        "exp": int(time.time()) + _VALID_SECONDS,
        **_CHANGES[what],
    }
    signer = ECKey.generate_key("P-256") if what == "forged" else key
    return jwt.encode(header, claims, signer, algorithms=[ALGORITHM])


async def main() -> None:
    key = await signing_key()
    for what in sys.argv[1:]:
        print(token(key, what))


if __name__ == "__main__":
    asyncio.run(main())
