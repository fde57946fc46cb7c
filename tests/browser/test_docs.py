"""The documentation of the services' APIs works without the internet."""

from __future__ import annotations

import pytest
from playwright.async_api import ConsoleMessage, Request, expect

from tests.browser.conftest import NewShopper
from tests.testkit.shop import Shop

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_docs_show_and_try_operations(shop: Shop, new_shopper: NewShopper) -> None:
    url = shop.of_service("product")[0].internal_url
    page = (await new_shopper()).page
    said: list[str] = []
    asked: list[str] = []

    def on_console(message: ConsoleMessage) -> None:
        said.append(message.text)

    def on_request(request: Request) -> None:
        asked.append(request.url)

    page.on("console", on_console)
    page.on("request", on_request)
    await page.goto(f"{url}/docs")
    await expect(page.get_by_role("heading", name="product-service")).to_be_visible()
    operation = page.locator(".opblock-get").first
    await operation.locator(".opblock-summary").click()
    await operation.get_by_role("button", name="Try it out").click()
    await operation.get_by_role("button", name="Execute").click()
    await expect(operation.locator(".live-responses-table")).to_be_visible()
    closed = page.locator(".opblock-summary-control[aria-expanded='false']")
    for left in reversed(range(await closed.count())):
        await closed.first.click()
        await expect(closed).to_have_count(left)
    assert {each for each in asked if not each.startswith((url, "data:"))} == set()
    assert [each for each in said if "Content Security Policy" in each] == []
