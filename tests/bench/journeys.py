"""The journeys that are measured, as requests that are prepared."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp

from services.inventory.seed import read_stock_file
from services.inventory.settings import InventorySettings
from tests.testkit.customer import Client, Customer, order_body

# That of a browser: compression is a part of an answer's cost.
ACCEPT_ENCODING = "gzip, deflate, br, zstd"
_CUSTOMERS = 8
_STYLE_SHEET = re.compile(r'href="(/static/[^"]+\.css[^"]*)"')


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """A request that can be sent again and again.

    :ivar status: of the right answer.
    :ivar is_keyed: whether each sending has an idempotency key of its own.
    """

    method: str
    path: str
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    is_keyed: bool = False

    def headers_to_send(self) -> dict[str, str]:
        """Returns the headers of one sending."""
        headers = dict(self.headers)
        if self.is_keyed:
            headers["idempotency-key"] = uuid.uuid4().hex
        return headers


@dataclass(frozen=True, slots=True)
class ShopJourney:
    """Requests of one kind, which are sent in turn.

    :ivar about: its title in tables.
    """

    name: str
    about: str
    requests: tuple[PreparedRequest, ...]


LIST_PATH = "/api/products?limit=12"
NAMES = ("home", "product", "list", "static", "cart", "order")


async def shop_journeys(url: str) -> Sequence[ShopJourney]:
    """Returns the journeys through a shop, and registers their customers there.

    The shop needs enough stock, and tokens that live long enough.
    """
    products = sorted(read_stock_file(InventorySettings().stock_file))
    async with aiohttp.ClientSession() as session:
        client = Client(session, url)
        style_sheet = _STYLE_SHEET.search(await client.text("/"))
        assert style_sheet is not None, "the home page names no style sheet"
        customers = [await Customer.register(client) for _ in range(_CUSTOMERS)]
    return (
        ShopJourney("home", "home page", (page_request("/"),)),
        ShopJourney(
            "product", "product page", tuple(page_request(f"/products/{name}") for name in products)
        ),
        ShopJourney("list", f"`GET {LIST_PATH}`", (page_request(LIST_PATH),)),
        ShopJourney("static", "static file", (page_request(style_sheet[1]),)),
        ShopJourney("cart", "cart, empty", (page_request("/cart"),)),
        ShopJourney(
            "order",
            "paid order (`POST /api/orders`)",
            tuple(
                order_request(customers[number % _CUSTOMERS], product)
                for number, product in enumerate(products)
            ),
        ),
    )


def page_request(path: str, customer: Customer | None = None) -> PreparedRequest:
    """Returns the request for a path, with or without a customer's token."""
    headers = [("accept-encoding", ACCEPT_ENCODING)]
    if customer is not None:
        headers.append(("authorization", f"Bearer {customer.token}"))
    return PreparedRequest("GET", path, headers=tuple(headers))


def order_request(customer: Customer, product: str) -> PreparedRequest:
    """Returns the request that orders one piece of a product."""
    return PreparedRequest(
        "POST",
        "/api/orders",
        status=201,
        headers=(
            ("accept-encoding", ACCEPT_ENCODING),
            ("authorization", f"Bearer {customer.token}"),
            ("content-type", "application/json"),
        ),
        body=json.dumps(order_body({product: 1})).encode(),
        is_keyed=True,
    )
