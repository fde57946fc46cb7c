"""Those who use the shop from outside: who they are, and those of them who come by its API.

A customer comes by one of three ways: the API (:class:`Customer`), the pages without scripts
(:class:`tests.testkit.visitor.Visitor`), or a browser (:class:`tests.testkit.shopper.Shopper`).
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from services.common.call_record import HEADER
from tests.testkit.hunt import check
from tests.testkit.waiting import eventually

ADDRESS: Mapping[str, str] = {
    "name": "Ada Lovelace",
    "street": "Keizersgracht 123",
    "postal_code": "1015 CJ",
    "city": "Amsterdam",
    "country": "NL",
}
PASSWORD = "correct horse battery"

# Still being worked on, or nobody there to say.
_NOT_FINAL = frozenset({202, 502, 503, 504})

Items = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with an e-mail address that nobody else has, unless one is given."""

    name: str = "Ada Lovelace"
    email: str = field(default_factory=lambda: f"{uuid.uuid4().hex}@example.com")
    password: str = PASSWORD

    def credentials(self) -> dict[str, str]:
        """What they log in with."""
        return {"email": self.email, "password": self.password}

    def registration(self) -> dict[str, str]:
        """What they open an account with."""
        return {**self.credentials(), "name": self.name}


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; `body` is its JSON, or None when it has none, and `text` is all of it."""

    status: int
    body: Any
    headers: Mapping[str, str]
    text: str

    @property
    def code(self) -> str:
        """The stable code of a problem."""
        return self.body["code"]


class Client:
    """Makes requests to one base URL."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str) -> None:
        self.base_url = base_url
        self._session = session

    async def send(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        data: bytes | None = None,
        query: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request and its whole answer. Redirects are not followed."""
        async with self._session.request(
            method,
            self.base_url + path,
            json=json,
            data=data,
            params=query,
            headers=headers,
            allow_redirects=False,
        ) as response:
            text = await response.text(errors="replace")
            check(response.headers.get(HEADER, "").encode(), f"{HEADER} of {method} {path}")
            body: Any = orjson.loads(text) if "json" in response.content_type and text else None
            return Answer(response.status, body, response.headers, text)

    async def text(self, path: str) -> str:
        """What is at a path, as text."""
        async with self._session.get(self.base_url + path) as response:
            assert response.status == 200, response
            return await response.text()

    def at(self, base_url: str) -> Client:
        """The same client at another URL."""
        return Client(self._session, base_url)


class Customer:
    """Somebody with an account."""

    def __init__(self, client: Client, tokens: Mapping[str, Any], person: Person) -> None:
        self.client = client
        self.person = person
        self.token: str = tokens["access_token"]
        self.user_id: str = claims_of(self.token)["sub"]

    @classmethod
    async def register(cls, client: Client, name: str = "Ada Lovelace") -> Customer:
        """Opens an account with an address that nobody else has."""

        async def look() -> Customer | None:
            person = Person(name)
            answer = await client.send("POST", "/api/auth/register", json=person.registration())
            if answer.status in _NOT_FINAL:
                return None
            assert answer.status == 201, answer
            return cls(client, answer.body, person)

        return await eventually(look, "somebody can register")

    async def logged_in_again(self) -> Customer:
        """The same person with a new token, which says what has changed meanwhile."""
        credentials = self.person.credentials()
        answer = await self.client.send("POST", "/api/auth/login", json=credentials)
        assert answer.status == 200, answer
        return Customer(self.client, answer.body, self.person)

    @property
    def email(self) -> str:
        """The address of the account."""
        return self.person.email

    async def send(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **request: Any
    ) -> Answer:
        """A request in the customer's name."""
        own = {"authorization": f"Bearer {self.token}", **(headers or {})}
        return await self.client.send(method, path, headers=own, **request)

    async def place(
        self, items: Items, *, payment_method: str = "pm_card_visa", key: str | None = None
    ) -> Answer:
        """Places an order, under a new idempotency key unless one is given."""
        return await self.send(
            "POST",
            "/api/orders",
            json=order_body(items, payment_method=payment_method),
            headers={"idempotency-key": key or uuid.uuid4().hex},
        )

    async def insist(self, items: Items, key: str) -> Answer:
        """Places an order and repeats the request under its key until there is a final answer, as a
        client does that has lost one.
        """

        async def look() -> Answer | None:
            try:
                answer = await self.place(items, key=key)
            except aiohttp.ClientError:
                return None
            return None if answer.status in _NOT_FINAL else answer

        return await eventually(look, f"a final answer to the order {key}", 60)

    async def bought(self, items: Items) -> str:
        """Places an order that must succeed, however slow the shop is; gives its id."""
        answer = await self.insist(items, uuid.uuid4().hex)
        assert answer.status == 201, answer
        return answer.body["order_id"]

    async def order(self, order_id: str) -> Answer:
        """Looks at an order."""
        return await self.send("GET", f"/api/orders/{order_id}")

    async def cancel(self, order_id: str) -> Answer:
        """Cancels an order."""
        return await self.send("POST", f"/api/orders/{order_id}/cancel")

    async def inbox(self) -> Sequence[Mapping[str, str]]:
        """The messages about the customer's orders, oldest first."""
        answer = await self.send("GET", "/api/notifications", query={"limit": 100})
        assert answer.status == 200, answer
        return [one for one in reversed(answer.body["items"]) if one["order_id"]]


def address_fields(**changes: str) -> dict[str, str]:
    """An address, filled in."""
    return {**ADDRESS, **changes}


def order_body(items: Items, *, payment_method: str = "pm_card_visa") -> dict[str, Any]:
    """The body of an order."""
    return {
        "items": [
            {"product_id": product_id, "quantity": quantity}
            for product_id, quantity in items.items()
        ],
        "address": address_fields(),
        "payment_method": payment_method,
    }


def claims_of(token: str) -> dict[str, Any]:
    """What a token says, not verified."""
    payload = token.split(".")[1]
    return orjson.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
