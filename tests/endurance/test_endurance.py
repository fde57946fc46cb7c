"""What an outage does to its neighbours and leaves behind, an attack to customers, and what alerts
say, in short.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from tests.endurance import alerts, amplification, backlog, guessing
from tests.endurance.traffic import PLENTY
from tests.testkit.shop import Shop

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]

_PACE = 5.0


@pytest.mark.in_turn
@pytest.mark.parametrize("way", backlog.WAYS)
async def test_a_backlog_is_finished_within_a_minute(
    way: str, checkouts: int, tmp_path: Path
) -> None:
    with backlog.open_shop(tmp_path) as shop:
        seconds = await backlog.measure(shop, way, Namespace(orders=checkouts, away="payment"))
    assert seconds <= backlog.MAX_SECONDS


@pytest.mark.in_turn
async def test_an_outage_does_not_spread(tmp_path: Path) -> None:
    arguments = Namespace(
        seconds=15.0, per_second=8.0, services="payment,stripe_sandbox", ways="hung,dead", seed=1
    )
    with Shop(tmp_path, environment=amplification.ENVIRONMENT, stock=PLENTY) as shop:
        assert not await amplification.measure(shop, arguments)


@pytest.mark.in_turn
async def test_customers_notice_nothing_of_guessed_passwords(tmp_path: Path) -> None:
    with Shop(tmp_path, environment=guessing.ENVIRONMENT, stock=PLENTY) as shop:
        assert not await guessing.measure(shop, 45.0)


@pytest.mark.needs_programs("prometheus", "promtool")
async def test_alerts_fire_and_resolve_for_what_is_wrong_and_nothing_else(tmp_path: Path) -> None:
    assert alerts.is_exact(await alerts.measure(tmp_path, _PACE))
