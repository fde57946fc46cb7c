"""Without a mouse."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Locator, expect

from tests.testkit.customer import ADDRESS, PASSWORD, Customer
from tests.testkit.shopper import Shopper

pytestmark = pytest.mark.asyncio(loop_scope="session")

_MOST_STOPS = 90

# What has the focus, whether it is `target`, and whether a person can see that: an outline of it,
# of its label, or of the card or row that it stretches over; and not outside of the window.
_FOCUS = """target => {
  const focused = document.activeElement;
  const area = focused.getBoundingClientRect();
  const bearers = [focused, focused.nextElementSibling];
  for (let one = focused.parentElement; one && one.tagName !== "MAIN"; one = one.parentElement) {
    bearers.push(one);
  }
  const isOutlined = bearers.some((one) => {
    if (!one) return false;
    const style = getComputedStyle(one);
    return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
  });
  const isInside = area.bottom > 0 && area.top < innerHeight && area.right > 0
    && area.left < innerWidth && area.width > 0;
  return {
    isThere: focused === target,
    isVisible: isOutlined && isInside,
    what: focused.outerHTML.slice(0, 160),
  };
}"""


async def test_a_purchase(shopper: Shopper, customer: Customer) -> None:
    page, keyboard = shopper.page, shopper.page.keyboard

    await shopper.open("/login")
    await _tab_to(shopper, page.get_by_label("E-mail address"))
    await keyboard.type(customer.email)
    await _tab_to(shopper, page.get_by_label("Password"))
    await keyboard.type(PASSWORD)
    await keyboard.press("Enter")
    await expect(page.get_by_role("status")).to_contain_text("Welcome back")

    await _tab_to(shopper, page.get_by_role("searchbox"))
    await keyboard.type("oak serving")
    await keyboard.press("Enter")
    await _tab_to(shopper, page.get_by_role("link", name="Oak Serving Board"))
    await keyboard.press("Enter")
    await _tab_to(shopper, page.get_by_role("button", name="Add to cart"))
    await keyboard.press("Space")
    await _tab_to(shopper, page.get_by_role("link", name="Go to checkout"))
    await keyboard.press("Enter")

    for label, text in (
        ("Full name", ADDRESS["name"]),
        ("Street and house number", ADDRESS["street"]),
        ("Postal code", "9000"),
        ("City", "Gent"),
    ):
        await _tab_to(shopper, shopper.main.get_by_label(label))
        await keyboard.press("ControlOrMeta+a")
        await keyboard.type(text)
    await _tab_to(shopper, shopper.main.get_by_label("Country"))
    await keyboard.type("Belg")
    await _tab_to(shopper, page.get_by_role("button", name="Continue to payment"))
    await keyboard.press("Enter")

    await expect(shopper.main).to_contain_text("Belgium")
    await _tab_to(shopper, page.get_by_role("radio", name="Visa ending in 4242"))
    await keyboard.press("ArrowDown")
    await expect(page.get_by_role("radio", name="Mastercard")).to_be_checked()
    await _tab_to(shopper, shopper.pay_button)
    await keyboard.press("Space")
    await shopper.order_confirmed()


async def test_the_first_stop_leads_past_the_navigation(shopper: Shopper) -> None:
    page = shopper.page
    await shopper.open("/")
    skip = page.get_by_role("link", name="Skip to the content")

    await _tab_to(shopper, skip, most_stops=1)
    await expect(skip).to_be_in_viewport(ratio=1)
    await page.keyboard.press("Enter")

    await expect(shopper.main).to_be_focused()
    await _tab_to(shopper, shopper.main.get_by_role("link").first, most_stops=1)


async def test_after_an_error_the_focus_is_on_what_is_wrong(shopper: Shopper) -> None:
    page = shopper.page
    await shopper.log_in("nobody@example.com", "not the password")

    await expect(page.get_by_role("alert")).to_be_focused()
    link = page.get_by_role("alert").get_by_role("link")
    await _tab_to(shopper, link, most_stops=1)
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("E-mail address")).to_be_focused()


async def _tab_to(shopper: Shopper, target: Locator, most_stops: int = _MOST_STOPS) -> None:
    """Presses Tab until the focus is there. It must be visible at every stop on the way."""
    await expect(target).to_be_attached()
    handle = await target.element_handle()
    for _ in range(most_stops):
        await shopper.page.keyboard.press("Tab")
        focus: dict[str, Any] = await shopper.page.evaluate(_FOCUS, handle)
        assert focus["isVisible"], f"nobody sees the focus on {focus['what']}"
        if focus["isThere"]:
            return
    pytest.fail(f"not reached with {most_stops} times Tab: {target}")
