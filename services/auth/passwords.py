"""Password hashes: Argon2id (RFC 9106) in a few threads, with a queue that has an end."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

from services.auth.model.password_rules import normalised
from services.auth.settings import AuthSettings
from services.common.errors import Kind, ShopError

Result = TypeVar("Result")


class Passwords:
    """Hashes and verifies passwords off the event loop.

    At most `password_hash_threads` at a time, which bounds the memory too; `password_hash_queue`
    may wait. Whoever comes then is sent away at once: a waiting line that takes longer than the
    clients' patience serves nobody.
    """

    def __init__(self, settings: AuthSettings) -> None:
        self._hasher = PasswordHasher(
            time_cost=settings.password_hash_iterations,
            memory_cost=settings.password_hash_memory_kib,
            parallelism=settings.password_hash_lanes,
        )
        self._executor = ThreadPoolExecutor(
            settings.password_hash_threads, thread_name_prefix="argon2"
        )
        self._most = settings.password_hash_threads + settings.password_hash_queue
        self._present = 0
        # Of a password that nobody knows; verifying against it takes as long as against any other.
        self._nobodys_hash = self._hasher.hash(secrets.token_urlsafe())

    def refuse_when_busy(self) -> None:
        """Returns when there is room for one more.

        :raises ShopError: THROTTLED.
        """
        if self._present >= self._most:
            raise ShopError(
                Kind.THROTTLED,
                "log-in-busy",
                "Many people are logging in just now. Please try again in a moment.",
                retry_after_seconds=1,
            )

    async def hash(self, password: str) -> str:
        """The hash of a password, with a salt of its own, as a PHC string.

        :raises ShopError: THROTTLED, when too many are waiting.
        """
        return await self._in_thread(partial(self._hasher.hash, normalised(password)))

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether this is the password that was hashed. With None it is not, after the same time.

        :raises ShopError: THROTTLED, when too many are waiting.
        """
        attempt = partial(
            self._hasher.verify, password_hash or self._nobodys_hash, normalised(password)
        )
        try:
            return await self._in_thread(attempt)
        except VerifyMismatchError:
            return False

    def is_outdated(self, password_hash: str) -> bool:
        """Whether the hash was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(password_hash)

    async def close(self) -> None:
        """Ends the threads; hashes that nobody has begun are dropped."""
        await asyncio.to_thread(self._executor.shutdown, cancel_futures=True)

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        self.refuse_when_busy()
        self._present += 1
        job = self._executor.submit(work)
        try:
            return await asyncio.wrap_future(job)
        finally:
            self._present -= 1
