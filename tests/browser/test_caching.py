"""What the browser of a returning visitor asks for."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import CDPSession

from tests.testkit.shopper import Shopper

pytestmark = pytest.mark.asyncio(loop_scope="session")

# Beyond the page itself.
_MAX_REQUESTS = 2


class Wire:
    """What a window gets over the network, and not from its browser's cache."""

    def __init__(self, session: CDPSession) -> None:
        self._asked: dict[str, str] = {}
        self._kept: set[str] = set()
        session.on("Network.requestWillBeSent", self._on_request)
        session.on("Network.requestServedFromCache", self._on_kept)
        session.on("Network.responseReceived", self._on_response)

    @property
    def urls(self) -> list[str]:
        return [url for request, url in self._asked.items() if request not in self._kept]

    def _on_request(self, event: dict[str, Any]) -> None:
        if event["request"]["url"].startswith("http"):
            self._asked[event["requestId"]] = event["request"]["url"]

    def _on_kept(self, event: dict[str, Any]) -> None:
        self._kept.add(event["requestId"])

    def _on_response(self, event: dict[str, Any]) -> None:
        if event["response"].get("fromDiskCache"):
            self._kept.add(event["requestId"])


async def _wire_of_home(shopper: Shopper) -> list[str]:
    session = await shopper.context.new_cdp_session(shopper.page)
    await session.send("Network.enable")  # pyright: ignore[reportUnknownMemberType]  a bare dict
    wire = Wire(session)
    await shopper.open("/")
    await shopper.page.wait_for_load_state("networkidle")
    await session.detach()
    return wire.urls


async def test_a_returning_visitor_asks_for_little_but_the_page(shopper: Shopper) -> None:
    first = await _wire_of_home(shopper)
    await shopper.open("/products")
    again = await _wire_of_home(shopper)
    print(f"{len(first)} requests at first, {len(again)} again")
    assert len(first) > 10, "the first visit needs styles, scripts and pictures"
    assert len(again) <= 1 + _MAX_REQUESTS, again
