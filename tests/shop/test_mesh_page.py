"""The mesh page of a whole shop: what every process counts, whichever frontend one asks."""

from __future__ import annotations

import re

import aiohttp

from services.common.observing.recent_traffic import WINDOWS_SECONDS
from tests.shop.conftest import OpenShop
from tests.testkit.customer import Client, Customer
from tests.testkit.shop import Shop
from tests.testkit.waiting import eventually

LANTERN = "camp-lantern"
Edge = tuple[str, str]


async def calls(http: aiohttp.ClientSession, frontend_url: str) -> dict[Edge, int]:
    """How many calls each edge has had in the longest window, as the page's table says."""
    async with http.get(f"{frontend_url}/mesh?minutes={WINDOWS_SECONDS[-1] // 60}") as answer:
        assert answer.status == 200
        html = await answer.text()
    rows = re.findall(r'<tr id="([a-z]+)-to-([a-z]+)" class="">(.*?)</tr>', html, re.DOTALL)
    return {
        (caller, callee): int(re.findall(r'<td class="number">(\d+)</td>', cells)[0])
        for caller, callee, cells in rows
    }


async def test_two_frontends_and_the_api_are_in_the_same_figures(
    open_shop: OpenShop, http: aiohttp.ClientSession
) -> None:
    shop = open_shop("--replicas", "frontend=2", environment={"SHIPPING_STEP_SECONDS": "0.2"})
    first, second = (process.url for process in shop.of_service("frontend"))
    customer = await Customer.register(Client(http, first))
    await customer.bought({LANTERN: 1})
    for url, pages in {first: 3, second: 5}.items():
        for _ in range(pages):
            async with http.get(f"{url}/products/{LANTERN}") as answer:
                assert answer.status == 200
            assert (await Client(http, url).send("GET", "/api/products")).status == 200

    async def quiet() -> dict[Edge, int] | None:
        """What both say once the parcel has arrived and nothing more happens."""
        at_first, at_second = await calls(http, first), await calls(http, second)
        is_delivered = at_first.get(("shipping", "notification"), 0) >= 2
        return at_first if is_delivered and at_first == at_second else None

    seen = await eventually(quiet, "both frontends show the same, the delivery included")
    assert seen["visitors", "frontend"] == 8
    assert seen["visitors", "product"] == 8
    assert seen["visitors", "order"] == 1
    assert seen["order", "payment"] >= 2


async def test_what_has_stopped_is_said_and_comes_back(
    shop: Shop, http: aiohttp.ClientSession
) -> None:
    async def says_so() -> bool:
        async with http.get(f"{shop.url}/mesh") as answer:
            return "<b>shipping</b> does not answer" in await answer.text()

    async def says_nothing() -> bool:
        return not await says_so()

    assert await says_nothing()
    shop.pause("shipping")
    try:
        await eventually(says_so, "the page says that shipping does not answer")
    finally:
        shop.resume("shipping")
    await eventually(says_nothing, "the page says nothing of shipping any more")
