"""The frontend's variants and the next version of the catalogue, each in a shop of its own."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from playwright.async_api import expect

from tests.browser.conftest import NewShopper
from tests.testkit.shop import Shop
from tests.testkit.usability import problems_of

pytestmark = pytest.mark.asyncio(loop_scope="session")

BOARD = "/products/oak-serving-board"
ONLY = ("--only", "frontend,auth,user,product,inventory")


@pytest.fixture(scope="module")
def mobile_shop(tmp_path_factory: pytest.TempPathFactory) -> Generator[Shop]:
    """For phones, with the catalogue of product v2."""
    changes = ("--variants", "frontend=mobile-optimized", "--versions", "product=v2")
    with Shop(tmp_path_factory.mktemp("mobile"), *ONLY, *changes) as shop:
        yield shop


@pytest.fixture(scope="module")
def beta_shop(tmp_path_factory: pytest.TempPathFactory) -> Generator[Shop]:
    """For those who try new things."""
    changes = ("--variants", "frontend=beta-features")
    with Shop(tmp_path_factory.mktemp("beta"), *ONLY, *changes) as shop:
        yield shop


async def test_mobile_optimized_has_a_bar_for_the_thumb(
    new_shopper: NewShopper, mobile_shop: Shop
) -> None:
    usual = await new_shopper(width=390)
    mobile = await new_shopper(width=390, shop=mobile_shop)
    await usual.open("/products")
    await mobile.open("/products")

    bar = mobile.page.get_by_role("navigation", name="Main")
    await expect(bar.get_by_role("link", name="Cart")).to_be_in_viewport(ratio=1)
    await expect(usual.page.get_by_role("navigation", name="Main")).to_have_count(0)
    articles = "document.querySelectorAll('.card').length"
    assert await mobile.page.evaluate(articles) < await usual.page.evaluate(articles)
    await mobile.open("/")
    assert await problems_of(mobile.page) == []


async def test_product_v2_looks_different(new_shopper: NewShopper, mobile_shop: Shop) -> None:
    usual = await new_shopper()
    preview = await new_shopper(shop=mobile_shop)
    await usual.open(BOARD)
    await preview.open(BOARD)

    asked = await new_shopper(shop=mobile_shop)
    await asked.open(BOARD)
    await asked.page.get_by_role("button", name="Preview the new catalogue").click()
    await expect(
        asked.page.get_by_text("You see the preview of our new catalogue.")
    ).to_be_visible()
    await expect(preview.main.get_by_text("Preview", exact=True)).to_be_visible()
    await expect(usual.main.get_by_text("Preview", exact=True)).to_have_count(0)
    await expect(preview.main.get_by_text("Sustainability").first).to_be_attached()
    await expect(usual.main.get_by_text("Sustainability")).to_have_count(0)
    await preview.page.get_by_text("How this page was made").click()
    calls = preview.page.get_by_role("region", name="Calls made for this page")
    await expect(calls.get_by_role("row").filter(has_text="product").first).to_contain_text("v2")
    assert await problems_of(preview.page) == []


async def test_beta_features_shows_new_things(new_shopper: NewShopper, beta_shop: Shop) -> None:
    usual = await new_shopper()
    beta = await new_shopper(shop=beta_shop)
    await usual.open("/products")
    await expect(usual.page.get_by_role("button", name="Quick add")).to_have_count(0)
    await beta.open(BOARD)
    await beta.open("/products?q=oak")

    await beta.page.get_by_role("button", name="Quick add Oak Serving Board").click()

    await expect(beta.cart_link).to_have_accessible_name("Cart 1 item")
    assert beta.page.url.endswith("/products?q=oak")
    await beta.open("/")
    await expect(beta.page.get_by_role("heading", name="Recently viewed beta")).to_be_visible()
    assert await problems_of(beta.page) == []
