"""Somebody who uses the shop's pages as a browser without scripts does: cookies, links, forms."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any, Self

import aiohttp
from yarl import URL

from tests.testkit.customer import ADDRESS, Items, Person

_NO_TEXT = frozenset({"script", "style", "noscript"})


@dataclass(slots=True)
class SentForm:
    """A form of a page with its hidden fields."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class ShownPage:
    """What a visitor sees; `path` is with its query."""

    status: int
    html: str
    headers: Mapping[str, str]
    path: str

    @property
    def text(self) -> str:
        """What a person reads."""
        return re.sub(r"\s+", " ", " ".join(_Reader(self.html).words))

    @property
    def tags(self) -> list[tuple[str, dict[str, str | None]]]:
        """All elements, with their attributes."""
        return _Reader(self.html).tags

    def elements(self, tag: str, **attributes: str) -> list[dict[str, Any]]:
        """The attributes of all elements of a name that have these among them."""
        return [
            found
            for name, found in self.tags
            if name == tag and attributes.items() <= found.items()
        ]

    def form(self, action: str, /, **fields: str) -> SentForm:
        """The first form with that action and those hidden fields.

        :raises AssertionError: there is none.
        """
        for form in _Reader(self.html).forms:
            if form.action == action and fields.items() <= form.fields.items():
                return form
        raise AssertionError(f"no form to {action} with {fields} on {self.path}: {self.text}")


class Visitor:
    """Somebody with cookies, nobody's at first.

    :param source_address: the address of this machine that they come from.
    """

    def __init__(self, base_url: str, *, source_address: str | None = None) -> None:
        self.base_url = base_url
        self.session = aiohttp.ClientSession(
            # Browsers keep cookies for hosts that are addresses; aiohttp does so on request.
            cookie_jar=aiohttp.CookieJar(unsafe=True),
            connector=aiohttp.TCPConnector(
                local_addr=None if source_address is None else (source_address, 0)
            ),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the browser."""
        await self.session.close()

    async def get(self, path: str, *, follow: bool = True, **headers: str) -> ShownPage:
        """Opens a page."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self._ask("GET", path, None, named, follow=follow)

    async def post(
        self,
        path: str,
        fields: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> ShownPage:
        """Sends fields that no page has given."""
        return await self._ask("POST", path, fields or {}, headers or {})

    async def send(self, form: SentForm, /, **fields: str) -> ShownPage:
        """Sends a form of a page, filled in, and goes where that leads."""
        return await self._send(form, fields, follow=True)

    async def send_only(self, form: SentForm, /, **fields: str) -> ShownPage:
        """Sends a form of a page and stays with its answer."""
        return await self._send(form, fields, follow=False)

    async def register(self, person: Person | None = None) -> Person:
        """Opens an account, somebody's or a new person's."""
        person = person or Person()
        page = await self.get("/register")
        page = await self.send(page.form("/register"), **person.registration())
        assert page.status == 200, page.text
        return person

    async def log_in(self, person: Person, onward: str = "/") -> ShownPage:
        """Begins a session of an account that exists, if it is let in."""
        page = await self.get(f"/login?next={onward}")
        return await self.send(page.form("/login"), **person.credentials())

    async def log_out(self) -> ShownPage:
        """Ends the session."""
        return await self.send((await self.get("/profile")).form("/logout"))

    async def add_to_cart(self, product_id: str, quantity: int = 1) -> ShownPage:
        """From the product's page into the cart."""
        page = await self.get(f"/products/{product_id}")
        return await self.send(page.form("/cart", action="add"), quantity=str(quantity))

    async def pay(self, payment_method: str = "pm_card_visa") -> ShownPage:
        """Orders what is in the cart, to the address of before where there is one."""
        page = await self.get("/checkout")
        if 'action="/checkout/address"' in page.html:
            page = await self.send(page.form("/checkout/address"), **ADDRESS)
        form = page.form("/checkout")
        return await self.send(form, payment_method=payment_method, shipping="standard")

    async def bought(self, items: Items) -> ShownPage:
        """Buys, which must succeed; the page of the order."""
        for product_id, quantity in items.items():
            await self.add_to_cart(product_id, quantity)
        page = await self.pay()
        assert page.path.startswith("/orders/ord_"), page.text
        return page

    def cookie(self, name: str) -> str | None:
        """A cookie's value."""
        for cookie in self.session.cookie_jar:
            if cookie.key == name:
                return cookie.value
        return None

    def set_cookie(self, name: str, value: str) -> None:
        """Changes a cookie, as its owner may."""
        self.session.cookie_jar.update_cookies({name: value}, URL(self.base_url))

    async def _send(self, form: SentForm, fields: Mapping[str, str], *, follow: bool) -> ShownPage:
        headers = {"origin": str(URL(self.base_url).origin())}
        given = {**form.fields, **fields}
        return await self._ask("POST", form.action, given, headers, follow=follow)

    async def _ask(
        self,
        method: str,
        path: str,
        data: Mapping[str, str] | None,
        headers: Mapping[str, str],
        *,
        follow: bool = True,
    ) -> ShownPage:
        async with self.session.request(
            method, self.base_url + path, data=data, headers=headers, allow_redirects=follow
        ) as answer:
            text = (await answer.read()).decode("utf-8", "replace")
            return ShownPage(answer.status, text, answer.headers, answer.url.path_qs)


class _Reader(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.forms: list[SentForm] = []
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._silent = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append((tag, given))
        self._silent += tag in _NO_TEXT
        if tag == "form":
            self.forms.append(SentForm(given.get("action") or "", given.get("method") or "get"))
        if tag == "input" and given.get("type") == "hidden" and self.forms:
            self.forms[-1].fields[given.get("name") or ""] = given.get("value") or ""

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in _NO_TEXT

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.words.append(data)
