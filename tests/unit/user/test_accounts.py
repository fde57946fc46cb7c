"""Accounts, as the other services see them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from services.common.errors import Kind, ShopError
from services.user.model import (
    ChangeGuestEmail,
    CreateGuest,
    CreateUser,
    EmailTaken,
    KeepGuest,
    ReplaceHash,
    UnknownUser,
    User,
)
from services.user.service import Users
from tests.unit.failure import failure
from tests.unit.user.kit import PASSWORD_HASH, accounts


def new_hash(user_id: str, password_hash: str) -> ReplaceHash:
    return ReplaceHash(user_id=user_id, old_hash=PASSWORD_HASH, new_hash=password_hash)


async def test_an_account_is_found_by_its_address_in_any_spelling(users: Users, ada: str) -> None:
    for spelling in ("ada@example.com", "Ada@Example.COM"):
        user = await users.by_email(spelling)
        assert (user.id, user.email) == (ada, "ada@example.com")


async def test_an_address_in_another_spelling_is_taken_too(users: Users, ada: str) -> None:
    with pytest.raises(EmailTaken):
        await users.create(
            CreateUser(email="ADA@example.com", name="Impostor", password_hash=PASSWORD_HASH)
        )


async def test_of_many_who_want_one_address_exactly_one_gets_it(tmp_path: Path) -> None:
    async with accounts(tmp_path) as one, accounts(tmp_path) as another:
        outcomes = await asyncio.gather(
            *(
                process.create(
                    CreateUser(email="ada@example.com", name=name, password_hash=PASSWORD_HASH)
                )
                for process in (one, another)
                for name in "ABCDEFGHIJ"
            ),
            return_exceptions=True,
        )
        winners = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        assert len(winners) == 1
        assert sum(isinstance(outcome, EmailTaken) for outcome in outcomes) == 19
        assert await another.by_email("ada@example.com") == winners[0]


@pytest.mark.parametrize("email", ["nobody@example.com", "not an address", "", "a\0@example.com"])
async def test_an_address_without_an_account_is_unknown(users: Users, email: str) -> None:
    with pytest.raises(UnknownUser):
        await users.by_email(email)


async def test_an_unknown_id_is_unknown(users: Users) -> None:
    with pytest.raises(UnknownUser):
        await users.get("usr_nobody")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("email", "not an address"),
        ("name", ""),
        ("name", "two\nlines"),
        ("name", "x" * 101),
        ("password_hash", "a password in clear"),
    ],
)
async def test_an_account_with_a_wrong_field_is_refused(
    users: Users, field: str, value: str
) -> None:
    good = {"email": "ada@example.com", "name": "Ada", "password_hash": PASSWORD_HASH}
    with pytest.raises(ShopError, match=f"^{field}: ") as refused:
        await users.create(CreateUser(**{**good, field: value}))
    assert refused.value.kind is Kind.INVALID
    assert "in clear" not in refused.value.detail


async def test_a_password_hash_is_replaced_only_where_the_old_one_stands(
    users: Users, ada: str
) -> None:
    await users.replace_password_hash(new_hash(ada, "$argon2id$new"))
    await users.replace_password_hash(new_hash(ada, "$argon2id$late"))
    assert (await users.get(ada)).password_hash == "$argon2id$new"


async def test_of_two_who_change_a_password_one_does(users: Users, ada: str) -> None:
    changed = await users.change_password(new_hash(ada, "$argon2id$new"))
    assert (changed.password_hash, changed.password_version) == ("$argon2id$new", 1)
    refused = await failure(users.change_password(new_hash(ada, "$argon2id$late")))
    assert (refused.kind, refused.code) == (Kind.CONFLICT, "password-replaced")
    assert await users.get(ada) == changed


async def test_a_hash_of_the_same_password_does_not_count(users: Users, ada: str) -> None:
    await users.replace_password_hash(new_hash(ada, "$argon2id$new"))
    assert (await users.get(ada)).password_version == 0


async def test_guests_have_what_address_they_like_and_nobody_finds_them_by_it(
    users: Users, ada: str
) -> None:
    guests = [
        await users.create_guest(CreateGuest(email=email, name="Guest"))
        for email in ("ADA@example.com", "ada@example.com", "new@example.com", "new@example.com")
    ]
    assert len({ada, *(guest.id for guest in guests)}) == 5
    assert {guest.contact_email for guest in guests} == {"ada@example.com", "new@example.com"}
    assert (await users.by_email("ada@example.com")).id == ada
    with pytest.raises(UnknownUser):
        await users.by_email("new@example.com")
    assert (await users.get(guests[0].id)).is_guest


async def test_a_guest_who_sets_a_password_is_found(users: Users) -> None:
    guest = await users.create_guest(CreateGuest(email="new@example.com", name="Guest"))
    kept = await users.keep_guest(KeepGuest(user_id=guest.id, password_hash=PASSWORD_HASH))
    assert (kept.id, kept.email, kept.is_guest) == (guest.id, "new@example.com", False)
    assert (await users.by_email("NEW@example.com")) == kept
    refused = await failure(
        users.keep_guest(KeepGuest(user_id=guest.id, password_hash="$argon2id$other"))
    )
    assert (refused.kind, refused.code) == (Kind.CONFLICT, "not-a-guest")
    assert (await users.get(guest.id)).password_hash == PASSWORD_HASH


async def test_a_guest_is_written_to_where_they_say_now(users: Users, ada: str) -> None:
    guest = await users.create_guest(CreateGuest(email="typo@example.com", name="Guest"))
    changed = await users.change_guest_email(
        ChangeGuestEmail(user_id=guest.id, email="ADA@example.com")
    )
    assert (changed.contact_email, changed.is_guest) == ("ada@example.com", True)
    assert (await users.by_email("ada@example.com")).id == ada
    with pytest.raises(ShopError) as wrong:
        ChangeGuestEmail(user_id=guest.id, email="no address")
    assert wrong.value.kind is Kind.INVALID
    refused = await failure(
        users.change_guest_email(ChangeGuestEmail(user_id=ada, email="eve@example.com"))
    )
    assert (refused.kind, refused.code) == (Kind.CONFLICT, "not-a-guest")
    assert (await users.get(ada)).email == "ada@example.com"


async def test_a_guest_keeps_the_account_with_an_address_that_is_free(
    users: Users, ada: str
) -> None:
    guest = await users.create_guest(CreateGuest(email="ada@example.com", name="Guest"))
    with pytest.raises(ShopError):
        await users.keep_guest(
            KeepGuest(user_id=guest.id, password_hash=PASSWORD_HASH, email="no address")
        )
    with pytest.raises(EmailTaken):
        await users.keep_guest(KeepGuest(user_id=guest.id, password_hash=PASSWORD_HASH))
    kept = await users.keep_guest(
        KeepGuest(user_id=guest.id, password_hash=PASSWORD_HASH, email="New@example.com")
    )
    assert (kept.id, kept.email, kept.contact_email) == (
        guest.id,
        "new@example.com",
        "new@example.com",
    )
    assert (await users.by_email("new@example.com")).id == guest.id
    assert (await users.by_email("ada@example.com")).id == ada


async def test_a_guest_takes_nobodys_account_over(users: Users, ada: str) -> None:
    guest = await users.create_guest(CreateGuest(email="ada@example.com", name="Eve"))
    before = await users.get(ada)
    with pytest.raises(EmailTaken):
        await users.keep_guest(KeepGuest(user_id=guest.id, password_hash="$argon2id$eves"))
    assert await users.get(ada) == before
    assert (await users.get(guest.id)).is_guest


async def test_of_guests_with_one_address_one_keeps_the_account(tmp_path: Path) -> None:
    async with accounts(tmp_path) as one, accounts(tmp_path) as another:
        someone = CreateGuest(email="new@example.com", name="G")
        guests = [await one.create_guest(someone) for _ in range(6)]
        outcomes = await asyncio.gather(
            *(
                (one, another)[number % 2].keep_guest(
                    KeepGuest(user_id=guest.id, password_hash=PASSWORD_HASH)
                )
                for number, guest in enumerate(guests)
            ),
            return_exceptions=True,
        )
        kept = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        assert len(kept) == 1
        assert sum(isinstance(outcome, EmailTaken) for outcome in outcomes) == 5
        assert (await one.by_email("new@example.com")).id == kept[0].id


async def test_an_account_of_an_earlier_version_is_no_guest() -> None:
    stored = {
        "id": "usr_1",
        "email": "ada@example.com",
        "name": "Ada",
        "password_hash": PASSWORD_HASH,
        "created_ms": 1,
    }
    user = User.model_validate(stored)
    assert (user.is_guest, user.contact_email) == (False, "ada@example.com")


@pytest.mark.parametrize(("field", "value"), [("email", "no address"), ("name", "two\nlines")])
async def test_a_guest_with_a_wrong_field_is_refused(users: Users, field: str, value: str) -> None:
    with pytest.raises(ShopError, match=f"^{field}: ") as refused:
        await users.create_guest(
            CreateGuest(**{"email": "ada@example.com", "name": "Ada", field: value})
        )
    assert refused.value.kind is Kind.INVALID


async def test_a_password_hash_is_not_shown_where_the_account_is_printed(
    users: Users, ada: str
) -> None:
    assert "argon2" not in repr(await users.get(ada))
