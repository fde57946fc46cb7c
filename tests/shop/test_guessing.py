"""Somebody guesses passwords while customers log in and buy; `make test-long` has it for longer."""

from __future__ import annotations

from pathlib import Path

from tests.endurance import guessing
from tests.endurance.traffic import PLENTY
from tests.testkit.shop import Shop


async def test_customers_notice_nothing_of_guessed_passwords(tmp_path: Path) -> None:
    with Shop(tmp_path, environment=guessing.ENVIRONMENT, stock=PLENTY) as shop:
        assert not await guessing.measure(shop, 5.0)
