"""While a service is away its part of a page rests, and the rest of the page works."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from services.frontend.service import Storefront
from tests.unit.frontend.conftest import StartFrontend
from tests.unit.frontend.fakes import PASSWORD, Backends
from tests.unit.frontend.kit import Browser, address_fields

pytestmark = pytest.mark.asyncio(loop_scope="session")

RESTING = "This part of the shop is taking a short break"


async def test_without_inventory_the_cart_is_still_there(
    browser: Browser, backends: Backends
) -> None:
    await browser.add_to_cart("oak-board")
    backends.down = {"inventory"}
    page = await browser.get("/cart")
    assert page.status == 200
    assert "Stock is not known right now" in page.text
    assert "Go to checkout" in page.text


async def test_unknown_stock_of_a_product_is_said(browser: Browser, backends: Backends) -> None:
    backends.products["oak-board"]["available"] = None
    page = await browser.get("/products/oak-board")
    assert "Stock is not known right now" in page.text
    assert "Add to cart" in page.text


async def test_without_the_catalogue_the_shop_is_still_a_shop(
    browser: Browser, backends: Backends
) -> None:
    await browser.add_to_cart("oak-board", 2)
    backends.down = {"product"}
    assert "The catalogue is taking a short break" in (await browser.get("/")).text
    page = await browser.get("/products")
    assert page.status == 503
    assert RESTING in page.text
    assert page.headers["retry-after"]
    page = await browser.get("/cart")
    assert page.status == 200
    assert "Your cart is safe: 2 items" in page.text
    assert (await browser.get("/mesh")).status == 200
    backends.down = set()
    assert "€ 49.90" in (await browser.get("/cart")).text


async def test_without_auth_customers_go_on_and_guests_are_told(
    browser: Browser, backends: Backends
) -> None:
    login = (await browser.get("/login")).form("/login")
    backends.down = {"auth"}
    page = await browser.send(login, email="ada@example.com", password=PASSWORD)
    assert page.status == 503
    assert "Logging in is taking a short break" in page.text
    backends.down = set()
    await browser.log_in()
    backends.down = {"auth"}
    assert (await browser.get("/orders")).status == 200


async def test_without_auth_nobody_is_logged_out(browser: Browser, backends: Backends) -> None:
    await browser.log_in()
    browser.set_cookie("meshmart-access", backends.access_token(exp=1))
    backends.down = {"auth"}
    page = await browser.get("/orders")
    assert page.status == 503
    assert RESTING in page.text
    assert (await browser.get("/products")).status == 200
    backends.down = set()
    assert (await browser.get("/orders")).status == 200


async def test_a_frontend_that_never_saw_auth_still_sells(
    start_frontend: StartFrontend, new_browser: Callable[[str], Browser], backends: Backends
) -> None:
    browser = new_browser(await start_frontend())
    browser.set_cookie("meshmart-access", backends.access_token())
    browser.set_cookie("meshmart-refresh", "ses_1")
    backends.down = {"auth"}
    assert (await browser.get("/products/oak-board")).status == 200
    assert (await browser.get("/profile")).status == 503


async def test_without_user_an_order_is_still_possible(
    browser: Browser, backends: Backends
) -> None:
    await browser.log_in()
    await browser.add_to_cart("oak-board")
    backends.down = {"user"}
    page = await browser.get("/checkout")
    assert "Your address book is not available right now" in page.text
    page = await browser.send(page.form("/checkout/address"), **address_fields())
    assert "Check and pay" in page.text
    page = await browser.send(page.form("/checkout"), payment_method="pm_card_visa")
    assert "Thank you" in page.text


async def test_without_shipping_an_order_is_still_possible(
    browser: Browser, backends: Backends
) -> None:
    await browser.log_in()
    await browser.add_to_cart("oak-board")
    backends.down = {"shipping"}
    page = await browser.get("/checkout")
    page = await browser.send(page.form("/checkout/address"), **address_fields())
    assert "The price of delivery cannot be shown" in page.text
    page = await browser.send(page.form("/checkout"), payment_method="pm_card_visa")
    assert "Tracking is not available right now" in page.text


@pytest.mark.parametrize(
    ("service", "path"),
    [("order", "/orders"), ("notification", "/inbox"), ("user", "/profile")],
)
async def test_a_page_about_one_service_rests_with_it(
    browser: Browser, backends: Backends, service: str, path: str
) -> None:
    await browser.log_in()
    backends.down = {service}
    page = await browser.get(path)
    assert page.status == 503
    assert RESTING in page.text
    assert "Ada" in page.text
    assert ("a", {"class": "button", "href": path}) in page.tags


async def test_an_answer_that_makes_no_sense_is_no_crash(
    browser: Browser, backends: Backends
) -> None:
    backends.products["oak-board"]["price_cents"] = "a lot"
    assert (await browser.get("/products/oak-board")).status == 503
    assert (await browser.get("/")).status == 200


async def test_departments_are_asked_for_once_in_a_while(
    browser: Browser, backends: Backends
) -> None:
    for _ in range(4):
        await browser.get("/about")
    assert len(backends.calls_of("GET /api/categories")) <= 1


async def test_a_mistake_in_the_program_is_a_page_too(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(Storefront, "home", fail)
    page = await browser.get("/")
    assert page.status == 500
    assert "Something went wrong on our side" in page.text
    assert "a mistake" not in page.html
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
