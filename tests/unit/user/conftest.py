"""What the tests of the user service share."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from services.user.model import CreateUser
from services.user.service import Users
from tests.unit.user.kit import PASSWORD_HASH, Instance, accounts, instance


@pytest.fixture
async def users(tmp_path: Path) -> AsyncGenerator[Users]:
    async with accounts(tmp_path) as service:
        yield service


@pytest.fixture
async def service(tmp_path: Path) -> AsyncGenerator[Instance]:
    async with instance(tmp_path) as running:
        yield running


@pytest.fixture
async def ada(users: Users) -> str:
    user = await users.create(
        CreateUser(email="ada@example.com", name="Ada Lovelace", password_hash=PASSWORD_HASH)
    )
    return user.id


@pytest.fixture
async def eve(users: Users) -> str:
    user = await users.create(
        CreateUser(email="eve@example.com", name="Eve", password_hash=PASSWORD_HASH)
    )
    return user.id
