"""Links in mails: opened in a browser with scripts, which takes the code from them, and typed in
without.
"""

from __future__ import annotations

import re
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as default_policy

import pytest
from playwright.async_api import expect

from tests.browser.conftest import NewShopper
from tests.testkit.customer import PASSWORD, Client, Customer
from tests.testkit.shop import Shop
from tests.testkit.shopper import Shopper
from tests.testkit.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

NEW_PASSWORD = "a battery that staples"


async def mailed_link(shop: Shop, email: str, path: str) -> str:
    """The link in the mail to somebody."""

    async def look() -> str | None:
        for file in (shop.data / "mails").glob("*.eml"):
            mail = message_from_bytes(file.read_bytes(), policy=default_policy)
            assert isinstance(mail, EmailMessage)
            if mail["To"] == email:
                link = re.search(rf"{re.escape(shop.url + path)}#[\w-]+", mail.get_content())
                if link:
                    return link[0]
        return None

    return await eventually(look, f"{email} has a mail with a link to {path}")


async def open_link(shopper: Shopper, link: str, has_scripts: bool) -> None:
    """Follows a link of a mail; without scripts the code is copied from the mail, too."""
    page, _, code = link.partition("#")
    await shopper.open(link)
    field = shopper.page.get_by_label("Code from the mail")
    if has_scripts:
        await expect(field).to_have_value(code)
        assert shopper.page.url == page, "the code is not left in the address bar"
    else:
        await field.fill(code)


@pytest.mark.parametrize("has_scripts", [True, False], ids=["with scripts", "without scripts"])
async def test_an_address_is_confirmed(
    has_scripts: bool, new_shopper: NewShopper, shop: Shop, customer: Customer
) -> None:
    shopper = await new_shopper(has_scripts=has_scripts)
    await shopper.log_in(customer.email)
    await shopper.open("/inbox")
    await expect(shopper.main).to_contain_text(f"Mails to {customer.email} wait")

    await open_link(shopper, await mailed_link(shop, customer.email, "/confirm"), has_scripts)
    await shopper.page.get_by_role("button", name="The address is mine").click()

    await expect(shopper.page.get_by_role("status")).to_contain_text("is confirmed")
    await expect(shopper.main).not_to_contain_text(f"Mails to {customer.email} wait")


@pytest.mark.parametrize("has_scripts", [True, False], ids=["with scripts", "without scripts"])
async def test_a_forgotten_password_is_set_anew(
    has_scripts: bool, new_shopper: NewShopper, shop: Shop, client: Client
) -> None:
    customer = await Customer.register(client)
    shopper = await new_shopper(has_scripts=has_scripts)
    await shopper.open("/login")
    await shopper.page.get_by_role("link", name="Forgot your password?").click()
    await shopper.page.get_by_label("E-mail address").fill(customer.email)
    await shopper.page.get_by_role("button", name="Mail me the link").click()
    await expect(shopper.page.get_by_role("status")).to_contain_text("If there is an account")

    await open_link(shopper, await mailed_link(shop, customer.email, "/password"), has_scripts)
    await shopper.page.get_by_label("New password").fill(NEW_PASSWORD)
    await shopper.page.get_by_role("button", name="Set it").click()

    await expect(shopper.page.get_by_role("status")).to_contain_text("Your new password is set")
    await shopper.log_in(customer.email, NEW_PASSWORD)
    await expect(shopper.page.get_by_role("status")).to_contain_text("Welcome back")


@pytest.mark.parametrize("path", ["/confirm", "/password"])
async def test_a_second_link_is_taken_in_the_same_tab(
    path: str, new_shopper: NewShopper, shop: Shop
) -> None:
    shopper = await new_shopper()
    field = shopper.page.get_by_label("Code from the mail")
    older, newer, newest = ("a" * 43, "b" * 43, "c" * 43)
    await open_link(shopper, f"{shop.url}{path}#{older}", True)
    await open_link(shopper, f"{shop.url}{path}#{newer}", True)

    if path == "/password":
        await shopper.page.get_by_label("New password").fill(NEW_PASSWORD)
    await shopper.page.get_by_role("main").get_by_role("button").click()
    await expect(shopper.main).to_contain_text("Please ask for a new link")
    await expect(field).to_have_value(newer)
    await shopper.page.evaluate("link => location.assign(link)", f"{shop.url}{path}#{newest}")
    await expect(field).to_have_value(newest)


async def test_a_password_is_changed(new_shopper: NewShopper, customer: Customer) -> None:
    shopper = await new_shopper()
    await shopper.log_in(customer.email)
    await shopper.open("/profile")
    await shopper.page.get_by_label("Your present password").fill(PASSWORD)
    await shopper.page.get_by_label("New password").fill(NEW_PASSWORD)
    await shopper.page.get_by_role("button", name="Change it").click()
    await expect(shopper.page.get_by_role("status")).to_contain_text("Your password is changed")
    await shopper.page.get_by_role("button", name="Log out").click()
    await shopper.log_in(customer.email, NEW_PASSWORD)
    await expect(shopper.page.get_by_role("status")).to_contain_text("Welcome back")
