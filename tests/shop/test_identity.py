"""Who somebody is comes from a token that `auth` has signed, and from nothing else they say."""

from __future__ import annotations

import base64
import hmac
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from services.auth.model.keys import KEYS, SigningKey
from services.common.documents import Documents, SqliteStore
from services.common.identity.access_tokens import ALGORITHM, AUDIENCE, ISSUER
from tests.testkit.books import Books
from tests.testkit.contract import Contract
from tests.testkit.customer import Client, Customer, Person, claims_of
from tests.testkit.shop import Shop
from tests.testkit.visitor import Visitor

BOARD = "oak-serving-board"
SCRIPT = "<script>alert('owned')</script>"

PRIVATE = ("/api/users/me", "/api/orders", "/api/notifications", "/api/users/me/addresses")
CLAIMS_OF_OTHERS: Mapping[str, dict[str, Any]] = {
    "expired": {"exp": 1_600_000_000},
    "without an end": {"exp": None},
    "not yet valid": {"nbf": 4_000_000_000},
    "of another issuer": {"iss": "https://accounts.example.com"},
    "for another audience": {"aud": "another-shop"},
    "of nobody": {"sub": None},
}


@pytest.fixture
async def signing_key(shop: Shop) -> AsyncGenerator[ECKey]:
    """The very key that `auth` signs with: only so are a token's claims all that is wrong."""
    store = SqliteStore(shop.data / "auth.db")
    page = await Documents(store, KEYS, SigningKey).find("by_generation")
    yield ECKey.import_key(dict(page.items[0].value.private_jwk))
    await store.close()


def _signed(customer: Customer, key: ECKey, **changes: Any) -> str:
    now = int(time.time())
    genuine = {"iss": ISSUER, "aud": AUDIENCE, "sub": customer.user_id, "iat": now, "exp": now + 60}
    claims = {name: value for name, value in {**genuine, **changes}.items() if value is not None}
    header = {"alg": ALGORITHM, "kid": key.thumbprint()}
    return jwt.encode(header, claims, key, algorithms=[ALGORITHM])


async def test_guests_with_one_address_share_nothing(client: Client, customer: Customer) -> None:
    body = {"email": customer.email, "name": "Guest"}
    answers = [await client.send("POST", "/api/auth/guest", json=body) for _ in range(2)]
    assert [answer.status for answer in answers] == [201, 201]
    one, other = (Customer(client, answer.body, customer.person) for answer in answers)
    order_id = await one.bought({BOARD: 1})

    assert (await one.order(order_id)).status == 200
    for stranger in (other, customer):
        assert (await stranger.order(order_id)).status == 404
        assert (await stranger.send("GET", "/api/orders")).body["items"] == []
        assert await stranger.inbox() == []

    kept = {"refresh_token": answers[0].body["refresh_token"], "password": "eves horse battery"}
    refused = await client.send("POST", "/api/auth/guest/keep", json=kept)
    assert (refused.status, refused.code) == (409, "email-taken")
    assert (await customer.logged_in_again()).user_id == customer.user_id


async def test_a_guest_is_told_of_the_order_where_they_said(client: Client, books: Books) -> None:
    typo, person = Person("Grace"), Person("Grace")
    body = {"email": typo.email, "name": typo.name}
    opened = await client.send("POST", "/api/auth/guest", json=body)
    guest = Customer(client, opened.body, person)
    corrected = {"refresh_token": opened.body["refresh_token"], "email": guest.email}
    answer = await client.send("POST", "/api/auth/guest/address", json=corrected)
    assert answer.status == 204
    order_id = await guest.bought({BOARD: 1})
    snapshot = await books.settled()
    assert {message.email for message in snapshot.messages_of(order_id)} == {guest.email}


