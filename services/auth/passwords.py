"""Password hashes: Argon2id (RFC 9106) in a few threads, shared fairly."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

from services.auth.model.password_rules import normalised
from services.auth.settings import AuthSettings
from services.auth.turns import Turns

Result = TypeVar("Result")


class Passwords:
    """Hashes and verifies passwords off the event loop, for callers that hold a turn.

    At most `password_hash_threads` at a time, which bounds the memory too; `password_hash_queue`
    may wait, in a line for each network.
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
        self._turns = Turns(settings.password_hash_threads, settings.password_hash_queue)
        # Of a password that nobody knows; verifying against it takes as long as against any other.
        self._nobodys_hash = self._hasher.hash(secrets.token_urlsafe())

    def turn(self, line: str) -> AbstractAsyncContextManager[None]:
        """A turn at the threads, for one who waits in that line.

        :raises ShopError: THROTTLED, when too many are waiting.
        """
        return self._turns.turn(line)

    async def hash(self, password: str) -> str:
        """The hash of a password, with a salt of its own, as a PHC string."""
        return await self._in_thread(partial(self._hasher.hash, normalised(password)))

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether this is the password that was hashed. With None it is not, and takes as long."""
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
        return await asyncio.wrap_future(self._executor.submit(work))
