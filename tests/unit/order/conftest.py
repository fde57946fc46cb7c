"""A harness for each test."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.unit.order.harness import OrderHarness, an_order_harness


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncGenerator[OrderHarness]:
    async with an_order_harness(tmp_path) as harness:
        yield harness
