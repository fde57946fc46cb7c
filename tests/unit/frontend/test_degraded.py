"""While a service is away its part of a page rests, and the rest of the page works."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from services.frontend.service import Storefront
from tests.testkit.customer import address_fields
from tests.testkit.visitor import Visitor
from tests.unit.frontend.conftest import StartFrontend
from tests.unit.frontend.fakes import ADA, PASSWORD, Backends

pytestmark = pytest.mark.asyncio(loop_scope="session")

RESTING = "This part of the shop is taking a short break"


async def test_without_inventory_the_cart_is_still_there(
    visitor: Visitor, backends: Backends
) -> None:
    await visitor.add_to_cart("oak-board")
    backends.down = {"inventory"}
    page = await visitor.get("/cart")
    assert page.status == 200
    assert "Stock is not known right now" in page.text
    assert "Go to checkout" in page.text


async def test_unknown_stock_of_a_product_is_said(visitor: Visitor, backends: Backends) -> None:
    backends.products["oak-board"]["available"] = None
    page = await visitor.get("/products/oak-board")
    assert "Stock is not known right now" in page.text
    assert "Add to cart" in page.text


async def test_without_the_catalogue_the_shop_is_still_a_shop(
    visitor: Visitor, backends: Backends
) -> None:
    await visitor.add_to_cart("oak-board", 2)
    backends.down = {"product"}
    assert "The catalogue is taking a short break" in (await visitor.get("/")).text
    page = await visitor.get("/products")
    assert page.status == 503
    assert RESTING in page.text
    assert page.headers["retry-after"]
    page = await visitor.get("/cart")
    assert page.status == 200
    assert "Your cart is safe: 2 items" in page.text
    assert (await visitor.get("/mesh")).status == 200
    backends.down = set()
    assert "€ 49.90" in (await visitor.get("/cart")).text


async def test_without_auth_customers_go_on_and_guests_are_told(
    visitor: Visitor, backends: Backends
) -> None:
    login = (await visitor.get("/login")).form("/login")
    backends.down = {"auth"}
    page = await visitor.send(login, email="ada@example.com", password=PASSWORD)
    assert page.status == 503
    assert "Logging in is taking a short break" in page.text
    backends.down = set()
    await visitor.log_in(ADA)
    backends.down = {"auth"}
    assert (await visitor.get("/orders")).status == 200


async def test_without_auth_nobody_is_logged_out(visitor: Visitor, backends: Backends) -> None:
    await visitor.log_in(ADA)
    visitor.set_cookie("meshmart-access", backends.access_token(exp=1))
    backends.down = {"auth"}
    page = await visitor.get("/orders")
    assert page.status == 503
    assert RESTING in page.text
    assert (await visitor.get("/products")).status == 200
    backends.down = set()
    assert (await visitor.get("/orders")).status == 200


async def test_a_frontend_that_never_saw_auth_still_sells(
    start_frontend: StartFrontend, new_visitor: Callable[[str], Visitor], backends: Backends
) -> None:
    visitor = new_visitor(await start_frontend())
    visitor.set_cookie("meshmart-access", backends.access_token())
    visitor.set_cookie("meshmart-refresh", "ses_1")
    backends.down = {"auth"}
    assert (await visitor.get("/products/oak-board")).status == 200
    assert (await visitor.get("/profile")).status == 503


async def test_without_user_an_order_is_still_possible(
    visitor: Visitor, backends: Backends
) -> None:
    await visitor.log_in(ADA)
    await visitor.add_to_cart("oak-board")
    backends.down = {"user"}
    page = await visitor.get("/checkout")
    assert "Your address book is not available right now" in page.text
    page = await visitor.send(page.form("/checkout/address"), **address_fields())
    assert "Check and pay" in page.text
    page = await visitor.send(page.form("/checkout"), payment_method="pm_card_visa")
    assert "Thank you" in page.text


async def test_without_shipping_an_order_is_still_possible(
    visitor: Visitor, backends: Backends
) -> None:
    await visitor.log_in(ADA)
    await visitor.add_to_cart("oak-board")
    backends.down = {"shipping"}
    page = await visitor.get("/checkout")
    page = await visitor.send(page.form("/checkout/address"), **address_fields())
    assert "The price of delivery cannot be shown" in page.text
    page = await visitor.send(page.form("/checkout"), payment_method="pm_card_visa")
    assert "Tracking is not available right now" in page.text


@pytest.mark.parametrize(
    ("service", "path"),
    [("order", "/orders"), ("notification", "/inbox"), ("user", "/profile")],
)
async def test_a_page_about_one_service_rests_with_it(
    visitor: Visitor, backends: Backends, service: str, path: str
) -> None:
    await visitor.log_in(ADA)
    backends.down = {service}
    page = await visitor.get(path)
    assert page.status == 503
    assert RESTING in page.text
    assert "Ada" in page.text
    assert ("a", {"class": "button", "href": path}) in page.tags


async def test_an_answer_that_makes_no_sense_is_no_crash(
    visitor: Visitor, backends: Backends
) -> None:
    backends.products["oak-board"]["price_cents"] = "a lot"
    assert (await visitor.get("/products/oak-board")).status == 503
    assert (await visitor.get("/")).status == 200


async def test_departments_are_asked_for_once_in_a_while(
    visitor: Visitor, backends: Backends
) -> None:
    for _ in range(4):
        await visitor.get("/about")
    assert len(backends.calls_of("GET /api/categories")) <= 1


async def test_a_mistake_in_the_program_is_a_page_too(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(Storefront, "home", fail)
    page = await visitor.get("/")
    assert page.status == 500
    assert "Something went wrong on our side" in page.text
    assert "a mistake" not in page.html
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
