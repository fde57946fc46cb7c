"""Slows down whoever guesses passwords: one account's, or one password over many accounts."""

from __future__ import annotations

from collections.abc import Callable

from services.auth.model import attempts as model
from services.auth.model.sources import Source
from services.auth.store import AttemptStore
from services.common.clock import now_ms


class LoginThrottle:
    """Counts attempts in the store, so that all processes count together.

    Nothing is counted for an account or for the shop as a whole: whoever has a right password is
    kept out by failures from their own network alone, and in a browser that the account knows by
    its own alone. docs/accounts.md says what that costs.

    :param failures_per_minute: how many wrong passwords are taken from one network, over all
        accounts.
    :param clock: returns the Unix time in milliseconds.
    """

    def __init__(
        self,
        store: AttemptStore,
        failures_per_minute: int,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        self._store = store
        self._failures_per_minute = failures_per_minute
        self._clock = clock

    async def check(self, source: Source, email: str) -> None:
        """Returns when an attempt may be made now.

        :raises ShopError: THROTTLED, with the time to wait.
        """
        now = self._clock()
        await self._check_network(source, now)
        model.check_pause(await self._store.get(source, email), now)

    async def count(self, source: Source, email: str) -> None:
        """Counts an attempt before its password is looked at: guessing in parallel gains nothing.

        :raises ShopError: THROTTLED.
        """
        now = self._clock()
        await self._check_network(source, now)
        await self._store.count(source, email, now)

    async def failed(self, source: Source) -> None:
        """The attempt was one with a wrong password."""
        if source.device is None:
            await self._store.count_failure(source.network, self._clock())

    async def succeeded(self, source: Source, email: str) -> None:
        """The attempt was the account's owner: what was counted before no longer matters."""
        await self._store.forget(source, email)

    async def sweep(self) -> None:
        """Deletes what no longer counts."""
        await self._store.sweep(self._clock())

    async def _check_network(self, source: Source, now_ms: int) -> None:
        if source.device is not None:
            return
        if await self._store.failures(source.network, now_ms) >= self._failures_per_minute:
            left_ms = model.FAILURES_WINDOW_MS - now_ms % model.FAILURES_WINDOW_MS
            raise model.throttled(left_ms / 1000)
