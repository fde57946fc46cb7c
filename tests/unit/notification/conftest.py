"""A mail server for each test."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from tests.unit.notification.mail_server import MailServer, mail_server


@pytest.fixture
async def server() -> AsyncGenerator[MailServer]:
    async with mail_server() as server:
        yield server
