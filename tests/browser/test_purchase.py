"""Buying something, as people do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
from playwright.async_api import Locator, expect

from tests.browser.conftest import NewShopper
from tests.testkit.books import Books
from tests.testkit.customer import ADDRESS, PASSWORD, Customer
from tests.testkit.shopper import DECLINED_VISA, Shopper

pytestmark = pytest.mark.asyncio(loop_scope="session")

BOARD, LANTERN = "oak-serving-board", "camp-lantern"


async def test_from_the_first_page_to_the_parcel_at_the_door(
    shopper: Shopper, books: Books
) -> None:
    page = shopper.page

    await shopper.open("/")
    await page.get_by_role("link", name="Log in").click()
    await page.get_by_role("link", name="Open an account").click()
    await shopper.give_name()
    await shopper.search("oak board")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Results for “oak board”")
    await page.get_by_role("link", name="Oak Serving Board").click()
    await page.get_by_label("Quantity").select_option("2")
    await page.get_by_role("button", name="Add to cart").click()
    await expect(shopper.cart_link).to_have_accessible_name("Cart 2 items")
    await page.get_by_role("link", name="Go to checkout").click()
    await shopper.give_address()
    await page.get_by_role("button", name="Continue to payment").click()
    await expect(shopper.main).to_contain_text(ADDRESS["street"])
    await shopper.pay()
    order_id = await shopper.order_confirmed()

    await expect(shopper.cart_link).to_have_accessible_name("Cart")
    await page.evaluate("window.isSamePage = true")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Delivered. Enjoy!")
    assert await page.evaluate("window.isSamePage"), "the status came by a reload, not by itself"
    total = await page.locator(".sum .price").inner_text()

    await page.get_by_role("link", name="Inbox").click()
    message = _message(shopper, "is confirmed")
    await expect(message).to_contain_text(f" {total} ")
    assert await message.get_by_role("link").get_attribute("href") == f"/orders/{order_id}"
    await page.get_by_role("link", name="Orders").click()
    await expect(shopper.main.get_by_role("listitem")).to_contain_text(total)
    await books.settled()
    assert len((await books.ledger()).charges(order_id)) == 1


async def test_the_page_after_paying_shows_who_made_the_order(
    shopper: Shopper, customer: Customer
) -> None:
    await shopper.log_in(customer.email)
    await shopper.bought(LANTERN)

    panel = shopper.page.get_by_role("complementary", name="How this page was made")
    await panel.get_by_text("How this page was made").click()

    services = await panel.get_by_role("rowheader").all_inner_texts()
    named = {text.split()[-1] for text in services}
    assert {"order", "payment", "inventory", "shipping"} <= named
    await expect(panel.locator("[data-trace-id]").first).to_have_text(re.compile("[0-9a-f]{32}"))


async def test_a_declined_card_costs_nothing_and_another_card_works(
    shopper: Shopper, customer: Customer, books: Books
) -> None:
    before = await books.stock(LANTERN)
    await shopper.log_in(customer.email)
    await shopper.go_to_payment(LANTERN, 3)

    await shopper.pay(DECLINED_VISA)

    await expect(shopper.page.get_by_role("alert")).to_contain_text(
        "The bank declined this card. You were not charged. Please choose another way to pay"
    )
    await expect(shopper.cart_link).to_have_accessible_name("Cart 3 items")
    await books.settled()
    ledger = await books.ledger()
    [refused] = await _orders(customer)
    assert (refused["state"], ledger.charges(refused["order_id"])) == ("cancelled", [])
    stock = await books.stock(LANTERN)
    assert (stock.available, stock.reserved) == (before.available, 0)

    await shopper.pay()

    order_id = await shopper.order_confirmed()
    await expect(shopper.cart_link).to_have_accessible_name("Cart")
    await books.settled()
    assert len((await books.ledger()).charges(order_id)) == 1
    assert (await books.stock(LANTERN)).available == before.available - 3
    await shopper.open("/orders")
    await expect(shopper.main.get_by_role("listitem")).to_contain_text(order_id)
    await shopper.page.get_by_role("link", name="Orders that were not placed").click()
    [attempt] = await shopper.main.get_by_role("list").filter(has_text="declined").all()
    await expect(attempt).to_contain_text(refused["order_id"])
    assert {message["order_id"] for message in await customer.inbox()} == {order_id}


async def test_everything_works_without_scripts(new_shopper: NewShopper) -> None:
    shopper = await new_shopper(has_scripts=False)
    page = shopper.page

    await shopper.register()
    await shopper.search("oak board")
    await page.get_by_role("link", name="Oak Serving Board").click()
    await page.get_by_role("button", name="Add to cart").click()
    await page.get_by_label("Quantity of Oak Serving Board").fill("2")
    await page.get_by_role("button", name="Update Oak Serving Board").click()
    await expect(shopper.cart_link).to_have_accessible_name("Cart 2 items")
    await page.get_by_role("link", name="Go to checkout").click()
    await shopper.give_address()
    await page.get_by_role("button", name="Continue to payment").click()
    await shopper.pay(DECLINED_VISA)
    await expect(page.get_by_role("alert")).to_contain_text("You were not charged")
    await shopper.pay()
    await shopper.order_confirmed()

    await shopper.open("/inbox")
    await expect(_message(shopper, "is confirmed")).to_be_visible()


@pytest.mark.parametrize("has_scripts", [True, False], ids=["with scripts", "without scripts"])
async def test_a_guest_orders_and_keeps_the_account_by_choice(
    has_scripts: bool, new_shopper: NewShopper, books: Books
) -> None:
    shopper = await new_shopper(has_scripts=has_scripts)
    page = shopper.page

    order_id = await shopper.order_as_guest(LANTERN)

    await page.get_by_role("link", name="Set a password to keep your account").click()
    email = await page.get_by_label("You log in with").input_value()
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Set my password").click()
    await expect(page.get_by_role("status")).to_contain_text("yours to keep")
    other = await new_shopper(has_scripts=has_scripts)
    await other.log_in(email)
    await other.open("/orders")
    await expect(other.main.get_by_role("listitem")).to_contain_text(order_id)
    await books.settled()
    assert len((await books.ledger()).charges(order_id)) == 1


@pytest.mark.parametrize("has_scripts", [True, False], ids=["with scripts", "without scripts"])
async def test_pressing_twice_buys_once(
    has_scripts: bool, new_shopper: NewShopper, customer: Customer, books: Books
) -> None:
    """Without scripts both presses reach the shop, under the same idempotency key."""
    shopper = await new_shopper(has_scripts=has_scripts)
    await shopper.log_in(customer.email)
    await shopper.go_to_payment(LANTERN)

    await shopper.pay_button.dblclick(no_wait_after=True)

    order_id = await shopper.order_confirmed()
    await books.settled()
    assert [order["order_id"] for order in await _orders(customer)] == [order_id]
    assert len((await books.ledger()).charges(order_id)) == 1


async def _orders(customer: Customer) -> list[Mapping[str, Any]]:
    answer = await customer.send("GET", "/api/orders")
    assert answer.status == 200, answer
    return answer.body["items"]


def _message(shopper: Shopper, subject: str) -> Locator:
    return shopper.main.get_by_role("listitem").filter(
        has=shopper.page.get_by_role("heading", name=subject)
    )
