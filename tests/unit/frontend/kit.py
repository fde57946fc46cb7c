"""A browser without scripts: cookies, pages, and forms that are sent as they stand."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import aiohttp
from yarl import URL

from tests.unit.frontend.fakes import PASSWORD

SECRET = "a secret of the tests, long enough to sign with"


@dataclass(slots=True)
class SentForm:
    """A form of a page with its hidden fields."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict[str, str])


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[SentForm] = []
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append((tag, given))
        if tag in {"script", "style", "noscript"}:
            self._silent += 1
        if tag == "form":
            self.forms.append(SentForm(given.get("action") or "", given.get("method") or "get"))
        if tag == "input" and given.get("type") == "hidden" and self.forms:
            self.forms[-1].fields[given.get("name") or ""] = given.get("value") or ""

    def handle_endtag(self, tag: str) -> None:
        if tag in {"script", "style", "noscript"}:
            self._silent -= 1

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.words.append(data)


@dataclass(frozen=True, slots=True)
class ShownPage:
    """An answer to a browser."""

    status: int
    html: str
    headers: Mapping[str, str]
    path: str

    @property
    def text(self) -> str:
        """What a person reads."""
        return re.sub(r"\s+", " ", " ".join(self._read().words))

    @property
    def tags(self) -> list[tuple[str, dict[str, str | None]]]:
        """All elements, with their attributes."""
        return self._read().tags

    def form(self, action: str, /, **fields: str) -> SentForm:
        """The first form with that action and those hidden fields."""
        for form in self._read().forms:
            if form.action == action and fields.items() <= form.fields.items():
                return form
        raise AssertionError(f"no form to {action} with {fields} on {self.path}: {self.text}")

    def _read(self) -> _Reader:
        reader = _Reader()
        reader.feed(self.html)
        return reader


class Browser:
    """Somebody's browser."""

    def __init__(self, base_url: str, session: aiohttp.ClientSession) -> None:
        self.base_url = base_url
        self.session = session

    async def get(self, path: str, *, follow: bool = True, **headers: str) -> ShownPage:
        """Opens a page."""
        return await self._ask("GET", path, follow, None, _headers(headers))

    async def post(
        self,
        path: str,
        data: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> ShownPage:
        """Sends fields that no page has given."""
        return await self._ask("POST", path, True, data or {}, headers or {})

    async def send(self, form: SentForm, /, **fields: str) -> ShownPage:
        """Sends a form of a page, filled in, and goes where that leads."""
        return await self._ask("POST", form.action, True, {**form.fields, **fields}, {})

    async def send_only(self, form: SentForm, /, **fields: str) -> ShownPage:
        """Sends a form of a page and stays with its answer."""
        return await self._ask("POST", form.action, False, {**form.fields, **fields}, {})

    async def add_to_cart(self, product_id: str, quantity: int = 1) -> ShownPage:
        """From the product's page into the cart."""
        page = await self.get(f"/products/{product_id}")
        return await self.send(page.form("/cart", action="add"), quantity=str(quantity))

    async def log_in(self, onward: str = "/") -> ShownPage:
        """Logs in as Ada."""
        page = await self.get(f"/login?next={onward}")
        return await self.send(page.form("/login"), email="ada@example.com", password=PASSWORD)

    def cookie(self, name: str) -> str | None:
        """A cookie's value."""
        for cookie in self.session.cookie_jar:
            if cookie.key == name:
                return cookie.value
        return None

    def set_cookie(self, name: str, value: str) -> None:
        """Changes a cookie, as its owner may."""
        self.session.cookie_jar.update_cookies({name: value}, URL(self.base_url))

    async def _ask(
        self,
        method: str,
        path: str,
        follow: bool,
        data: Mapping[str, str] | None,
        headers: Mapping[str, str],
    ) -> ShownPage:
        async with self.session.request(
            method, self.base_url + path, data=data, headers=headers, allow_redirects=follow
        ) as answer:
            text = (await answer.read()).decode("utf-8", "replace")
            return ShownPage(answer.status, text, answer.headers, answer.url.path_qs)


def _headers(given: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in given.items()}


def address_fields(**changes: Any) -> dict[str, str]:
    """A filled-in address."""
    return {
        "name": "Ada Lovelace",
        "street": "Keizersgracht 123",
        "postal_code": "1015 CJ",
        "city": "Amsterdam",
        "country": "NL",
        **changes,
    }


def attributes(page: ShownPage, tag: str, **given: str) -> list[dict[str, Any]]:
    return [
        dict(found) for name, found in page.tags if name == tag and given.items() <= found.items()
    ]
