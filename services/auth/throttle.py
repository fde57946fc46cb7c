"""Slows down whoever guesses passwords: one account's, or one password over many accounts."""

from __future__ import annotations

from collections.abc import Callable

from services.auth.model import attempts as model
from services.auth.store import AttemptStore
from services.common.clock import now_ms


class LoginThrottle:
    """Counts attempts in the store, so that all processes count together.

    :param failures_per_minute: how many wrong passwords the whole shop takes before log-in pauses
        for everybody. That stops guesses spread over many accounts, at the price that such an
        attack keeps customers out while it lasts.
    :param clock: gives the Unix time in milliseconds.
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

    async def check(self, email: str) -> None:
        """Returns when an attempt may be made now.

        :raises ShopError: THROTTLED, with the time to wait.
        """
        now = self._clock()
        model.check_pause(await self._store.get(email), now)
        if await self._store.failures(now) >= self._failures_per_minute:
            left_ms = model.FAILURES_WINDOW_MS - now % model.FAILURES_WINDOW_MS
            raise model.throttled(left_ms / 1000)

    async def count(self, email: str) -> None:
        """Counts an attempt before its password is looked at: guessing in parallel gains nothing.

        :raises ShopError: THROTTLED.
        """
        await self._store.count(email, self._clock())

    async def failed(self) -> None:
        """The attempt was one with a wrong password."""
        await self._store.count_failure(self._clock())

    async def succeeded(self, email: str) -> None:
        """The attempt was the account's owner: what was counted before no longer matters."""
        await self._store.forget(email)

    async def sweep(self) -> None:
        """Deletes what no longer counts."""
        await self._store.sweep(self._clock())
