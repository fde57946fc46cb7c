"""A person with a browser buys something in the cluster, through the shop's port."""

from __future__ import annotations

import pytest

from tests.cluster.release import Release
from tests.testkit.browser import MISSING, chromium, open_browser
from tests.testkit.shopper import Shopper


async def test_a_purchase(release: Release) -> None:
    executable = chromium()
    if executable is None:
        pytest.skip(MISSING)
    async with open_browser(executable) as browser:
        context = await browser.new_context(base_url=release.url)
        shopper = Shopper(context, await context.new_page())
        await shopper.register()
        await shopper.go_to_payment("oak-serving-board", 2)
        await shopper.pay()
        order_id = await shopper.order_confirmed()
        panel = shopper.page.get_by_role("complementary", name="How this page was made")
        await panel.get_by_text("How this page was made").click()
        text = await panel.inner_text()
        assert any(pod in text for pod in release.pods("order-service")), text
        await context.close()
        assert not shopper.complaints
    async with release.books() as books:
        order = await books.order(order_id)
    assert order is not None
