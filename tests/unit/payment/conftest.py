"""A store for each test."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from services.common.documents import Documents, SqliteStore
from services.payment.model import PAYMENTS, Payment
from services.payment.store import PaymentStore


@pytest.fixture
async def store(tmp_path: Path) -> AsyncGenerator[PaymentStore]:
    database = SqliteStore(tmp_path / "payment.db")
    try:
        yield PaymentStore(await Documents.open(database, PAYMENTS, Payment))
    finally:
        await database.close()
