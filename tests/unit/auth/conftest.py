"""What the tests of the auth service share."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from services.auth.model.commands import Register
from tests.unit.auth.kit import EMAIL, HOME, PASSWORD, AuthHarness, AuthProcess


@pytest.fixture
def harness(tmp_path: Path) -> AuthHarness:
    return AuthHarness(tmp_path)


@pytest.fixture
async def process(harness: AuthHarness) -> AsyncGenerator[AuthProcess]:
    async with harness.process() as running:
        yield running


@pytest.fixture
async def another(harness: AuthHarness) -> AsyncGenerator[AuthProcess]:
    async with harness.process() as running:
        yield running


@pytest.fixture
async def ada(process: AuthProcess) -> str:
    """Ada's refresh token, right after her registration."""
    tokens = await process.auth.register(
        Register(email=EMAIL, password=PASSWORD, name="Ada Lovelace", client_address=HOME)
    )
    return tokens.refresh_token
