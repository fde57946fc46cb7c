"""What the tests of the auth service share."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from services.auth.model.commands import Register
from tests.unit.auth.kit import EMAIL, HOME, PASSWORD, Process, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
async def process(world: World) -> AsyncGenerator[Process]:
    async with world.process() as running:
        yield running


@pytest.fixture
async def another(world: World) -> AsyncGenerator[Process]:
    async with world.process() as running:
        yield running


@pytest.fixture
async def ada(process: Process) -> str:
    """Ada's refresh token, right after her registration."""
    tokens = await process.auth.register(
        Register(email=EMAIL, password=PASSWORD, name="Ada Lovelace", client_address=HOME)
    )
    return tokens.refresh_token