async def test_a_token_signed_with_the_real_key_is_accepted(
    customer: Customer, signing_key: ECKey
) -> None:
    assert {"sub", "iss", "aud", "exp"} <= claims_of(customer.token).keys()
    customer.token = _signed(customer, signing_key)

    answer = await customer.send("GET", "/api/users/me")

    assert (answer.status, answer.body["user_id"]) == (200, customer.user_id)


@pytest.mark.parametrize("changes", CLAIMS_OF_OTHERS.values(), ids=CLAIMS_OF_OTHERS)
async def test_a_token_with_wrong_claims_is_refused_everywhere(
    changes: dict[str, Any], customer: Customer, signing_key: ECKey, contract: Contract
) -> None:
    customer.token = _signed(customer, signing_key, **changes)

    await _is_refused_everywhere(customer, contract)


Forge = Callable[[Customer, ECKey], str]


def _by_another_key(customer: Customer, _: ECKey) -> str:
    return _signed(customer, ECKey.generate_key("P-256"))


def _by_another_key_under_the_real_ones_id(customer: Customer, key: ECKey) -> str:
    header = customer.token.split(".")[0]
    return ".".join([header, *_by_another_key(customer, key).split(".")[1:]])


def _by_the_public_key_as_a_secret(customer: Customer, key: ECKey) -> str:
    header = _encoded(f'{{"alg":"HS256","kid":"{key.thumbprint()}"}}'.encode())
    signed = f"{header}.{customer.token.split('.')[1]}"
    secret = key.as_pem(private=False)
    return f"{signed}.{_encoded(hmac.digest(secret, signed.encode(), 'sha256'))}"


def _unsigned(customer: Customer, _: ECKey) -> str:
    header = _encoded(b'{"alg":"none"}')
    return f"{header}.{customer.token.split('.')[1]}."


def _of_another_user(customer: Customer, _: ECKey) -> str:
    header, _own, signature = customer.token.split(".")
    payload = _encoded(b'{"sub":"usr_somebody"}')
    return f"{header}.{payload}.{signature}"


def _cut(customer: Customer, _: ECKey) -> str:
    return customer.token[:-4]


def _nonsense(_: Customer, __: ECKey) -> str:
    return "a.b.c"


def _endless(_: Customer, __: ECKey) -> str:
    return "x" * 8000


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "forge",
    [
        _by_another_key,
        _by_another_key_under_the_real_ones_id,
        _by_the_public_key_as_a_secret,
        _unsigned,
        _of_another_user,
        _cut,
        _nonsense,
        _endless,
    ],
)
async def test_a_forged_token_is_refused_everywhere(
    forge: Forge, customer: Customer, signing_key: ECKey, contract: Contract
) -> None:
    customer.token = forge(customer, signing_key)

    await _is_refused_everywhere(customer, contract)


async def _is_refused_everywhere(customer: Customer, contract: Contract) -> None:
    for path in PRIVATE:
        answer = await customer.send("GET", path)
        assert (answer.status, answer.code) == (401, "invalid-token"), path
        assert answer.headers["www-authenticate"].startswith("Bearer")
        contract.check_refusal("GET", path, answer)
    placed = await customer.place({BOARD: 1})
    assert placed.status == 401


async def test_without_a_token_nothing_is_shown(client: Client, contract: Contract) -> None:
    for path in PRIVATE:
        for headers in ({}, {"authorization": "Basic YWRhOmFkYQ=="}, {"authorization": "Bearer"}):
            answer = await client.send("GET", path, headers=headers)
            assert (answer.status, answer.code) == (401, "no-token"), (path, headers)
            contract.check_refusal("GET", path, answer)


