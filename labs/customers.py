"""Customers who come at a steady rate for a given time: ``python customers.py WHERE``.

Runs in the pod of customers.yaml, in the cluster and outside of the mesh. WHERE is a file with
JSON: the shop's `host`; the `gateway` that leads to it, as HOST:PORT; `every_seconds`, how often
one comes; `for_seconds`, for how long; and the `order` that each places.

Each looks at the catalogue, gives a name, looks at it, and buys. What became of a customer is one
line, once it is known: their number, from 0 on; the Unix time at which they came, in seconds; then
"served", or "lost" and where. A customer who hears that the order is still being worked on, or
nothing in time, is lost; somebody asks later what became of that order, and cancels it, so that the
goods are for sale again.
"""

import asyncio
import itertools
import json
import socket
import sys
import time
import uuid
from collections import deque
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.abc import ResolveResult

_PATIENCE_SECONDS = 10.0
_BOUGHT = 201
# Still being worked on, or nobody there to say.
_NOT_FINAL = frozenset({0, 202, 502, 503, 504})


class AtGateway(aiohttp.ThreadedResolver):
    """Every name leads to the gateway."""

    def __init__(self, gateway: str) -> None:
        super().__init__()
        self._gateway = gateway

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await super().resolve(self._gateway, port, family)
        for each in found:
            each["hostname"] = host
        return found


class PublicShop:
    """The shop, as its customers see it."""

    def __init__(self, session: aiohttp.ClientSession, url: str, order: dict[str, Any]) -> None:
        self._session = session
        self._url = url
        self._order = order
        # The headers of orders of which nobody knows yet what becomes of them.
        self._open: deque[dict[str, str]] = deque()

    async def customer(self, number: int) -> None:
        """Comes once, and says what became of it."""
        came = int(time.time())
        lost = await self._lost()
        print(number, came, f"lost {lost}" if lost else "served", flush=True)
        await self._close_one()

    async def _lost(self) -> str:
        """Where a customer was lost; empty when they were served."""
        status, _ = await self._send("GET", "/products")
        if status != 200:
            return f"at the catalogue: {status}"
        guest = {"email": f"{uuid.uuid4().hex}@example.com", "name": "Ada"}
        status, body = await self._send("POST", "/api/auth/guest", json=guest)
        if status != 201:
            return f"at the log-in: {status}"
        headers = {"authorization": f"Bearer {body['access_token']}"}
        status, _ = await self._send("GET", "/api/users/me", headers=headers)
        if status != 200:
            return f"at the profile: {status}"
        headers["idempotency-key"] = uuid.uuid4().hex
        status, body = await self._buy(headers)
        return "" if status == _BOUGHT else f"at the order: {status}"

    async def _buy(self, headers: dict[str, str]) -> tuple[int, Any]:
        """Places an order, or asks what became of it. What was bought is cancelled."""
        status, body = await self._send("POST", "/api/orders", json=self._order, headers=headers)
        if status in _NOT_FINAL:
            self._open.append(headers)
        elif status == _BOUGHT:
            await self._send("POST", f"/api/orders/{body['order_id']}/cancel", headers=headers)
        return status, body

    async def _close_one(self) -> None:
        if self._open:
            await self._buy(self._open.popleft())

    async def _send(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        """The status and the JSON of an answer; 0 when there is none."""
        try:
            async with self._session.request(method, self._url + path, **more) as answer:
                text = await answer.read()
                return answer.status, json.loads(text) if "json" in answer.content_type else None
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 0, None


async def main(where: dict[str, Any]) -> None:
    """Lets them come.

    :param where: what the file holds.
    """
    gateway, _, port = where["gateway"].rpartition(":")
    # The gateway's certificate may vouch for itself, and which one it is does not matter here.
    connector = aiohttp.TCPConnector(ssl=False, resolver=AtGateway(gateway))
    timeout = aiohttp.ClientTimeout(total=_PATIENCE_SECONDS)
    until = time.monotonic() + where["for_seconds"]
    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
        asyncio.TaskGroup() as group,
    ):
        shop = PublicShop(session, f"https://{where['host']}:{port}", where["order"])
        for number in itertools.count():
            if time.monotonic() > until:
                break
            group.create_task(shop.customer(number))
            await asyncio.sleep(where["every_seconds"])


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
