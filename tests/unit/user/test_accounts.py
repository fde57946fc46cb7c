"""Accounts, as the other services see them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from services.common.errors import Kind, ShopError
from services.user.model import EmailTaken, UnknownUser
from services.user.service import Users
from tests.unit.user.kit import PASSWORD_HASH, accounts


async def test_an_account_is_found_by_its_address_in_any_spelling(users: Users, ada: str) -> None:
    for spelling in ("ada@example.com", "Ada@Example.COM"):
        user = await users.by_email(spelling)
        assert (user.id, user.email) == (ada, "ada@example.com")


async def test_an_address_in_another_spelling_is_taken_too(users: Users, ada: str) -> None:
    with pytest.raises(EmailTaken):
        await users.create(email="ADA@example.com", name="Impostor", password_hash=PASSWORD_HASH)


async def test_of_many_who_want_one_address_exactly_one_gets_it(tmp_path: Path) -> None:
    async with accounts(tmp_path) as one, accounts(tmp_path) as another:
        outcomes = await asyncio.gather(
            *(
                process.create(email="ada@example.com", name=name, password_hash=PASSWORD_HASH)
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
        await users.create(**{**good, field: value})
    assert refused.value.kind is Kind.INVALID
    assert "in clear" not in refused.value.detail


async def test_a_password_hash_is_replaced_only_where_the_old_one_stands(
    users: Users, ada: str
) -> None:
    await users.replace_password_hash(ada, old=PASSWORD_HASH, new="$argon2id$new")
    await users.replace_password_hash(ada, old=PASSWORD_HASH, new="$argon2id$late")
    assert (await users.get(ada)).password_hash == "$argon2id$new"


async def test_of_two_who_change_a_password_one_does(users: Users, ada: str) -> None:
    changed = await users.change_password(ada, PASSWORD_HASH, "$argon2id$new")
    assert (changed.password_hash, changed.password_version) == ("$argon2id$new", 1)
    with pytest.raises(ShopError) as refused:
        await users.change_password(ada, PASSWORD_HASH, "$argon2id$late")
    assert (refused.value.kind, refused.value.code) == (Kind.CONFLICT, "password-replaced")
    assert await users.get(ada) == changed


async def test_a_hash_of_the_same_password_does_not_count(users: Users, ada: str) -> None:
    await users.replace_password_hash(ada, old=PASSWORD_HASH, new="$argon2id$new")
    assert (await users.get(ada)).password_version == 0


async def test_a_password_hash_is_not_shown_where_the_account_is_printed(
    users: Users, ada: str
) -> None:
    assert "argon2" not in repr(await users.get(ada))
