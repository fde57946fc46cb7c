"""Who the user is: access tokens (JWT, RFC 7519, signed ES256) verified against the keys that
`auth` publishes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from opentelemetry import trace

from services.common.errors import Kind, ShopError
from services.common.observing.logs import get_logger

log = get_logger(__name__)

ISSUER = "meshmart"
AUDIENCE = "meshmart-shop"
ALGORITHM = "ES256"
JWKS_PATH = "/.well-known/jwks.json"

# auth publishes a key at least this long before it signs with it, so a cached set is never behind.
JWKS_CACHE_SECONDS = 300.0
# A token with an unknown key may be new or forged; forged ones must not become a flood of fetches.
_REFETCH_SECONDS = 5.0
_LEEWAY_SECONDS = 5
# A token's `iat` tells its age, not when it begins to count (RFC 7519 §4.1.6), and a clock may be
# minutes behind auth's.
_ISSUED_AHEAD_SECONDS = 300

FetchKeys = Callable[[], Awaitable[Any]]

_ISSUED = jwt.JWTClaimsRegistry(leeway=_ISSUED_AHEAD_SECONDS)


class _Claims(jwt.JWTClaimsRegistry):
    def validate_iat(self, value: object) -> None:
        _ISSUED.validate_iat(value)


_CLAIMS = _Claims(
    leeway=_LEEWAY_SECONDS,
    iss={"essential": True, "value": ISSUER},
    aud={"essential": True, "value": AUDIENCE},
    sub={"essential": True},
    exp={"essential": True},
)


@dataclass(frozen=True, slots=True)
class Caller:
    """The user on whose behalf a request is made, as the token says.

    :param email: by which the account is found; empty for a guest's.
    """

    user_id: str
    email: str
    name: str
    groups: tuple[str, ...] = field(default=())

    @property
    def is_guest(self) -> bool:
        """Whether they ordered without an account: nobody can log in to what stands for it."""
        return not self.email


class TokenVerifier:
    """Verifies access tokens. Keys are fetched once, kept for JWKS_CACHE_SECONDS, and fetched again
    for an unknown key.

    When `auth` cannot be reached the keys that were fetched before stay in use.

    :param fetch_keys: gets the JWKS document (RFC 7517); raises ShopError when `auth` is away.
    :param names_user: whether the span of a request names the user, by the account's id
        (`user.id`).
    :param clock: the time in seconds, from any beginning.
    """

    def __init__(
        self,
        fetch_keys: FetchKeys,
        *,
        names_user: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch_keys = fetch_keys
        self._names_user = names_user
        self._clock = clock
        self._keys: KeySet | None = None
        self._fetched_at = 0.0
        self._asked_at = 0.0
        self._lock = asyncio.Lock()

    async def verify(self, token: str) -> Caller:
        """The caller that a token stands for.

        :raises ShopError: UNAUTHENTICATED for a token that is forged, expired or not ours;
            UNAVAILABLE while there are no keys to check it with.
        """
        caller = await self._verified(token)
        if self._names_user:
            trace.get_current_span().set_attribute("user.id", caller.user_id)
        return caller

    async def _verified(self, token: str) -> Caller:
        keys = await self._current_keys(JWKS_CACHE_SECONDS)
        try:
            return _caller(token, keys)
        except _UnknownKey:
            keys = await self._current_keys(_REFETCH_SECONDS)
        try:
            return _caller(token, keys)
        except _UnknownKey as error:
            raise _refused() from error

    async def _current_keys(self, max_age_seconds: float) -> KeySet:
        async with self._lock:
            now = self._clock()
            if self._keys is not None and (
                now - self._fetched_at < max_age_seconds or now - self._asked_at < _REFETCH_SECONDS
            ):
                return self._keys
            self._asked_at = now
            try:
                self._keys = await self._fetched()
                self._fetched_at = now
            except ShopError as error:
                if self._keys is None:
                    raise
                log.warning("identity.keys_kept", reason=error.detail)
            return self._keys

    async def _fetched(self) -> KeySet:
        document = await self._fetch_keys()
        try:
            return KeySet.import_key_set(document)
        except (JoseError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ShopError(
                Kind.UNAVAILABLE, "bad-keys", "The sign-in keys could not be read."
            ) from error


class _UnknownKey(Exception):
    """The token names a key that is not in the set."""


def _caller(token: str, keys: KeySet) -> Caller:
    try:
        decoded = jwt.decode(token, keys, algorithms=[ALGORITHM])
        _CLAIMS.validate(decoded.claims)
    except InvalidKeyIdError as error:
        raise _UnknownKey from error
    except (JoseError, ValueError, TypeError) as error:  # the last for {"crit": 1} in its header
        raise _refused() from error
    claims = decoded.claims
    groups = claims.get("groups", [])
    return Caller(
        user_id=str(claims["sub"]),
        email=str(claims.get("email", "")),
        name=str(claims.get("name", "")),
        groups=tuple(str(group) for group in groups),
    )


def _refused() -> ShopError:
    return ShopError(
        Kind.UNAUTHENTICATED, "invalid-token", "Please log in: the access token is not valid."
    )
