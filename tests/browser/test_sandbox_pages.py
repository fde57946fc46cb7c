"""The sandbox's page with sliders, which is no page of the shop: whoever can open it can use it."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from stand_ins.stripe.faults_page import SLIDERS
from tests.browser.conftest import NewShopper
from tests.browser.pages import BOARD
from tests.testkit.customer import Customer
from tests.testkit.shop import Shop
from tests.testkit.usability import DESK, PHONE, problems_of

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("has_scripts", [True, False])
async def test_payments_are_broken_and_mended(
    new_shopper: NewShopper, shop: Shop, customer: Customer, has_scripts: bool
) -> None:
    presenter = await new_shopper(width=768, has_scripts=has_scripts)
    page, told = presenter.page, presenter.page.get_by_role("status")
    await presenter.open(f"{shop.sandbox_url}/faults")
    await expect(told).to_have_text("Now: no faults. Payments work.")

    slider = page.get_by_role("slider", name="Declined cards")
    await slider.press("End")
    if has_scripts:
        label = page.locator("label").filter(has_text="Declined cards")
        await expect(label).to_contain_text("100 %")
        await expect(slider).to_have_attribute("aria-valuetext", "100 %")
    await page.get_by_role("button", name="Set these faults").click()
    await expect(told).to_have_text("Now: 100 % declined.")
    assert (await customer.place({BOARD: 1})).status == 402

    await page.get_by_role("button", name="Take all back").click()
    await expect(told).to_have_text("Now: no faults. Payments work.")
    await customer.bought({BOARD: 1})


@pytest.mark.parametrize("width", [PHONE, DESK])
async def test_the_middle_of_a_scale_is_below_the_middle_of_its_slider(
    new_shopper: NewShopper, shop: Shop, width: int
) -> None:
    presenter = await new_shopper(width=width)
    await presenter.open(f"{shop.sandbox_url}/faults")
    offsets: list[float] = await presenter.page.locator(".field:has(.scale)").evaluate_all(
        """fields => fields.map((field) => {
          const middle = (one) => {
            const box = one.getBoundingClientRect();
            return box.left + box.width / 2;
          };
          const [slider, text] = [field.querySelector("input"), field.querySelectorAll("span")[2]];
          return middle(text) - middle(slider);
        })"""
    )
    assert len(offsets) == len(SLIDERS)
    assert all(abs(offset) < 1 for offset in offsets), offsets


async def test_everybody_can_use_the_faults(new_shopper: NewShopper, shop: Shop) -> None:
    presenter = await new_shopper()
    await presenter.open(f"{shop.sandbox_url}/faults")

    problems = await problems_of(presenter.page)

    assert not problems, "\n".join(problems)
