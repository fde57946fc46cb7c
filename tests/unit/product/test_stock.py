"""The stock on pages: at most so old, and asked for once by many."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from services.common.limits import MAX_PRODUCT_IDS
from services.product.stock import ShownStock
from tests.unit.common.kit import ManualClock
from tests.unit.failure import failure
from tests.unit.product.shop import FakeStock

MAX_AGE_SECONDS = 1.0


class SlowStock(FakeStock):
    """Answers when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_answer = asyncio.Event()

    async def available(self, product_ids: Sequence[str]) -> dict[str, int]:
        answer = await super().available(product_ids)
        await self.may_answer.wait()
        return answer


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def inventory() -> FakeStock:
    return FakeStock()


@pytest.fixture
def shown(inventory: FakeStock, clock: ManualClock) -> ShownStock:
    return ShownStock(inventory, max_age_seconds=MAX_AGE_SECONDS, clock=clock)


async def test_a_figure_is_shown_until_it_is_too_old(
    shown: ShownStock, inventory: FakeStock, clock: ManualClock
) -> None:
    assert (await shown.available(["mugs"]))["mugs"] == 200
    inventory.figures["mugs"] = 199
    clock.advance(MAX_AGE_SECONDS / 2)
    assert (await shown.available(["mugs"]))["mugs"] == 200
    assert inventory.asked == [["mugs"]]
    clock.advance(MAX_AGE_SECONDS / 2)
    assert (await shown.available(["mugs"]))["mugs"] == 199


async def test_the_age_begins_when_inventory_is_asked(clock: ManualClock) -> None:
    inventory = SlowStock()
    shown = ShownStock(inventory, max_age_seconds=MAX_AGE_SECONDS, clock=clock)
    asking = asyncio.create_task(shown.available(["mugs"]))
    await asyncio.sleep(0)
    clock.advance(MAX_AGE_SECONDS)
    inventory.may_answer.set()
    await asking
    await shown.available(["mugs"])
    assert inventory.asked == [["mugs"], ["mugs"]]


async def test_only_what_is_not_known_is_asked_for(shown: ShownStock, inventory: FakeStock) -> None:
    await shown.available(["mugs"])
    found = await shown.available(["mugs", "crema-set"])
    assert found == {"mugs": 200, "crema-set": 3}
    assert inventory.asked == [["mugs"], ["crema-set"]]


async def test_a_call_renews_what_is_in_use_and_too_old(
    shown: ShownStock, inventory: FakeStock, clock: ManualClock
) -> None:
    await shown.available(["mugs", "crema-set", "lamp"])
    await shown.available(["mugs", "lamp"])  # nobody has wanted the third again
    clock.advance(MAX_AGE_SECONDS)
    await shown.available(["oak-board"])
    assert inventory.asked[1:] == [["oak-board", "mugs", "lamp"]]
    await shown.available(["mugs", "lamp"])
    assert len(inventory.asked) == 2


async def test_a_call_never_asks_for_more_than_inventory_takes(
    shown: ShownStock, inventory: FakeStock, clock: ManualClock
) -> None:
    many = [f"thing-{number}" for number in range(MAX_PRODUCT_IDS)]
    await shown.available(many)
    await shown.available(many)
    clock.advance(MAX_AGE_SECONDS)
    await shown.available(["mugs"])
    assert len(inventory.asked[-1]) == MAX_PRODUCT_IDS


async def test_requests_at_the_same_time_share_a_call(clock: ManualClock) -> None:
    inventory = SlowStock()
    shown = ShownStock(inventory, max_age_seconds=MAX_AGE_SECONDS, clock=clock)
    asking = [asyncio.create_task(shown.available(["mugs", "crema-set"])) for _ in range(5)]
    other = asyncio.create_task(shown.available(["mugs", "lamp"]))
    await asyncio.sleep(0)
    inventory.may_answer.set()
    for found in await asyncio.gather(*asking):
        assert found == {"mugs": 200, "crema-set": 3}
    assert (await other)["lamp"] == 0
    assert inventory.asked == [["mugs", "crema-set"], ["lamp"]]


async def test_who_leaves_takes_nothing_from_those_who_wait(clock: ManualClock) -> None:
    inventory = SlowStock()
    shown = ShownStock(inventory, max_age_seconds=MAX_AGE_SECONDS, clock=clock)
    first = asyncio.create_task(shown.available(["mugs"]))
    await asyncio.sleep(0)
    second = asyncio.create_task(shown.available(["mugs"]))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    inventory.may_answer.set()
    assert (await second)["mugs"] == 200


async def test_a_failure_is_told_to_all_and_not_kept(clock: ManualClock) -> None:
    inventory = SlowStock()
    inventory.out = True
    shown = ShownStock(inventory, max_age_seconds=MAX_AGE_SECONDS, clock=clock)
    asking = [asyncio.create_task(failure(shown.available(["mugs"]))) for _ in range(2)]
    found = await asyncio.gather(*asking)
    assert [error.code for error in found] == ["inventory-unavailable"] * 2
    assert len(inventory.asked) == 1
    inventory.out = False
    inventory.may_answer.set()
    assert (await shown.available(["mugs"]))["mugs"] == 200
