"""A person in front of a browser, who finds things by what they are called on the page."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from playwright.async_api import (
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Error,
    Locator,
    Page,
    Response,
    expect,
)

from tests.testkit.customer import ADDRESS, PASSWORD, Person

VISA = "Visa ending in 4242"
DECLINED_VISA = "Visa ending in 0002"

_ADDRESS_LABELS = {
    "name": "Full name",
    "street": "Street and house number",
    "postal_code": "Postal code",
    "city": "City",
}


class Shopper:
    """One window of a browser, and all that goes wrong in it.

    :param context: made for this person, with the shop as its base URL.
    """

    def __init__(self, context: BrowserContext, page: Page) -> None:
        self.context = context
        self.page = page
        self._complaints: list[tuple[str, str]] = []
        self._documents: set[str] = set()
        page.on("console", self._on_console)
        page.on("pageerror", self._on_page_error)
        page.on("dialog", self._on_dialog)
        page.on("response", self._on_response)

    @property
    def complaints(self) -> list[str]:
        """What the browser wrote to its console, uncaught errors, and dialogs that opened.

        That a page itself came with an error status, which Chromium notes too, is none of them.
        """
        return [
            f"{url}: {text}"
            for url, text in self._complaints
            if not (url in self._documents and text.startswith("Failed to load resource"))
        ]

    def forget_complaints(self) -> list[str]:
        """Takes the complaints so far as understood; gives them."""
        forgotten = self.complaints
        self._complaints.clear()
        return forgotten

    async def open(self, path: str) -> None:
        """Types an address."""
        await self.page.goto(path)

    async def register(self, name: str = "Ada Lovelace") -> None:
        """Opens an account with an e-mail address that nobody else has."""
        await self.open("/register")
        await self.give_name(name)

    async def give_name(self, name: str = "Ada Lovelace") -> None:
        """Fills in the form for an account and sends it."""
        person = Person(name)
        await self.page.get_by_label("Your name").fill(person.name)
        await self.page.get_by_label("E-mail address").fill(person.email)
        await self.page.get_by_label("Password").fill(person.password)
        await self.page.get_by_role("button", name="Open my account").click()
        await expect(self.page.get_by_role("status")).to_contain_text(
            f"Welcome to Meshmart, {name}"
        )

    async def log_in(self, email: str, password: str = PASSWORD) -> None:
        """Sends the form for logging in, whatever comes of it."""
        await self.open("/login")
        await self.page.get_by_label("E-mail address").fill(email)
        await self.page.get_by_label("Password").fill(password)
        await self.main.get_by_role("button", name="Log in").click()

    async def search(self, text: str) -> None:
        """Uses the search field."""
        await self.page.get_by_role("searchbox", name="Search the shop").fill(text)
        await self.page.get_by_role("button", name="Search").click()

    async def put_into_cart(self, product_id: str, quantity: int = 1) -> None:
        """Adds a product from its page; ends on the cart."""
        await self.open(f"/products/{product_id}")
        await self.page.get_by_label("Quantity").select_option(str(quantity))
        await self.page.get_by_role("button", name="Add to cart").click()
        await expect(self.page.get_by_role("heading", name="Your cart")).to_be_visible()

    async def give_address(self, address: Mapping[str, str] = ADDRESS) -> None:
        """Fills in an address, in Amsterdam's country unless it says another."""
        for name, label in _ADDRESS_LABELS.items():
            await self.main.get_by_label(label).fill(address[name])
        await self.main.get_by_label("Country").select_option(address["country"])

    async def go_to_payment(self, product_id: str, quantity: int = 1) -> None:
        """From the product to the last step of the checkout, with a new address; logged in."""
        await self.put_into_cart(product_id, quantity)
        await self.page.get_by_role("link", name="Go to checkout").click()
        await self.give_address()
        await self.page.get_by_role("button", name="Continue to payment").click()
        await expect(self.page.get_by_role("heading", name="Check and pay")).to_be_visible()

    async def order_as_guest(self, product_id: str) -> str:
        """From the product to a confirmed order, without an account; gives the order's id."""
        await self.put_into_cart(product_id)
        await self.page.get_by_role("link", name="Go to checkout").click()
        await self.main.get_by_label("E-mail address").fill(Person().email)
        await self.give_address()
        await self.page.get_by_role("button", name="Continue to payment").click()
        await self.pay()
        return await self.order_confirmed()

    async def bought(self, product_id: str, quantity: int = 1) -> str:
        """Buys, which must succeed, to a new address; gives the order's id."""
        await self.go_to_payment(product_id, quantity)
        await self.pay()
        return await self.order_confirmed()

    async def choose(self, card: str) -> None:
        """Chooses how to pay."""
        if card != VISA:
            await self.page.get_by_text("Try a declined payment").click()
        await self.page.get_by_role("radio", name=card).check()

    async def pay(self, card: str = VISA) -> None:
        """Chooses how to pay and presses the button."""
        await self.choose(card)
        await self.pay_button.click()

    async def order_confirmed(self) -> str:
        """Waits for the page that says so; gives the order's id."""
        await expect(self.page.get_by_role("heading", level=1)).to_contain_text("confirmed")
        return urlsplit(self.page.url).path.removeprefix("/orders/")

    @property
    def main(self) -> Locator:
        """The page without what stands on every page."""
        return self.page.get_by_role("main")

    @property
    def pay_button(self) -> Locator:
        """The one that costs money."""
        return self.page.get_by_role("button", name="Pay and order")

    @property
    def cart_link(self) -> Locator:
        """The way to the cart, with the number of things in it."""
        return self.page.get_by_role("navigation", name="Your account").get_by_role(
            "link", name="Cart"
        )

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self._complaints.append((message.location["url"], message.text))

    def _on_page_error(self, error: Error) -> None:
        self._complaints.append((self.page.url, f"uncaught: {error}"))

    async def _on_dialog(self, dialog: Dialog) -> None:
        self._complaints.append((self.page.url, f"opened a dialog: {dialog.message}"))
        await dialog.dismiss()

    def _on_response(self, response: Response) -> None:
        if response.request.is_navigation_request():
            self._documents.add(response.url)
