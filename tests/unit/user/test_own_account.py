"""A user's own account over HTTP: theirs only, whoever asks."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from services.user.model import MAX_ADDRESSES, CreateGuest
from services.user.service import Users
from tests.testkit.customer import ADDRESS
from tests.unit.user.kit import Instance, instance

ME = "/api/users/me"
ADDRESSES = "/api/users/me/addresses"


async def addresses_of(service: Instance, user_id: str) -> list[Any]:
    answer = await service.ask("GET", ADDRESSES, user_id=user_id)
    assert answer.status == 200
    items: list[Any] = answer.json()["items"]
    return items


async def test_an_account_shows_what_is_the_users_business(service: Instance, ada: str) -> None:
    answer = await service.ask("GET", ME, user_id=ada)
    assert answer.status == 200
    shown = answer.json()
    assert shown.pop("created_at").endswith("Z")
    assert shown == {
        "user_id": ada,
        "email": "ada@example.com",
        "is_guest": False,
        "name": "Ada Lovelace",
        "groups": [],
    }


async def test_a_guest_sees_the_address_that_they_gave(service: Instance, users: Users) -> None:
    guest = await users.create_guest(CreateGuest(email="ada@example.com", name="Guest"))
    shown = (await service.ask("GET", ME, user_id=guest.id)).json()
    assert (shown["email"], shown["is_guest"]) == ("ada@example.com", True)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ME),
        ("PATCH", ME),
        ("GET", ADDRESSES),
        ("POST", ADDRESSES),
        ("DELETE", f"{ADDRESSES}/adr_{'a' * 24}"),
    ],
)
async def test_nobody_gets_nowhere(service: Instance, method: str, path: str) -> None:
    answer = await service.ask(method, path, body={} if method == "PATCH" else ADDRESS)
    assert (answer.status, answer.json()["code"]) == (401, "no-token")


async def test_a_token_outlives_its_account_in_vain(service: Instance) -> None:
    for method, path, body in (
        ("GET", ME, None),
        ("PATCH", ME, {"beta": True}),
        ("POST", ADDRESSES, ADDRESS),
    ):
        answer = await service.ask(method, path, user_id="usr_gone", body=body)
        assert (answer.status, answer.json()["code"]) == (401, "account-gone")


async def test_a_name_changes_and_the_rest_stays(service: Instance, ada: str) -> None:
    before = (await service.ask("GET", ME, user_id=ada)).json()
    answer = await service.ask("PATCH", ME, user_id=ada, body={"name": "  Ada King "})
    assert answer.status == 200
    assert answer.json() == {**before, "name": "Ada King"}
    assert (await service.ask("GET", ME, user_id=ada)).json() == answer.json()


async def test_script_in_a_name_is_kept_as_the_text_that_it_is(service: Instance, ada: str) -> None:
    script = "<script>alert('ß')</script>"
    answer = await service.ask("PATCH", ME, user_id=ada, body={"name": script})
    assert answer.json()["name"] == script


async def test_users_join_the_beta_group_and_leave_it(service: Instance, ada: str) -> None:
    for beta, groups in ((True, ["beta"]), (True, ["beta"]), (False, []), (False, [])):
        answer = await service.ask("PATCH", ME, user_id=ada, body={"beta": beta})
        assert (answer.status, answer.json()["groups"]) == (200, groups)


@pytest.mark.parametrize(
    "body",
    [
        {"groups": ["admin"]},
        {"email": "other@example.com"},
        {"password_hash": "$argon2id$"},
        {"user_id": "usr_other"},
        {"beta": "yes"},
        {"beta": 1},
        {"name": ""},
        {"name": "   "},
        {"name": 7},
        {"name": "x" * 101},
        {"name": "two\nlines"},
        {"name": "nul\0"},
        {"name": "\ud800"},
        [],
        "text",
    ],
)
async def test_what_users_may_not_set_is_refused(
    service: Instance, users: Users, ada: str, body: object
) -> None:
    before = await users.get(ada)
    answer = await service.ask("PATCH", ME, user_id=ada, body=body)
    assert answer.status == 422
    assert await users.get(ada) == before


async def test_addresses_come_and_go(service: Instance, ada: str) -> None:
    added = await service.ask(
        "POST", ADDRESSES, user_id=ada, body={**ADDRESS, "city": " Amsterdam ", "country": "nl"}
    )
    assert added.status == 201
    address = added.json()
    assert address == {**ADDRESS, "id": address["id"]}
    assert await addresses_of(service, ada) == [address]

    removed = await service.ask("DELETE", f"{ADDRESSES}/{address['id']}", user_id=ada)
    assert (removed.status, removed.body) == (204, b"")
    assert await addresses_of(service, ada) == []

    again = await service.ask("DELETE", f"{ADDRESSES}/{address['id']}", user_id=ada)
    assert (again.status, again.json()["code"]) == (404, "unknown-address")


@pytest.mark.parametrize(
    "change",
    [
        {"id": "adr_mine"},
        {"country": "Netherlands"},
        {"country": "1A"},
        {"country": "ß"},
        {"country": "ZZ"},
        {"postal_code": "99999999"},
        {"street": ""},
        {"street": "x" * 201},
        {"postal_code": "x" * 21},
        {"city": "two\u2028lines"},
        {"name": None},
    ],
)
async def test_a_wrong_address_is_refused(
    service: Instance, ada: str, change: dict[str, object]
) -> None:
    answer = await service.ask("POST", ADDRESSES, user_id=ada, body={**ADDRESS, **change})
    assert answer.status == 422
    (field,) = change
    assert answer.json()["errors"][0]["field"] == f"body.{field}"
    assert await addresses_of(service, ada) == []


async def test_an_address_that_is_there_is_not_added_again_but_is_the_latest(
    service: Instance, ada: str
) -> None:
    other = {**ADDRESS, "street": "Herengracht 1"}
    first = (await service.ask("POST", ADDRESSES, user_id=ada, body=ADDRESS)).json()
    second = (await service.ask("POST", ADDRESSES, user_id=ada, body=other)).json()
    again = await service.ask(
        "POST", ADDRESSES, user_id=ada, body={**ADDRESS, "city": " Amsterdam "}
    )
    assert (again.status, again.json()) == (201, first)
    assert await addresses_of(service, ada) == [second, first]


async def test_a_full_address_book_still_takes_what_is_in_it(service: Instance, ada: str) -> None:
    for number in range(MAX_ADDRESSES):
        body = {**ADDRESS, "street": f"Street {number}"}
        assert (await service.ask("POST", ADDRESSES, user_id=ada, body=body)).status == 201
    known = {**ADDRESS, "street": "Street 3"}
    assert (await service.ask("POST", ADDRESSES, user_id=ada, body=known)).status == 201
    assert (await service.ask("POST", ADDRESSES, user_id=ada, body=ADDRESS)).status == 409
    assert len(await addresses_of(service, ada)) == MAX_ADDRESSES


async def test_the_same_address_sent_twice_at_once_is_one(tmp_path: Path, ada: str) -> None:
    async with instance(tmp_path) as one, instance(tmp_path) as another:
        added = await asyncio.gather(
            *(
                service.ask("POST", ADDRESSES, user_id=ada, body=ADDRESS)
                for service in (one, another, one, another)
            )
        )
        assert {answer.json()["id"] for answer in added} == {added[0].json()["id"]}
        assert await addresses_of(one, ada) == [added[0].json()]


async def test_users_touch_no_address_but_their_own(service: Instance, ada: str, eve: str) -> None:
    added = await service.ask("POST", ADDRESSES, user_id=ada, body=ADDRESS)
    address_id = added.json()["id"]
    assert await addresses_of(service, eve) == []
    stolen = await service.ask("DELETE", f"{ADDRESSES}/{address_id}", user_id=eve)
    assert stolen.status == 404
    assert [address["id"] for address in await addresses_of(service, ada)] == [address_id]


async def test_one_users_change_is_not_the_others(service: Instance, ada: str, eve: str) -> None:
    await service.ask("PATCH", ME, user_id=eve, body={"name": "Mallory", "beta": True})
    shown = (await service.ask("GET", ME, user_id=ada)).json()
    assert (shown["name"], shown["groups"]) == ("Ada Lovelace", [])


async def test_an_address_book_takes_its_limit_and_no_more_under_any_interleaving(
    tmp_path: Path, ada: str
) -> None:
    async with instance(tmp_path) as one, instance(tmp_path) as another:
        answers = await asyncio.gather(
            *(
                (one, another)[number % 2].ask(
                    "POST", ADDRESSES, user_id=ada, body={**ADDRESS, "street": f"Street {number}"}
                )
                for number in range(MAX_ADDRESSES + 5)
            )
        )
        kept = [answer.json() for answer in answers if answer.status == 201]
        refused = [answer.json()["code"] for answer in answers if answer.status == 409]
        assert len(kept) == MAX_ADDRESSES
        assert refused == ["too-many-addresses"] * 5
        stored = await addresses_of(one, ada)
        assert sorted(stored, key=lambda each: each["id"]) == sorted(
            kept, key=lambda each: each["id"]
        )


async def test_changes_at_the_same_time_lose_nothing(tmp_path: Path, ada: str) -> None:
    async with instance(tmp_path) as one, instance(tmp_path) as another:
        first = (await one.ask("POST", ADDRESSES, user_id=ada, body=ADDRESS)).json()
        added, removed, renamed, joined = await asyncio.gather(
            one.ask("POST", ADDRESSES, user_id=ada, body={**ADDRESS, "street": "Herengracht 1"}),
            another.ask("DELETE", f"{ADDRESSES}/{first['id']}", user_id=ada),
            one.ask("PATCH", ME, user_id=ada, body={"name": "Ada King"}),
            another.ask("PATCH", ME, user_id=ada, body={"beta": True}),
        )
        assert [each.status for each in (added, removed, renamed, joined)] == [201, 204, 200, 200]
        assert await addresses_of(one, ada) == [added.json()]
        shown = (await one.ask("GET", ME, user_id=ada)).json()
        assert (shown["name"], shown["groups"]) == ("Ada King", ["beta"])
