"""Somebody who uses the shop's pages as a browser without scripts does: cookies, links, forms."""

from __future__ import annotations

from collections.abc import Mapping
from html.parser import HTMLParser
from types import TracebackType
from typing import Self

import aiohttp
from yarl import URL

from tests.testkit.customer import ADDRESS, PASSWORD


class Visitor:
    """Keeps cookies, and the page that was shown last.

    ``status``, ``url`` and ``html`` are those of that page.

    :param source_address: the address of this machine that they come from.
    """

    def __init__(self, base_url: str, *, source_address: str | None = None) -> None:
        self._base_url = URL(base_url)
        self._session = aiohttp.ClientSession(
            # Browsers keep cookies for hosts that are addresses; aiohttp wants to be told to.
            cookie_jar=aiohttp.CookieJar(unsafe=True),
            connector=aiohttp.TCPConnector(
                local_addr=None if source_address is None else (source_address, 0)
            ),
        )
        self.status = 0
        self.url = self._base_url
        self.html = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the browser."""
        await self._session.close()

    async def open(self, path: str) -> None:
        """Goes to a page."""
        await self._show("GET", path)

    async def submit(self, action: str, fields: Mapping[str, str] | None = None) -> None:
        """Fills in and sends the first form of this page that posts to `action`."""
        await self.post(action, {**self.hidden(action), **(fields or {})})

    def hidden(self, action: str) -> Mapping[str, str]:
        """The hidden fields of the first form of this page that posts to `action`."""
        forms = _Forms(self.html).hidden
        assert action in forms, f"no form posts to {action} at {self.url}:\n{self.html}"
        return forms[action]

    async def post(self, path: str, fields: Mapping[str, str], origin: str | None = None) -> None:
        """Sends fields as a form does, be it one of the shop's pages or of another site's.

        :param origin: where the form's page came from; without it, from the shop.
        """
        await self._show("POST", path, fields, {"origin": origin or str(self._base_url.origin())})

    async def register(self, email: str, name: str = "Ada Lovelace") -> None:
        """Opens an account."""
        await self.open("/register")
        await self.submit("/register", {"email": email, "password": PASSWORD, "name": name})
        assert self.status == 200, self.html

    async def add_to_cart(self, product_id: str) -> None:
        """Puts one piece into the cart."""
        await self.open(f"/products/{product_id}")
        await self.submit("/cart", {"quantity": "1"})
        assert self.status == 200, self.html

    async def pay(self, payment_method: str = "pm_card_visa") -> None:
        """Orders what is in the cart, to the address of before where there is one."""
        await self.open("/checkout")
        if "/checkout/address" in _Forms(self.html).hidden:
            await self.submit("/checkout/address", ADDRESS)
        fields = {"payment_method": payment_method, "shipping": "standard"}
        await self.submit("/checkout", fields)

    async def log_in(self, email: str) -> None:
        """Begins a session of an account that exists."""
        await self.open("/login")
        await self.submit("/login", {"email": email, "password": PASSWORD})
        assert self.status == 200, self.html

    async def _show(
        self,
        method: str,
        path: str,
        fields: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        url = self._base_url.join(URL(path))
        async with self._session.request(method, url, data=fields, headers=headers) as response:
            self.status, self.url = response.status, response.url
            self.html = await response.text()


class _Forms(HTMLParser):
    """The hidden fields of each form that posts, by its action."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.hidden: dict[str, dict[str, str]] = {}
        self._current: dict[str, str] | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._current = {}
            if attributes.get("method", "get").lower() == "post":
                self.hidden.setdefault(attributes["action"], self._current)
        elif tag == "input" and attributes.get("type") == "hidden" and self._current is not None:
            self._current[attributes["name"]] = attributes["value"]

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._current = None
