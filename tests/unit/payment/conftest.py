"""A store for each test."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from services.common.documents import Documents, SqliteStore
from services.payment.model import PAYMENTS, RECONCILED, Payment, Reconciled
from services.payment.store import PaymentStore, ReconciledStore


@pytest.fixture
async def database(tmp_path: Path) -> AsyncGenerator[SqliteStore]:
    database = SqliteStore(tmp_path / "payment.db")
    try:
        yield database
    finally:
        await database.close()


@pytest.fixture
async def store(database: SqliteStore) -> PaymentStore:
    return PaymentStore(await Documents.open(database, PAYMENTS, Payment))


@pytest.fixture
async def reconciled(database: SqliteStore) -> ReconciledStore:
    return ReconciledStore(await Documents.open(database, RECONCILED, Reconciled))
