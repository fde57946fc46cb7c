"""A person with a browser buys something through the gateway, over HTTPS."""

from __future__ import annotations

import pytest

from tests.mesh.meshed import HOST, NODE, Mesh, gateway_port
from tests.testkit.browser import MISSING, chromium, open_browser
from tests.testkit.shopper import Shopper


async def test_a_purchase(in_a_mesh: Mesh) -> None:
    executable = chromium()
    if executable is None:
        pytest.skip(MISSING)
    async with open_browser(executable, {HOST: NODE}) as browser:
        # The certificate is one of the shop's own making; test_edge.py verifies it.
        context = await browser.new_context(
            base_url=f"https://{HOST}:{gateway_port('https', in_a_mesh.way_in)}",
            ignore_https_errors=True,
        )
        shopper = Shopper(context, await context.new_page())
        await shopper.register()
        await shopper.go_to_payment("oak-serving-board", 2)
        await shopper.pay()
        order_id = await shopper.order_confirmed()
        cookies = await context.cookies()
        assert cookies
        assert all(cookie.get("secure") for cookie in cookies), cookies
        await context.close()
        assert not shopper.complaints
    async with in_a_mesh.release.books() as books:
        assert await books.order(order_id) is not None
