"""The HTTP API of auth: its answers, its refusals, its headers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from starlette.types import ASGIApp

from services.auth import api
from services.common.serving.host import Host, hosting
from services.common.settings import ProcessSettings
from services.common.topology import load_topology
from tests.unit.asgi import AsgiAnswer, ask
from tests.unit.auth.kit import EMAIL, PASSWORD, AuthProcess

REGISTRATION = {"email": EMAIL, "password": PASSWORD, "name": "Ada Lovelace"}
LOG_IN = {"email": EMAIL, "password": PASSWORD}


@dataclass(frozen=True, slots=True)
class Http:
    """The HTTP side of a process."""

    app: ASGIApp

    async def post(self, action: str, body: object, forwarded_for: str = "") -> AsgiAnswer:
        """What it answers to an action of the API."""
        return await ask(
            self.app,
            "POST",
            f"/api/auth/{action}",
            headers={"content-type": "application/json", "x-forwarded-for": forwarded_for},
            body=json.dumps(body).encode(),
        )

    async def get(self, path: str) -> AsgiAnswer:
        """What it answers to GET."""
        return await ask(self.app, "GET", path)


@asynccontextmanager
async def serving(process: AuthProcess, proxies_in_front: int) -> AsyncGenerator[Http]:
    async def wire(host: Host) -> None:
        host.serve_http(api.router, process.auth, process.keyring)

    settings = ProcessSettings(instance="auth-1", proxies_in_front=proxies_in_front)
    async with hosting("auth", wire, topology=load_topology(), process=settings) as host:
        yield Http(host.app())


@pytest.fixture
async def http(process: AuthProcess) -> AsyncGenerator[Http]:
    """Not behind any proxy."""
    async with serving(process, 0) as serving_http:
        yield serving_http


@pytest.fixture
async def http_behind_a_proxy(process: AuthProcess) -> AsyncGenerator[Http]:
    async with serving(process, 1) as serving_http:
        yield serving_http


async def test_registering_opens_a_session(http: Http, process: AuthProcess) -> None:
    answer = await http.post("register", REGISTRATION)
    assert answer.status == 201
    assert answer.headers["cache-control"] == "no-store"
    tokens = answer.json()
    names = ("access_token", "refresh_token", "device_token", "token_type", "expires_in")
    assert tuple(tokens) == names
    assert (tokens["token_type"], tokens["expires_in"]) == ("Bearer", 900)
    caller = await process.verifier().verify(tokens["access_token"])
    assert (caller.email, caller.name) == (EMAIL, "Ada Lovelace")


async def test_a_guest_begins_a_session_and_sets_a_password(http: Http) -> None:
    guest = await http.post("guest", {"email": EMAIL, "name": "Ada Lovelace"})
    assert (guest.status, guest.headers["cache-control"]) == (201, "no-store")
    body = {"refresh_token": guest.json()["refresh_token"], "password": PASSWORD}
    assert (await http.post("guest/keep", {**body, "password": "short"})).status == 422
    kept = await http.post("guest/keep", body)
    assert (kept.status, kept.headers["cache-control"]) == (200, "no-store")
    assert (await http.post("login", LOG_IN)).status == 200


async def test_a_guest_corrects_the_address_and_asks_for_the_link_again(http: Http) -> None:
    guest = await http.post("guest", {"email": EMAIL, "name": "Ada Lovelace"})
    session = {"refresh_token": guest.json()["refresh_token"]}
    changed = await http.post("guest/address", {**session, "email": "ada@example.org"})
    assert changed.status == 204
    assert (await http.post("guest/address", {**session, "email": "ada"})).status == 422
    assert (await http.post("guest/address/mail", session)).status == 202
    ended = {"refresh_token": "ses_x"}
    assert (await http.post("guest/address/mail", ended)).status == 401
    assert (await http.post("guest/address", {**ended, "email": EMAIL})).status == 401


async def test_an_address_has_one_account_however_it_is_spelled(http: Http) -> None:
    assert (await http.post("register", REGISTRATION)).status == 201
    again = await http.post("register", {**REGISTRATION, "email": "ADA@Example.com"})
    assert (again.status, again.json()["code"]) == (409, "email-taken")
    assert (await http.post("login", {**LOG_IN, "email": "Ada@EXAMPLE.com"})).status == 200


async def test_of_many_registrations_of_one_address_exactly_one_succeeds(http: Http) -> None:
    answers = await asyncio.gather(*(http.post("register", REGISTRATION) for _ in range(20)))
    assert sorted(answer.status for answer in answers) == [201] + [409] * 19


async def test_a_session_from_log_in_to_log_out(http: Http) -> None:
    await http.post("register", REGISTRATION)
    logged_in = await http.post("login", LOG_IN)
    assert (logged_in.status, logged_in.headers["cache-control"]) == (200, "no-store")

    refreshed = await http.post("refresh", {"refresh_token": logged_in.json()["refresh_token"]})
    assert (refreshed.status, refreshed.headers["cache-control"]) == (200, "no-store")
    assert set(refreshed.json()) == set(logged_in.json())

    token = {"refresh_token": refreshed.json()["refresh_token"]}
    for _ in range(2):
        logged_out = await http.post("logout", token)
        assert (logged_out.status, logged_out.body) == (204, b"")
    ended = await http.post("refresh", token)
    assert (ended.status, ended.json()["code"]) == (401, "session-ended")


async def test_a_throttled_log_in_says_when_to_come_back(http: Http) -> None:
    await http.post("register", REGISTRATION)
    wrong = {**LOG_IN, "password": "wrong horse battery"}
    answers = [await http.post("login", wrong) for _ in range(6)]
    assert [answer.status for answer in answers] == [401] * 5 + [429]
    assert answers[-1].headers["retry-after"] == "30"
    assert answers[-1].headers["content-type"] == "application/problem+json"


async def test_who_is_throttled_is_for_the_proxy_to_say_and_for_nobody_else(
    http: Http, http_behind_a_proxy: Http
) -> None:
    await http.post("register", REGISTRATION)
    wrong = {**LOG_IN, "password": "wrong horse battery"}
    for number in range(5):
        forged = f"203.0.113.{number}"
        assert (await http.post("login", wrong, forged)).status == 401
        appended = f"{forged}, 198.51.100.7"
        assert (await http_behind_a_proxy.post("login", wrong, appended)).status == 401
    assert (await http.post("login", LOG_IN, "203.0.113.5")).status == 429
    assert (await http_behind_a_proxy.post("login", LOG_IN, "198.51.100.7")).status == 429
    assert (await http_behind_a_proxy.post("login", LOG_IN, "198.51.100.8")).status == 200


async def test_a_known_browser_is_let_in(http: Http) -> None:
    registered = await http.post("register", REGISTRATION)
    wrong = {**LOG_IN, "password": "wrong horse battery"}
    for _ in range(5):
        await http.post("login", wrong)
    assert (await http.post("login", LOG_IN)).status == 429
    known = {**LOG_IN, "device_token": registered.json()["device_token"]}
    assert (await http.post("login", known)).status == 200


@pytest.mark.parametrize(
    "change",
    [
        {"email": "ada"},
        {"email": "ada@localhost"},
        {"email": "ada@example.invalid"},
        {"email": "ada@exam\0ple.com"},
        {"email": f"{'a' * 250}@example.com"},
        {"email": None},
        {"password": "too short"},
        {"password": "x" * 201},
        {"password": 1234567890},
        {"password": "\ud800" * 10},
        {"name": ""},
        {"name": "x" * 101},
        {"name": "two\nlines"},
        {"groups": ["admin"]},
        {"user_id": "usr_0"},
    ],
    ids=str,
)
async def test_a_wrong_registration_is_refused(
    http: Http, process: AuthProcess, change: dict[str, object]
) -> None:
    answer = await http.post("register", {**REGISTRATION, **change})
    assert (answer.status, answer.json()["code"]) == (422, "invalid-request")
    (field,) = change
    assert answer.json()["errors"][0]["field"] == f"body.{field}"
    assert (await http.post("login", LOG_IN)).status == 401  # no account came of it


@pytest.mark.parametrize(
    "email", ["ada@shop.example", "ada@example.com", "ada@shop.test", "ada+1@example.org"]
)
async def test_addresses_that_belong_to_nobody_are_welcome(http: Http, email: str) -> None:
    assert (await http.post("register", {**REGISTRATION, "email": email})).status == 201


@pytest.mark.parametrize(
    ("email", "password"),
    [
        (EMAIL, "password123"),
        (EMAIL, "PASSWORD123"),
        (EMAIL, "1234567890"),
        (EMAIL, "aaaaaaaaaaaa"),
        (EMAIL, "abababababab"),
        (EMAIL, "Ada@example.com"),
        ("ada.lovelace@example.com", "Ada.Lovelace"),
        ("augusta.ada@example.com", "Augusta Ada"),
        ("augusta.ada+shop@example.com", "augusta.ada"),
        (EMAIL, "ada lovelace"),
        (EMAIL, "Ada-Lovelace"),
        (EMAIL, "".join(chr(ord(letter) + 0xFEE0) for letter in "password123")),  # full-width
    ],
)
async def test_a_password_that_is_guessed_first_is_refused(
    http: Http, email: str, password: str
) -> None:
    body = {"email": email, "password": password, "name": "Ada Lovelace"}
    answer = await http.post("register", body)
    assert (answer.status, answer.json()["code"]) == (422, "weak-password")
    assert password not in answer.body.decode()


@pytest.mark.parametrize(
    "password",
    [
        "lower case only",
        "1029384756",
        "пароль из слов",
        "🔑🔒🗝️ 🔑🔒🗝️ ab",
        "x" * 100 + "yz" * 50,
    ],
)
async def test_any_other_password_will_do(http: Http, password: str) -> None:
    assert (await http.post("register", {**REGISTRATION, "password": password})).status == 201
    assert (await http.post("login", {**LOG_IN, "password": password})).status == 200
    assert (await http.post("login", {**LOG_IN, "password": password + "!"})).status in {401, 422}


@pytest.mark.parametrize(
    ("action", "body"),
    [
        ("login", {"email": EMAIL}),
        ("login", {"email": EMAIL, "password": ""}),
        ("login", {"email": {"$ne": ""}, "password": PASSWORD}),
        ("login", {**LOG_IN, "extra": 1}),
        ("login", {**LOG_IN, "device_token": 7}),
        ("login", {**LOG_IN, "password": "\ud800"}),
        ("refresh", {}),
        ("refresh", {"refresh_token": 7}),
        ("refresh", {"refresh_token": "x" * 201}),
        ("logout", {}),
        ("logout", []),
    ],
)
async def test_a_wrong_body_is_refused(http: Http, action: str, body: object) -> None:
    answer = await http.post(action, body)
    assert (answer.status, answer.json()["code"]) == (422, "invalid-request")


async def test_the_public_keys_may_be_cached(http: Http, process: AuthProcess) -> None:
    answer = await http.get("/.well-known/jwks.json")
    assert answer.status == 200
    assert answer.headers["cache-control"] == "public, max-age=300"
    assert answer.json() == {"keys": await process.keyring.public_keys()}


async def test_every_route_documents_itself(http: Http) -> None:
    document = (await http.get("/openapi.json")).json()
    operations = {
        operation["operationId"]: operation
        for path in document["paths"].values()
        for operation in path.values()
    }
    assert set(operations) == {
        "register",
        "open_guest",
        "keep_guest",
        "change_guest_email",
        "mail_guest_link",
        "log_in",
        "refresh",
        "log_out",
        "change_password",
        "mail_password_link",
        "reset_password",
        "mail_address_link",
        "confirm_address",
        "public_keys",
    }
    assert all(operation["summary"] for operation in operations.values())
    assert "409" in operations["register"]["responses"]
    for action in ("log_in", "refresh"):
        assert {"401", "422", "429"} <= set(operations[action]["responses"])
