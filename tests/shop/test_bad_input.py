"""What nobody should send is refused with a clear and documented error, and changes nothing."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import pytest

from services.common.protocols.problem import MEDIA_TYPE
from services.common.serving.http_protocol import MAX_HEAD_BYTES
from services.common.settings import ProcessSettings
from services.common.topology import load_topology
from tests.shop.conftest import OpenShop
from tests.testkit.contract import Contract
from tests.testkit.customer import Client, Customer, order_body
from tests.testkit.shop import Shop
from tests.testkit.wire import exchange

BOARD = "oak-serving-board"
ORDER = order_body({BOARD: 1})
MAX_BODY_BYTES: int = ProcessSettings.model_fields["max_body_bytes"].default
SERVICES = tuple(load_topology().services)

TAKE_BODIES = (
    ("POST", "/api/auth/register"),
    ("POST", "/api/auth/login"),
    ("POST", "/api/auth/refresh"),
    ("POST", "/api/auth/logout"),
    ("POST", "/api/auth/password"),
    ("POST", "/api/auth/password/mail"),
    ("POST", "/api/auth/password/reset"),
    ("POST", "/api/auth/address/mail"),
    ("POST", "/api/auth/address/confirm"),
    ("PATCH", "/api/users/me"),
    ("POST", "/api/users/me/addresses"),
    ("POST", "/api/orders"),
)
NO_BODIES = {
    "nothing": b"",
    "no JSON": b'{"items": [',
    "a list": b"[]",
    "null": b"null",
    "a text": b'"order"',
    "a number": b"1e999",
    "no UTF-8": b'{"name": "\xff\xfe"}',
    "a lone surrogate": b'{"name": "\\ud800"}',
    "another alphabet": '{"naïve": "☃"}'.encode("utf-16"),
    "depth": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    "many digits": b'{"items": ' + b"9" * 10_000 + b"}",
    "an unknown field": b'{"is_admin": true}',
}


@pytest.mark.parametrize("body", NO_BODIES.values(), ids=NO_BODIES)
@pytest.mark.parametrize(("method", "path"), TAKE_BODIES)
async def test_a_body_that_is_none(
    method: str, path: str, body: bytes, customer: Customer, contract: Contract
) -> None:
    headers = {"content-type": "application/json", "idempotency-key": uuid.uuid4().hex}

    answer = await customer.send(method, path, data=body, headers=headers)

    assert answer.status == 422
    contract.check_refusal(method, path, answer)


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "nonsense"],
)
@pytest.mark.parametrize(("method", "path"), TAKE_BODIES)
async def test_a_body_of_another_type(
    method: str, path: str, content_type: str, customer: Customer, contract: Contract
) -> None:
    headers = {"content-type": content_type, "idempotency-key": uuid.uuid4().hex}

    answer = await customer.send(method, path, data=b'{"name": "Ada"}', headers=headers)

    contract.check_refusal(method, path, answer)


def _with_item(**changes: Any) -> dict[str, Any]:
    return {**ORDER, "items": [{**ORDER["items"][0], **changes}]}


def _with_address(**changes: Any) -> dict[str, Any]:
    return {**ORDER, "address": {**ORDER["address"], **changes}}


NO_ORDERS: Mapping[str, dict[str, Any]] = {
    "a negative quantity": _with_item(quantity=-1),
    "no quantity": _with_item(quantity=0),
    "a huge quantity": _with_item(quantity=10**30),
    "half a piece": _with_item(quantity=0.5),
    "a quantity as text": _with_item(quantity="1"),
    "a quantity as truth": _with_item(quantity=True),
    "a price of one's own": _with_item(unit_price_cents=1),
    "a product id with a path": _with_item(product_id="../inventory"),
    "a product id as a list": _with_item(product_id=[BOARD]),
    "an operator for a document store": _with_item(product_id={"$ne": ""}),
    "no items": {**ORDER, "items": []},
    "too many items": {**ORDER, "items": ORDER["items"] * 51},
    "a total": {**ORDER, "total_cents": 1},
    "a user": {**ORDER, "user_id": "usr_somebody"},
    "a card number": {**ORDER, "payment_method": "4242424242424242"},
    "another order's payment": {**ORDER, "payment_method": "pi_3NzqEr2eZvKYlo2C"},
    "no address": {name: ORDER[name] for name in ("items", "payment_method")},
    "a line break in a name": _with_address(name="Ada\r\nBcc: everybody@example.com"),
    "a control character in a street": _with_address(street="Keizersgracht\u0000"),
    "spaces for a city": _with_address(city="   "),
    "a long postal code": _with_address(postal_code="1" * 21),
    "a Dutch postal code that is none": _with_address(postal_code="99999999"),
    "a country that is none": _with_address(country="Netherlands"),
    "a country code that no country has": _with_address(country="ZZ"),
    "a way of shipping that is none": {**ORDER, "shipping": "teleport"},
}


@pytest.mark.parametrize("body", NO_ORDERS.values(), ids=NO_ORDERS)
async def test_an_order_that_is_none(
    body: dict[str, Any], customer: Customer, contract: Contract
) -> None:
    key = uuid.uuid4().hex

    answer = await customer.send("POST", "/api/orders", json=body, headers={"idempotency-key": key})

    assert (answer.status, answer.code) == (422, "invalid-request")
    contract.check_refusal("POST", "/api/orders", answer)
    assert (await customer.send("GET", "/api/orders")).body["items"] == []
    # Nothing is remembered of it: the key is still free.
    assert (await customer.place({BOARD: 1}, key=key)).status == 201


@pytest.mark.parametrize("key", ["", "x" * 256, "two words", "naïve", "\u2603"])
async def test_an_idempotency_key_that_is_none(
    key: str, customer: Customer, contract: Contract
) -> None:
    answer = await customer.place({BOARD: 1}, key=key or " ")

    assert answer.status == 422
    contract.check_refusal("POST", "/api/orders", answer)


@pytest.mark.parametrize(
    "path",
    [
        "/api/orders?limit=0",
        "/api/orders?limit=101",
        "/api/orders?limit=all",
        "/api/orders?cursor=e30",
        "/api/orders?cursor=%00",
        f"/api/orders?cursor={'A' * 600}",
        "/api/notifications?limit=-1",
        "/api/notifications?cursor=nonsense",
        "/api/products?limit=1e3",
        "/api/products?sort=price;drop",
        "/api/products?category=../../etc",
        f"/api/products?q={'x' * 101}",
        "/api/products?min_price_cents=-1&sort=price",
        "/api/products?max_price_cents=cheap",
        "/api/shipping/quotes",
        "/api/shipping/quotes?country=Netherlands&weight_grams=1",
        "/api/shipping/quotes?country=NL&weight_grams=-5",
        "/api/shipping/quotes?country=NL&weight_grams=100001",
    ],
)
async def test_a_query_that_is_none(path: str, customer: Customer, contract: Contract) -> None:
    answer = await customer.send("GET", path)

    assert answer.status == 422
    contract.check_refusal("GET", path.partition("?")[0], answer)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/orders/1"),
        ("GET", "/api/orders/ord_"),
        ("GET", "/api/orders/ord_aaaaaaaaaaaaaaaaaaaaaaaa"),
        ("GET", "/api/orders/%00"),
        ("GET", "/api/orders/%2e%2e"),
        ("GET", "/api/orders/..%2fusers%2fme"),
        ("GET", f"/api/orders/{'a' * 5000}"),
        ("POST", "/api/orders/ord_aaaaaaaaaaaaaaaaaaaaaaaa/cancel"),
        ("POST", "/api/orders/'%20OR%201=1/cancel"),
        ("GET", "/api/shipping/orders/ord_none"),
        ("GET", "/api/shipping/orders/%F0%9F%93%A6"),
        ("GET", "/api/products/Oak"),
        ("GET", "/api/products/no-such-thing"),
        ("GET", "/api/products/no-such-thing/picture"),
        ("GET", "/api/products/..%2f..%2fetc%2fpasswd/picture"),
        ("DELETE", "/api/users/me/addresses/adr_aaaaaaaaaaaaaaaaaaaaaaaa"),
        ("DELETE", "/api/users/me/addresses/1"),
    ],
)
async def test_a_path_to_nothing(
    method: str, path: str, shop: Shop, customer: Customer, contract: Contract
) -> None:
    answer = await exchange(
        shop.url,
        f"{method} {path} HTTP/1.1\r\nhost: shop\r\nauthorization: Bearer {customer.token}\r\n"
        "content-length: 0\r\n\r\n".encode(),
    )

    assert answer.status in {404, 422}
    assert answer.headers["content-type"] == MEDIA_TYPE
    if answer.code != "not-found":  # the gateway itself found nothing there
        contract.check_refusal(method, path, answer)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/payments/ord_aaaaaaaaaaaaaaaaaaaaaaaa", 404),
        ("GET", "/api/inventory/oak-serving-board", 404),
        ("GET", "/api/nothing", 404),
        ("DELETE", "/api/orders", 405),
        ("PUT", "/api/users/me", 405),
        ("TRACE", "/api/products", 405),
    ],
)
async def test_what_is_not_public(method: str, path: str, status: int, customer: Customer) -> None:
    answer = await customer.send(method, path)

    assert answer.status == status
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert ("allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize("service", SERVICES)
async def test_headers_that_are_too_large(service: str, shop: Shop) -> None:
    url = shop.of_service(service)[0].url
    filling = b"x-filling: " + b"x" * 1000 + b"\r\n"

    answer = await exchange(
        url, b"GET / HTTP/1.1\r\nhost: shop\r\n", *[filling] * (2 * MAX_HEAD_BYTES // 1000)
    )

    assert answer.status == 431
    assert (answer.headers["content-type"], answer.body["status"]) == (MEDIA_TYPE, 431)


@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "chunked"])
@pytest.mark.parametrize("through", ["frontend", "order"])
async def test_a_body_that_is_too_large(
    through: str, chunked: bool, shop: Shop, customer: Customer, contract: Contract
) -> None:
    head = (
        "POST /api/orders HTTP/1.1\r\nhost: shop\r\ncontent-type: application/json\r\n"
        f"idempotency-key: k\r\nauthorization: Bearer {customer.token}\r\n"
    ).encode()
    size = 4 * MAX_BODY_BYTES
    parts = [b"content-length: %d\r\n\r\n" % size, b"[" * size]
    if chunked:
        chunk = b"10000\r\n" + b"[" * 0x10000 + b"\r\n"
        parts = [b"transfer-encoding: chunked\r\n\r\n", *[chunk] * (size // 0x10000)]

    answer = await exchange(shop.of_service(through)[0].url, head, *parts)

    assert answer.status == 413
    contract.check_refusal("POST", "/api/orders", answer)


@pytest.fixture
def impatient_shop(open_shop: OpenShop) -> Shop:
    """A shop that does not wait long for what clients send."""
    return open_shop(
        *("--only", "frontend,order"), environment={"HEAD_SECONDS": "0.3", "BODY_SECONDS": "0.3"}
    )


async def test_clients_that_are_too_slow(impatient_shop: Shop, contract: Contract) -> None:
    head = b"POST /api/orders HTTP/1.1\r\nhost: shop\r\nidempotency-key: k\r\n"
    for service in ("frontend", "order"):
        url = impatient_shop.of_service(service)[0].url
        for parts in ((head,), (head, b"content-length: 9\r\n\r\n", b'{"items"')):
            answer = await exchange(url, *parts)

            assert answer.status == 408, (service, parts)
            contract.check_refusal("POST", "/api/orders", answer)
            assert answer.headers["connection"] == "close"


async def test_after_all_this_the_shop_is_as_it_was(shop: Shop, client: Client) -> None:
    assert "restarting" not in shop.output
    assert shop.logged_errors() == []
    assert (await client.send("GET", "/api/products")).status == 200
