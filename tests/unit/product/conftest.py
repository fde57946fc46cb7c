"""A catalogue for each test."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.unit.product.shop import ServedCatalogue, open_shop


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncGenerator[ServedCatalogue]:
    async with open_shop(tmp_path) as opened:
        yield opened
