"""auth and user together, each serving as it does in production, over HTTP and gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from services.auth.main import wire as wire_auth
from services.common.settings import ProcessSettings
from services.common.topology import load_topology
from services.user.main import wire as wire_user
from tests.testkit.customer import Answer, Client
from tests.testkit.ports import free_port
from tests.unit.auth.kit import EMAIL, PASSWORD
from tests.unit.serving import running_service
from tests.unit.user.kit import accounts


@dataclass(frozen=True, slots=True)
class AuthWithUser:
    """Two instances of auth, the second with the stronger hash, and one of user."""

    client: Client
    auth_urls: tuple[str, ...]

    async def auth(self, action: str, *, instance: int = 0, **body: str) -> Answer:
        """What an instance of auth answers."""
        client = self.client.at(self.auth_urls[instance])
        return await client.send("POST", f"/api/auth/{action}", json=body)

    async def me(
        self, method: str, access_token: str, *, path: str = "", body: object = None
    ) -> Answer:
        """What user answers to whoever holds the token."""
        headers = {"authorization": f"Bearer {access_token}"}
        path = f"/api/users/me{path}"
        return await self.client.send(method, path, json=body, headers=headers)


def process_of(name: str, **settings: Any) -> ProcessSettings:
    return ProcessSettings(
        host="127.0.0.1", instance=f"{name}-1", drain_seconds=1, trace_sampling_ratio=0, **settings
    )


@pytest.fixture
async def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[AuthWithUser]:
    monkeypatch.setenv("PASSWORD_HASH_MEMORY_KIB", "1024")
    database_url = f"sqlite:///{tmp_path}"
    auth_ports = (free_port(), free_port())
    user_port, user_grpc_port = free_port(), free_port()
    topology = load_topology()
    user = process_of(
        "user",
        database_url=database_url,
        http_port=user_port,
        grpc_port=user_grpc_port,
        http_addresses={"auth": tuple(f"127.0.0.1:{port}" for port in auth_ports)},
    )
    async with AsyncExitStack() as running:
        await running.enter_async_context(running_service("user", wire_user, topology, user))
        for iterations, port in enumerate(auth_ports, start=1):
            monkeypatch.setenv("PASSWORD_HASH_ITERATIONS", str(iterations))
            auth = process_of(
                "auth",
                database_url=database_url,
                http_port=port,
                grpc_addresses={
                    "user": (f"127.0.0.1:{user_grpc_port}",),
                    "notification": (f"127.0.0.1:{free_port()}",),
                },
            )
            await running.enter_async_context(running_service("auth", wire_auth, topology, auth))
        session = await running.enter_async_context(aiohttp.ClientSession())
        yield AuthWithUser(
            Client(session, f"http://127.0.0.1:{user_port}"),
            tuple(f"http://127.0.0.1:{port}" for port in auth_ports),
        )


async def test_a_user_from_registration_to_log_out(services: AuthWithUser) -> None:
    registered = await services.auth(
        "register", email=EMAIL, password=PASSWORD, name="Ada Lovelace"
    )
    assert registered.status == 201
    token = registered.body["access_token"]
    me = await services.me("GET", token)
    assert (me.status, me.body["email"], me.body["groups"]) == (200, EMAIL, [])
    changed = await services.me("PATCH", token, body={"beta": True, "name": "Ada King"})
    assert (changed.status, changed.body["groups"]) == (200, ["beta"])

    wrong = await services.auth("login", email=EMAIL, password="wrong horse battery")
    unknown = await services.auth("login", email="nobody@example.com", password=PASSWORD)
    for refused in (wrong, unknown):
        assert (refused.status, refused.body["code"]) == (401, "wrong-credentials")
    assert wrong.body["detail"] == unknown.body["detail"]

    logged_in = await services.auth("login", email="ADA@example.com", password=PASSWORD, instance=1)
    assert logged_in.status == 200
    refresh_token = logged_in.body["refresh_token"]
    refreshed = await services.auth("refresh", refresh_token=refresh_token)
    assert refreshed.status == 200
    shown = await services.me("GET", refreshed.body["access_token"])
    assert (shown.body["name"], shown.body["groups"]) == ("Ada King", ["beta"])

    refresh_token = refreshed.body["refresh_token"]
    assert (await services.auth("logout", refresh_token=refresh_token, instance=1)).status == 204
    assert (await services.auth("refresh", refresh_token=refresh_token)).status == 401


async def test_guests_from_an_order_to_an_account(services: AuthWithUser) -> None:
    first, second = [await services.auth("guest", email=EMAIL, name="Ada") for _ in range(2)]
    assert (first.status, second.status) == (201, 201)
    assert (await services.auth("login", email=EMAIL, password=PASSWORD)).status == 401
    address = {"name": "A", "street": "S 1", "postal_code": "1015 CJ", "city": "C", "country": "NL"}
    token = first.body["access_token"]
    assert (await services.me("POST", token, path="/addresses", body=address)).status == 201
    others = await services.me("GET", second.body["access_token"], path="/addresses")
    assert others.body == {"items": []}

    session = first.body["refresh_token"]
    for email in ("typo@example.com", EMAIL):
        changed = await services.auth("guest/address", refresh_token=session, email=email)
        assert changed.status == 204
        assert (await services.me("GET", token)).body["email"] == email

    kept = await services.auth(
        "guest/keep", refresh_token=first.body["refresh_token"], password=PASSWORD
    )
    assert kept.status == 200
    late = await services.auth(
        "guest/keep", refresh_token=second.body["refresh_token"], password=PASSWORD, instance=1
    )
    assert (late.status, late.body["code"]) == (409, "email-taken")
    elsewhere = await services.auth(
        "guest/keep",
        refresh_token=second.body["refresh_token"],
        password=PASSWORD,
        email="ada@example.org",
    )
    assert elsewhere.status == 200
    assert (await services.auth("login", email="ada@example.org", password=PASSWORD)).status == 200
    logged_in = await services.auth("login", email=EMAIL, password=PASSWORD)
    me = await services.me("GET", logged_in.body["access_token"])
    assert (me.body["email"], me.body["is_guest"]) == (EMAIL, False)
    saved = await services.me("GET", logged_in.body["access_token"], path="/addresses")
    assert [item["street"] for item in saved.body["items"]] == ["S 1"]


async def test_of_many_registrations_of_one_address_exactly_one_succeeds(
    services: AuthWithUser,
) -> None:
    answers = await asyncio.gather(
        *(
            services.auth(
                "register", instance=number % 2, email=EMAIL, password=PASSWORD, name="Ada"
            )
            for number in range(20)
        )
    )
    assert sorted(answer.status for answer in answers) == [201] + [409] * 19
    assert {answer.body["code"] for answer in answers if answer.status == 409} == {"email-taken"}


async def test_both_instances_sign_with_keys_that_the_other_publishes(
    services: AuthWithUser,
) -> None:
    for instance in (0, 1):
        registered = await services.auth(
            "register",
            instance=instance,
            email=f"ada{instance}@example.com",
            password=PASSWORD,
            name="Ada",
        )
        assert (await services.me("GET", registered.body["access_token"])).status == 200
    key_sets = [
        (await services.client.at(url).send("GET", "/.well-known/jwks.json")).body
        for url in services.auth_urls
    ]
    assert key_sets[0] == key_sets[1]


async def test_a_stronger_hash_is_stored_at_the_next_log_in(
    services: AuthWithUser, tmp_path: Path
) -> None:
    await services.auth("register", email=EMAIL, password=PASSWORD, name="Ada")
    async with accounts(tmp_path) as users:
        assert ",t=1," in (await users.by_email(EMAIL)).password_hash
        answer = await services.auth("login", email=EMAIL, password=PASSWORD, instance=1)
        assert answer.status == 200
        assert ",t=2," in (await users.by_email(EMAIL)).password_hash
    again = await services.auth("login", email=EMAIL, password=PASSWORD, instance=1)
    assert again.status == 200


async def test_a_changed_password_ends_the_other_sessions(services: AuthWithUser) -> None:
    registered = await services.auth("register", email=EMAIL, password=PASSWORD, name="Ada")
    changed = await services.auth(
        "password", instance=1, email=EMAIL, password=PASSWORD, new_password="another battery"
    )
    assert changed.status == 200
    old, new = registered.body["refresh_token"], changed.body["refresh_token"]
    assert (await services.auth("refresh", refresh_token=old)).status == 401
    assert (await services.auth("refresh", refresh_token=new)).status == 200
    assert (await services.auth("login", email=EMAIL, password=PASSWORD)).status == 401
    assert (await services.auth("login", email=EMAIL, password="another battery")).status == 200