async def test_headers_that_claim_to_be_somebody_change_nothing(
    shop: Shop, client: Client, customer: Customer
) -> None:
    order_id = await customer.bought({BOARD: 1})
    stranger = await Customer.register(client)
    claims = {
        **dict.fromkeys(("x-user-id", "user-id", "x-user", "x-auth-user"), customer.user_id),
        **dict.fromkeys(("x-user-email", "x-forwarded-user", "x-forwarded-email"), customer.email),
        "x-user-group": "beta",
        "x-user-groups": "beta,admin",
        "x-jwt-payload": customer.token.split(".")[1],
        "x-forwarded-authorization": f"Bearer {customer.token}",
        "x-original-authorization": f"Bearer {customer.token}",
        "cookie": f"authorization=Bearer {customer.token}; user_id={customer.user_id}",
    }
    # At the gateway, and at a service itself, where no gateway has taken anything away.
    for base_url, path in [
        *((shop.url, path) for path in PRIVATE),
        (shop.of_service("order")[0].url, "/api/orders"),
        (shop.of_service("user")[0].url, "/api/users/me"),
        (shop.of_service("notification")[0].url, "/api/notifications"),
    ]:
        at = client.at(base_url)
        own = {"authorization": f"Bearer {stranger.token}"}
        plain = await at.send("GET", path, headers=own)
        assert (await at.send("GET", path, headers={**own, **claims})).body == plain.body
        assert (await at.send("GET", path, headers=claims)).status == 401
    foreign = await stranger.send("GET", f"/api/orders/{order_id}", headers=claims)
    assert foreign.status == 404
    foreign = await stranger.send("POST", f"/api/orders/{order_id}/cancel", headers=claims)
    assert foreign.status == 404


async def test_script_is_text(shop: Shop, client: Client, books: Books) -> None:
    customer = await Customer.register(client, name=SCRIPT)
    address = {**dict.fromkeys(("name", "street", "city"), SCRIPT), "postal_code": "<b>1"}
    saved = await customer.send(
        "POST", "/api/users/me/addresses", json={**address, "country": "IE"}
    )

    order = await customer.send(
        "POST",
        "/api/orders",
        json={
            "items": [{"product_id": BOARD, "quantity": 1}],
            "address": {**address, "country": "IE"},
            "payment_method": "pm_card_visa",
        },
        headers={"idempotency-key": "<img/src=x/onerror=alert(1)>"},
    )
    await books.settled()

    assert (saved.status, order.status) == (201, 201)
    assert (await customer.send("GET", "/api/users/me")).body["name"] == SCRIPT
    assert order.body["address"] == {**address, "country": "IE"}
    [message] = await customer.inbox()
    assert SCRIPT in message["text"]
    searched = await client.send("GET", "/api/products", query={"q": SCRIPT})
    assert searched.headers["content-type"] == "application/json"
    async with Visitor(shop.url) as visitor:
        await visitor.log_in(customer.person)
        for path in ("/profile", "/inbox", "/orders", f"/orders/{order.body['order_id']}"):
            page = await visitor.get(path)
            assert page.status == 200
            assert "owned" not in page.html or "&lt;script&gt;" in page.html, path
            assert SCRIPT not in page.html, path
        assert SCRIPT not in (await visitor.get(f"/products?q={SCRIPT}")).html


async def test_a_form_from_elsewhere_does_nothing(shop: Shop, client: Client) -> None:
    async with Visitor(shop.url) as victim, Visitor(shop.url) as attacker:
        await victim.register()
        stolen = (await attacker.get(f"/products/{BOARD}")).form("/cart").fields
        plain = {"product_id": BOARD, "action": "add", "quantity": "1"}

        for fields in (plain, {**plain, "form_token": "x"}, {**stolen, **plain}):
            assert (await victim.post("/cart", fields, {"origin": shop.url})).status == 403
        own = (await victim.get(f"/products/{BOARD}")).form("/cart")
        genuine = {**own.fields, **plain}
        elsewhere = {"origin": "https://elsewhere.example.com"}
        assert (await victim.post("/cart", genuine, elsewhere)).status == 403

        assert BOARD not in (await victim.get("/cart")).html
        await victim.send(own, **plain)
        assert BOARD in (await victim.get("/cart")).html
