"""One shop and one browser for all tests of the pages; a window of its own for each test.

Everything here lives on the loop of the session, as Playwright's objects belong to one loop.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import Literal, Protocol

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, expect

from tests.testkit.books import Books, open_books
from tests.testkit.browser import MISSING, chromium, open_browser
from tests.testkit.customer import Client, Customer
from tests.testkit.shop import Shop
from tests.testkit.shopper import Shopper

STEP_SECONDS = 0.5
_TIMEOUT_MS = 60_000.0


class NewShopper(Protocol):
    """Somebody else with a browser of their own."""

    async def __call__(
        self,
        *,
        width: int = 1280,
        has_scripts: bool = True,
        color_scheme: Literal["light", "dark"] = "light",
        shop: Shop | None = None,
    ) -> Shopper: ...


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Generator[Shop]:
    """The shop of all these tests. Its parcels arrive within seconds."""
    environment = {
        "SHIPPING_STEP_SECONDS": str(STEP_SECONDS),
        "NETWORK_LINK_MAILS_PER_HOUR": "10000",  # all people of these tests come from one machine
    }
    with Shop(tmp_path_factory.mktemp("shop"), environment=environment) as shop:
        yield shop


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncGenerator[Browser]:
    """Chromium. Without it, these tests are skipped, which is a failure on CI."""
    executable = chromium()
    if executable is None:
        pytest.skip(MISSING)
    expect.set_options(timeout=_TIMEOUT_MS)
    async with open_browser(executable) as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="session")
async def new_shopper(browser: Browser, shop: Shop) -> AsyncGenerator[NewShopper]:
    """Gives people a browser. At the end, no console of theirs may hold an error."""
    shoppers: list[Shopper] = []
    contexts: list[BrowserContext] = []
    shared_shop = shop

    async def new(
        *,
        width: int = 1280,
        has_scripts: bool = True,
        color_scheme: Literal["light", "dark"] = "light",
        shop: Shop | None = None,
    ) -> Shopper:
        context = await browser.new_context(
            base_url=(shop or shared_shop).url,
            viewport={"width": width, "height": 900},
            java_script_enabled=has_scripts,
            color_scheme=color_scheme,
            reduced_motion="reduce",
        )
        contexts.append(context)
        context.set_default_timeout(_TIMEOUT_MS)
        shopper = Shopper(context, await context.new_page())
        shoppers.append(shopper)
        return shopper

    yield new
    for context in contexts:
        await context.close()
    complaints = [complaint for shopper in shoppers for complaint in shopper.complaints]
    assert not complaints, "\n".join(complaints)


@pytest_asyncio.fixture(loop_scope="session")
async def shopper(new_shopper: NewShopper) -> Shopper:
    """Somebody at a desk."""
    return await new_shopper()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def client(shop: Shop) -> AsyncGenerator[Client]:
    """The same shop's API."""
    async with aiohttp.ClientSession() as session:
        yield Client(session, shop.url)


@pytest_asyncio.fixture(loop_scope="session")
async def customer(client: Client) -> Customer:
    """Somebody with an account, not logged in anywhere yet."""
    return await Customer.register(client)


@pytest_asyncio.fixture(loop_scope="session")
async def books(shop: Shop) -> AsyncGenerator[Books]:
    """The shop's books."""
    async with open_books(shop) as books:
        yield books
