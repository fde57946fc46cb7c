"""Script in text fields is text. A dialog, a blocked handler or a picture that is not there would
be a complaint of the window, and fail these tests when it closes.
"""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.testkit.shopper import Shopper
from tests.testkit.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

TAG = "<img src=x onerror=alert(1)>"
ATTRIBUTE = '"><script>alert(2)</script>'
# As long as a postal code may be, in a country whose form is not checked.
SHORT = "<svg onload=alert()>"
ADDRESS = {"name": ATTRIBUTE, "street": TAG, "postal_code": SHORT, "city": TAG, "country": "IE"}


async def test_in_a_name_an_address_and_an_order(shopper: Shopper) -> None:
    page = shopper.page

    await shopper.register(TAG)
    await shopper.put_into_cart("oak-serving-board")
    await page.get_by_role("link", name="Go to checkout").click()
    await expect(page.get_by_label("Full name")).to_have_value(TAG)
    await shopper.give_address(ADDRESS)
    await page.get_by_role("button", name="Continue to payment").click()
    await _shows(shopper, ATTRIBUTE, TAG, SHORT)
    await shopper.pay()
    await shopper.order_confirmed()
    await _shows(shopper, ATTRIBUTE, TAG, SHORT)

    await shopper.open("/inbox")
    await _shows(shopper, f"Hello {TAG}")
    await shopper.open("/profile")
    await _shows(shopper, ATTRIBUTE, TAG, SHORT)
    await expect(page.get_by_label("Name", exact=True)).to_have_value(TAG)
    await page.get_by_label("Name", exact=True).fill(ATTRIBUTE)
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_role("status")).to_contain_text("saved")
    await expect(page.get_by_label("Name", exact=True)).to_have_value(ATTRIBUTE)


@pytest.mark.parametrize("text", [TAG, ATTRIBUTE])
async def test_in_the_search(text: str, shopper: Shopper) -> None:
    await shopper.open("/")
    await shopper.search(text)
    await _shows(shopper, f"Results for “{text}”", f"Nothing found for “{text}”")
    await expect(shopper.page.get_by_role("searchbox")).to_have_value(text)
    await expect(shopper.page).to_have_title(f"“{text}” · Meshmart")


@pytest.mark.parametrize("text", [TAG, ATTRIBUTE])
async def test_in_refused_forms(text: str, shopper: Shopper) -> None:
    page = shopper.page

    await shopper.open("/register")
    await page.get_by_label("Your name").fill(text)
    await page.get_by_label("E-mail address").evaluate("field => { field.type = 'text' }")
    await page.get_by_label("E-mail address").fill(text)
    await page.get_by_label("Password").fill(text)
    await page.get_by_role("button", name="Open my account").click()

    await expect(page.get_by_role("alert")).to_contain_text("Enter an e-mail address like")
    await expect(page.get_by_label("Your name")).to_have_value(text)
    await expect(page.get_by_label("E-mail address")).to_have_value(text)
    await expect(page.get_by_label("Password")).to_have_value("")


async def test_a_broken_promise_would_be_noticed(shopper: Shopper) -> None:
    """The window does complain about what the tests above must not cause."""
    await shopper.open("/")
    await shopper.main.evaluate("(main, tag) => { main.innerHTML = tag }", TAG)

    async def both_are_noticed() -> bool:
        noticed = " ".join(shopper.complaints)
        return "Content Security Policy" in noticed and "404" in noticed

    await eventually(both_are_noticed, "the blocked handler and the missing picture are noticed")
    shopper.forget_complaints()


async def _shows(shopper: Shopper, *texts: str) -> None:
    for text in texts:
        await expect(shopper.main.get_by_text(text).first).to_be_visible()
