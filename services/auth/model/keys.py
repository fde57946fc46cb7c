"""Signing keys: their document, and their schedule as pure functions of the time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field

from services.common.documents import Collection, Document, Index

BY_GENERATION = "by_generation"
KEYS = Collection("signing_keys", indexes=(Index(BY_GENERATION, order="generation"),))

# How long a process may sign with what it last read of the keys.
KEYS_MAX_AGE_MS = 30_000


class SigningKey(Document):
    """A key pair (JWK, RFC 7517). It signs from `active_from_ms` until the next generation does.

    So all processes agree on its state, which nobody stores: next, active, retired. The id is made
    of the generation: of several processes that rotate at once, one inserts the next generation.
    """

    id: str
    generation: int
    active_from_ms: int
    private_jwk: Mapping[str, str] = Field(repr=False)


@dataclass(frozen=True, slots=True)
class KeyPolicy:
    """When keys follow each other."""

    rotation_ms: int
    publish_ms: int
    access_token_ms: int


def active_key(keys: Sequence[SigningKey], now_ms: int) -> SigningKey:
    """The key that signs now. Those before it are retired, one behind it waits for its time.

    :param keys: all there are, at least one, by generation. The very first is active whatever this
        process' clock says.
    """
    return next((key for key in reversed(keys) if key.active_from_ms <= now_ms), keys[0])


def next_key_due(
    keys: Sequence[SigningKey], now_ms: int, policy: KeyPolicy
) -> tuple[int, int] | None:
    """The generation of the key to publish now, and when it begins to sign; None if none is due."""
    if not keys:
        return 1, now_ms
    newest = keys[-1]
    ends_ms = newest.active_from_ms + policy.rotation_ms
    if now_ms < newest.active_from_ms or now_ms < ends_ms - policy.publish_ms:
        return None
    return newest.generation + 1, max(ends_ms, now_ms + policy.publish_ms)


def needless_from_ms(successor: SigningKey, policy: KeyPolicy) -> int:
    """From when on a key verifies nothing any more: all that it may have signed has expired."""
    return successor.active_from_ms + 2 * KEYS_MAX_AGE_MS + policy.access_token_ms
