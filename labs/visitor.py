"""Somebody who uses a shop from outside: looks at the catalogue, and buys as a guest."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import orjson

from labs.records import all_calls
from services.common import call_record
from services.common.call_record import Call, Served

CATALOGUE = "/api/products?limit=1"
PAGE = "/products"
# Of the catalogue, what is there most often.
PRODUCT = "linen-tea-towels"

ORDER: Mapping[str, Any] = {
    "items": [{"product_id": PRODUCT, "quantity": 1}],
    "address": {
        "name": "Ada Lovelace",
        "street": "Keizersgracht 123",
        "postal_code": "1015 CJ",
        "city": "Amsterdam",
        "country": "NL",
    },
    "payment_method": "pm_card_visa",
}
_TIMEOUT = aiohttp.ClientTimeout(total=30)
# Still being worked on, or nobody there to say.
_NOT_FINAL = frozenset({0, 202, 502, 503, 504})
_FINAL_SECONDS = 60.0
_PAUSE_SECONDS = 0.2


class Answer(NamedTuple):
    """The outcome of a request.

    :ivar status: of HTTP; 0 where nobody has answered.
    :ivar body: its JSON; None where it has none.
    :ivar location: where a redirect leads.
    """

    status: int
    body: Any
    served: Served | None
    location: str = ""

    @property
    def version(self) -> str:
        """Who answered, or instead of a version the status of an error."""
        is_answered = self.status == 200 and self.served is not None
        return self.served.version if is_answered and self.served else str(self.status)

    @property
    def calls(self) -> Iterator[Call]:
        """All calls that were made for the request, directly or not."""
        return all_calls(self.served.calls if self.served else ())


class Visitor:
    """Sends requests to one base URL."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str) -> None:
        self.base_url = base_url
        self._session = session
        self._token = ""

    async def send(
        self, method: str, path: str, *, json: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Sends a request. Returns its whole answer; follows no redirects."""
        try:
            async with self._session.request(
                method,
                self.base_url + path,
                json=json,
                headers=headers,
                allow_redirects=False,
            ) as answer:
                text = await answer.read()
                body = orjson.loads(text) if "json" in answer.content_type and text else None
                return Answer(
                    answer.status,
                    body,
                    call_record.decode(answer.headers.get(call_record.HEADER)),
                    answer.headers.get("location", ""),
                )
        except (aiohttp.ClientError, TimeoutError):
            return Answer(0, None, None)

    async def versions(
        self,
        count: int,
        *,
        path: str = CATALOGUE,
        headers: Mapping[str, str] | None = None,
        at_once: int = 1,
    ) -> Counter[str]:
        """Sends `count` requests, `at_once` of them together; counts the answers by version, or by
        the status of an error.
        """
        answers = await self._answers(count, path, headers, at_once)
        return Counter(answer.version for answer in answers)

    async def statuses(self, count: int, *, at_once: int) -> Counter[int]:
        """Sends `count` requests, `at_once` of them together; counts the answers by status."""
        answers = await self._answers(count, CATALOGUE, None, at_once)
        return Counter(answer.status for answer in answers)

    async def _answers(
        self, count: int, path: str, headers: Mapping[str, str] | None, at_once: int
    ) -> list[Answer]:
        limit = asyncio.Semaphore(at_once)

        async def answer() -> Answer:
            async with limit:
                return await self.send("GET", path, headers=headers)

        return await asyncio.gather(*(answer() for _ in range(count)))

    async def versions_behind_pages(
        self, count: int, *, headers: Mapping[str, str] | None = None
    ) -> Counter[str]:
        """Requests `count` pages. Counts which versions of `callee` answer the frontend for them,
        and the errors instead of a page.
        """
        seen: Counter[str] = Counter()
        for _ in range(count):
            answer = await self.send("GET", PAGE, headers=headers)
            if answer.status != 200 or answer.served is None:
                seen[str(answer.status)] += 1
                continue
            seen.update(
                call.version or call.status
                for call in answer.served.calls
                if call.callee == "product"
            )
        return seen

    async def buy(self, key: str = "", headers: Mapping[str, str] | None = None) -> Answer:
        """Places an order as a guest under a new idempotency key, unless one is given."""
        if not self._token:
            guest = {"email": f"{uuid.uuid4().hex}@example.com", "name": "Ada"}
            answer = await self.send("POST", "/api/auth/guest", json=guest)
            if answer.status != 201:
                return answer
            self._token = answer.body["access_token"]
        own = self._authorized | {"idempotency-key": key or uuid.uuid4().hex}
        return await self.send("POST", "/api/orders", json=ORDER, headers=own | {**(headers or {})})

    def leave(self) -> None:
        """Goes away: who buys next is another guest."""
        self._token = ""

    async def insist(self, key: str = "", headers: Mapping[str, str] | None = None) -> Answer:
        """Places an order, and repeats the request under its key until the answer is final, but no
        longer than a minute.
        """
        key = key or uuid.uuid4().hex
        until = time.monotonic() + _FINAL_SECONDS
        while (answer := await self.buy(key, headers)).status in _NOT_FINAL:
            if time.monotonic() > until:
                break
            await asyncio.sleep(_PAUSE_SECONDS)
        return answer

    async def cancel(self, order_id: str) -> Answer:
        """Cancels one of its orders, so that what it has bought is for sale again."""
        return await self.send("POST", f"/api/orders/{order_id}/cancel", headers=self._authorized)

    @property
    def _authorized(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._token}"}


@asynccontextmanager
async def connected(
    base_url: str, connector: aiohttp.BaseConnector | None = None
) -> AsyncGenerator[Visitor]:
    """Yields a visitor with connections of its own."""
    async with aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as session:
        yield Visitor(session, base_url)
