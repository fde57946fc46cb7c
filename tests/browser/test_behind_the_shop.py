"""The mesh page shows the calls of what was just done."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from playwright.async_api import expect

from tests.harness.customer import Customer
from tests.harness.shopper import Shopper
from tests.harness.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

Edge = tuple[str, str]

CHECKOUT: Iterable[Edge] = (
    ("frontend", "order"),
    ("order", "product"),
    ("order", "inventory"),
    ("order", "payment"),
    ("order", "shipping"),
)


async def test_a_purchase_is_in_the_figures(shopper: Shopper, customer: Customer) -> None:
    await shopper.open("/mesh")
    before = await _calls(shopper)
    await shopper.log_in(customer.email)
    await shopper.go_to_payment("camp-lantern")
    await shopper.pay()
    await shopper.order_confirmed()

    await shopper.page.get_by_role("link", name="Behind the shop").click()

    after = await _calls(shopper)
    quiet = [edge for edge in CHECKOUT if after[edge] <= before[edge]]
    assert not quiet, f"no call more of {quiet} after a purchase"
    graph = shopper.page.get_by_role("group", name="Services and their calls")
    await expect(graph.get_by_role("link", name="order to payment")).to_be_attached()


async def test_it_keeps_itself_up_to_date_on_request(shopper: Shopper, customer: Customer) -> None:
    await shopper.page.clock.install()
    await shopper.open("/mesh")
    before = await _calls(shopper)
    await customer.bought({"camp-lantern": 1})

    await shopper.page.get_by_label("Update every 5 seconds").check()

    async def shows_the_purchase() -> bool:
        await shopper.page.clock.run_for(5_000)
        return (await _calls(shopper))["order", "payment"] > before["order", "payment"]

    await eventually(shows_the_purchase, "the page shows the purchase")


async def _calls(shopper: Shopper) -> dict[Edge, int]:
    """How many calls each edge has had, as the table says."""
    table = shopper.page.get_by_role("region", name="Calls between services").get_by_role("row")
    rows: list[list[str]] = await table.evaluate_all(
        "rows => rows.slice(1).map((row) => [...row.cells].map((cell) => cell.textContent.trim()))"
    )
    return {(row[0], row[1]): int(row[3]) if row[3].isdecimal() else 0 for row in rows}
