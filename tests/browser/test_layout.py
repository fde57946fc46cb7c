"""Nothing lies on top of something else or is cut off, from the smallest phone to a desk; times are
the reader's own.
"""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from tests.browser.conftest import NewShopper
from tests.browser.pages import BOARD
from tests.harness.customer import Customer
from tests.harness.shop import Shop
from tests.harness.shopper import Shopper

pytestmark = pytest.mark.asyncio(loop_scope="session")

WIDTHS = (320, 360, 768, 1280)
# The dearest line that a cart can hold begins with four digits.
DEAR, MANY = "two-person-trail-tent", 10

_OVERLAPS = """() => {
  const shown = [...document.querySelectorAll("main :is(.price, .button, .button-link, input, h3)")]
    .filter((one) => one.checkVisibility() && !one.closest(".visually-hidden"));
  const met = [];
  for (const [n, one] of shown.entries()) for (const other of shown.slice(n + 1)) {
    if (one.contains(other) || other.contains(one)) continue;
    const [a, b] = [one.getBoundingClientRect(), other.getBoundingClientRect()];
    const beside = a.left >= b.right - 1 || b.left >= a.right - 1;
    const below = a.top >= b.bottom - 1 || b.top >= a.bottom - 1;
    if (!beside && !below) met.push(`${one.textContent.trim()} | ${other.textContent.trim()}`);
  }
  return met;
}"""


async def fits(page: Page) -> None:
    """Nothing scrolls sideways, and no price, button or field lies on another."""
    width: int = await page.evaluate("document.scrollingElement.scrollWidth")
    assert page.viewport_size is not None
    assert width <= page.viewport_size["width"]
    assert await page.evaluate(_OVERLAPS) == []


async def bottom_of(locator: Locator) -> float:
    """How far below the top of the window something ends."""
    box = await locator.bounding_box()
    assert box is not None
    return box["y"] + box["height"]


@pytest.mark.parametrize("width", WIDTHS)
async def test_a_dear_cart_and_its_header(
    new_shopper: NewShopper, customer: Customer, width: int
) -> None:
    shopper = await new_shopper(width=width)
    await shopper.log_in(customer.email)
    await expect(shopper.page.get_by_role("status")).to_contain_text("Welcome back")
    await shopper.put_into_cart(DEAR, MANY)
    await shopper.put_into_cart(BOARD)
    await fits(shopper.page)
    if width < 768:
        assert await bottom_of(shopper.page.locator("header.top")) <= 176  # of 640 and more
    await shopper.open("/")
    await fits(shopper.page)


@pytest.mark.parametrize("width", WIDTHS)
async def test_the_catalogue_with_its_filters(new_shopper: NewShopper, width: int) -> None:
    shopper = await new_shopper(width=width)
    await shopper.open("/products?q=lmap&min_price=10&in_stock=yes")
    await expect(shopper.main.get_by_role("link", name="lamp", exact=True)).to_be_visible()
    await fits(shopper.page)


@pytest.mark.parametrize("width", WIDTHS)
async def test_a_product_can_be_bought_on_the_first_screen_of_a_tablet(
    new_shopper: NewShopper, width: int
) -> None:
    shopper = await new_shopper(width=width)
    await shopper.open(f"/products/{DEAR}")
    await fits(shopper.page)
    if width >= 768:
        button = shopper.page.get_by_role("button", name="Add to cart")
        assert await bottom_of(button) <= 900
        assert await bottom_of(shopper.main.locator(".product-price")) <= 900


@pytest.mark.parametrize("width", WIDTHS)
async def test_the_graph_is_whole_on_a_tablet(new_shopper: NewShopper, width: int) -> None:
    shopper = await new_shopper(width=width)
    await shopper.open("/mesh")
    await fits(shopper.page)
    if width >= 768:
        hidden = "frame => frame.scrollWidth - frame.clientWidth"
        assert await shopper.page.locator(".graph-frame").evaluate(hidden) <= 0


async def test_times_are_the_readers_own(browser: Browser, shop: Shop, customer: Customer) -> None:
    order_id = await customer.bought({BOARD: 1})
    context = await browser.new_context(base_url=shop.url, timezone_id="Asia/Tokyo")
    shopper = Shopper(context, await context.new_page())
    await shopper.log_in(customer.email)
    await shopper.open(f"/orders/{order_id}")
    time = shopper.main.locator("dd time")
    at = datetime.fromisoformat(await time.get_attribute("datetime") or "")
    local = at.astimezone(ZoneInfo("Asia/Tokyo"))
    await expect(time).to_have_text(f"{local.day} {local:%B %Y, %H:%M} GMT+9")
    assert shopper.complaints == []
    await context.close()
