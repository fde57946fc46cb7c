"""What is available, as pages show it: up to a stated time old. What an order gets is for
inventory to decide, when it is placed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.common.limits import MAX_PRODUCT_IDS


class StockLookup(Protocol):
    """Who knows what is available; raises ShopError when that cannot be found out."""

    async def available(self, product_ids: Sequence[str]) -> Mapping[str, int]: ...


@dataclass(slots=True)
class _Figure:
    """What inventory has said of a product.

    :ivar asked_at: when it was asked, by the clock of :class:`ShownStock`.
    :ivar is_used: whether somebody has wanted it since.
    """

    available: int
    asked_at: float
    is_used: bool = False


class ShownStock:
    """Keeps what inventory says for a while. Requests that miss the same figure share one call, and
    a call also renews the figures that are in use and too old, so there are few calls however many
    products are shown.

    A call belongs to the request that makes it: to its trace, its call record and its deadline.

    :param stock: is asked.
    :param max_age_seconds: how old a figure may be, counted from when inventory is asked.
    :param clock: seconds that never go back.
    """

    def __init__(
        self,
        stock: StockLookup,
        *,
        max_age_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stock = stock
        self._max_age_seconds = max_age_seconds
        self._clock = clock
        self._figures: dict[str, _Figure] = {}  # in the order of `asked_at`
        self._calls: dict[str, asyncio.Task[Mapping[str, int]]] = {}  # under way, by product

    async def available(self, product_ids: Sequence[str]) -> Mapping[str, int]:
        """How many of each product can be ordered, or could a moment ago.

        :raises ShopError: inventory does not say.
        """
        now = self._clock()
        found: dict[str, int] = {}
        missing: list[str] = []
        calls: set[asyncio.Task[Mapping[str, int]]] = set()
        for product_id in product_ids:
            figure = self._figures.get(product_id)
            if figure is not None and self._is_fresh(figure, now):
                figure.is_used = True
                found[product_id] = figure.available
            elif product_id in self._calls:
                calls.add(self._calls[product_id])
            else:
                missing.append(product_id)
        if missing:
            calls.add(self._begin_call(missing, now))
        for call in calls:
            # Shielded: whoever made the call may leave, and others wait for it.
            found.update(await asyncio.shield(call))
        return found

    def _is_fresh(self, figure: _Figure, now: float) -> bool:
        return now - figure.asked_at < self._max_age_seconds

    def _begin_call(self, missing: Sequence[str], now: float) -> asyncio.Task[Mapping[str, int]]:
        wanted = dict.fromkeys(missing)
        while self._figures and len(wanted) < MAX_PRODUCT_IDS:
            product_id, oldest = next(iter(self._figures.items()))
            if self._is_fresh(oldest, now):
                break
            del self._figures[product_id]
            if oldest.is_used and product_id not in self._calls:
                wanted[product_id] = None
        call = asyncio.create_task(self._call(list(wanted), now))
        self._calls.update(dict.fromkeys(wanted, call))
        call.add_done_callback(_look_at_end)
        return call

    async def _call(self, product_ids: Sequence[str], now: float) -> Mapping[str, int]:
        try:
            answer = await self._stock.available(product_ids)
        finally:
            for product_id in product_ids:
                del self._calls[product_id]
        for product_id, available in answer.items():
            self._figures.pop(product_id, None)
            self._figures[product_id] = _Figure(available, now)
        return answer


def _look_at_end(call: asyncio.Task[Mapping[str, int]]) -> None:
    """Everybody who waited for a failed call may have left: asyncio need not report it."""
    if not call.cancelled():
        call.exception()
