"""Settings of the auth service."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from services.common.identity.access_tokens import JWKS_CACHE_SECONDS
from services.common.settings import Settings


class AuthSettings(Settings):
    """Lifetimes of tokens and keys, the cost of a password hash, the limit of failed log-ins.

    The hash's defaults are the least that OWASP's Password Storage Cheat Sheet recommends for
    Argon2id. RFC 9106's 64 MiB would cost a shop that runs whole on one laptop too much; raise them
    where there is room, and each password is hashed again at its next log-in.
    """

    access_token_seconds: int = Field(default=900, ge=1, le=86_400)
    refresh_token_seconds: int = Field(
        default=14 * 86_400, ge=60, description="How long a session lasts when nobody uses it."
    )
    key_rotation_seconds: int = Field(default=86_400, ge=600, description="How long a key signs.")
    key_publish_seconds: int = Field(
        default=1800,
        ge=JWKS_CACHE_SECONDS + 60,
        description=(
            "How long a key is published before it signs: longer than any verifier keeps a set of "
            "keys. The services keep it for 5 minutes, Istio's control plane for 20."
        ),
    )
    password_hash_memory_kib: int = Field(default=19 * 1024, ge=1024, le=1024 * 1024)
    password_hash_iterations: int = Field(default=2, ge=1, le=20)
    password_hash_lanes: int = Field(default=1, ge=1, le=16)
    password_hash_threads: int = Field(
        default=2, ge=1, le=64, description="How many passwords are hashed at the same time."
    )
    password_hash_queue: int = Field(
        default=64,
        ge=0,
        description="How many may wait for that, in a line for each network of clients. When it is "
        "full, the last of the longest line gets 429.",
    )
    login_failures_per_minute: int = Field(
        default=30,
        ge=1,
        description="Wrong passwords from one network of clients in each minute of the clock, over "
        "all accounts; for the rest of it, only browsers that an account knows may log in from "
        "there.",
    )
    network_link_mails_per_hour: int = Field(
        default=200,
        ge=1,
        description="Mails with a link that one client's network may ask for in each hour of the "
        "clock, by registering too.",
    )
    link_mails_per_minute: int = Field(
        default=600,
        ge=1,
        description="Mails with a link in the whole shop, in each minute of the clock; who asks "
        "for more of them gets 429.",
    )

    @model_validator(mode="after")
    def _one_key_after_another(self) -> Self:
        if self.key_publish_seconds > self.key_rotation_seconds:
            raise ValueError(
                "only one key at a time waits to become the active one, so KEY_PUBLISH_SECONDS "
                "must not be longer than KEY_ROTATION_SECONDS"
            )
        return self
