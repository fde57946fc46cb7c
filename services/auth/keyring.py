"""The keys that sign access tokens: read from the store, rotated on schedule, published."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from joserfc import jwt
from joserfc.jwk import ECKey

from services.auth.model import keys as schedule
from services.auth.model.accounts import Account
from services.auth.model.keys import KEYS_MAX_AGE_MS, KeyPolicy, SigningKey
from services.auth.store import KeyStore
from services.common.clock import unix_ms
from services.common.identity.access_tokens import ALGORITHM, AUDIENCE, ISSUER
from services.common.observing.logs import get_logger

log = get_logger(__name__)

Jwk = dict[str, str]


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """The keys as they were read at a time."""

    read_ms: int
    keys: tuple[SigningKey, ...]


class Keyring:
    """Signs with the active key. Processes share the keys, and their schedule says which that is.

    A key is published `publish_ms` before it signs, so that whoever verifies knows it by then, and
    stays published until the last token that it signed has expired.

    :param clock: gives the Unix time in milliseconds.
    """

    def __init__(
        self, store: KeyStore, policy: KeyPolicy, clock: Callable[[], int] = unix_ms
    ) -> None:
        self._store = store
        self._policy = policy
        self._clock = clock
        self._snapshot: _Snapshot | None = None
        self._lock = asyncio.Lock()

    @property
    def access_token_seconds(self) -> int:
        """How long an access token is good for."""
        return self._policy.access_token_ms // 1000

    async def access_token(self, account: Account) -> str:
        """A JWT (RFC 7519) that says who the user is."""
        keys = await self._current()
        now = self._clock()
        active = schedule.active_key(keys, now)
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": account.user_id,
            "email": account.email,
            "name": account.name,
            "groups": list(account.groups),
            "iat": now // 1000,
            "exp": now // 1000 + self.access_token_seconds,
            "jti": uuid.uuid4().hex,
        }
        header = {"alg": ALGORITHM, "kid": active.private_jwk["kid"]}
        return jwt.encode(header, claims, _private(active), algorithms=[ALGORITHM])

    async def public_keys(self) -> list[Jwk]:
        """The public keys (RFC 7517): of the next, the active and the retired ones."""
        return [_public(key) for key in await self._current()]

    async def rotate(self) -> None:
        """Publishes the next key when it is due, and drops keys that no token needs any more."""
        now = self._clock()
        stored = await self._store.all()
        keys = [each.value for each in stored]
        due = schedule.next_key_due(keys, now, self._policy)
        if due is not None:
            generation, active_from_ms = due
            key = await asyncio.to_thread(_new_key, generation, active_from_ms)
            if await self._store.add(key):
                log.info("key.published", kid=key.private_jwk["kid"], active_from_ms=active_from_ms)
        for old, following in zip(stored, keys[1:], strict=False):
            if now > schedule.needless_from_ms(following, self._policy):
                await self._store.remove(old.value.id)
                log.info("key.dropped", kid=old.value.private_jwk["kid"])
        self._snapshot = None

    async def _current(self) -> tuple[SigningKey, ...]:
        """The keys, not older than KEYS_MAX_AGE_MS; the very first is made here."""
        async with self._lock:
            now = self._clock()
            snapshot = self._snapshot
            if snapshot is None or now - snapshot.read_ms > KEYS_MAX_AGE_MS:
                stored = await self._store.all()
                if not stored:
                    await self.rotate()
                    stored = await self._store.all()
                snapshot = _Snapshot(now, tuple(each.value for each in stored))
                self._snapshot = snapshot
            return snapshot.keys


def _new_key(generation: int, active_from_ms: int) -> SigningKey:
    # The kid is the key's RFC 7638 thumbprint.
    key = ECKey.generate_key("P-256", {"use": "sig", "alg": ALGORITHM}, auto_kid=True)
    jwk = {name: str(value) for name, value in key.as_dict(private=True).items()}
    return SigningKey(
        id=f"generation_{generation}",
        generation=generation,
        active_from_ms=active_from_ms,
        private_jwk=jwk,
    )


def _private(key: SigningKey) -> ECKey:
    return ECKey.import_key(dict(key.private_jwk))


def _public(key: SigningKey) -> Jwk:
    return {name: str(value) for name, value in _private(key).as_dict(private=False).items()}
