"""A refund that Stripe takes and the bank sends back, in the whole shop."""

from __future__ import annotations

import asyncio
import re

import aiohttp

from services.audit.command import EXIT_DISAGREES
from tests.shop.conftest import OpenShop
from tests.testkit.books import open_books
from tests.testkit.customer import Client, Customer
from tests.testkit.shop import Shop
from tests.testkit.waiting import eventually

BOARD = "oak-serving-board"
SOON = {"PAYMENT_RECONCILE_SECONDS": "0.3"}


async def test_that_fails_later_is_no_secret(
    open_shop: OpenShop, http: aiohttp.ClientSession
) -> None:
    shop = open_shop(environment=SOON)
    customer = await Customer.register(Client(http, shop.url))
    placed = {
        card: await customer.place({BOARD: 1}, payment_method=card)
        for card in ("pm_card_refundFail", "pm_card_pendingRefund", "pm_card_createDispute")
    }
    failing, pending, disputed = [answer.body["order_id"] for answer in placed.values()]
    for order_id in (failing, pending, disputed):
        cancelled = await customer.cancel(order_id)
        assert (cancelled.status, cancelled.body["refund_failed"]) == (200, False)
        assert cancelled.body["refund_disputed"] == (order_id == disputed)

    async def is_known() -> bool:
        return (await customer.order(failing)).body["refund_failed"]

    await eventually(is_known, "the order knows that its refund failed", 60)

    async def is_told() -> bool:
        return any(one["kind"] == "order-refund-failed" for one in await customer.inbox())

    await eventually(is_told, "its customer is told", 20)
    kinds = {order_id: set[str]() for order_id in (failing, pending, disputed)}
    for message in await customer.inbox():
        kinds[message["order_id"]].add(message["kind"])
    as_always = {"order-confirmed", "order-cancelled"}
    assert kinds == {
        failing: {*as_always, "order-refund-failed"},
        pending: as_always,
        disputed: as_always,
    }

    (payment,) = shop.of_service("payment")
    customer.client = Client(http, payment.url)
    states = [
        (await customer.send("GET", f"/api/payments/{order_id}")).body["state"]
        for order_id in (failing, pending, disputed)
    ]
    assert states == ["refund_failed", "refunded", "disputed"]
    async with open_books(shop) as books:
        ledger = await books.ledger()
    assert (ledger.refunded(failing), ledger.refunded(disputed)) == (0, 0)
    assert ledger.refunded(pending) == placed["pm_card_pendingRefund"].body["total_cents"]
    found = await asyncio.to_thread(shop.audit)
    assert found.returncode == EXIT_DISAGREES
    total_cents = placed["pm_card_refundFail"].body["total_cents"]
    finding, note, _ = found.stdout.splitlines()
    assert finding.startswith(f"{failing}: ")
    failed = f"its refund failed: {total_cents} cents are to be paid back another way"
    intent = re.search(rf"{failed} \((pi_\w+)\)$", finding)
    assert intent is not None, finding
    assert note.startswith(f"{disputed}: ")
    assert "are disputed" in note

    await _note_as_paid_back(http, shop, intent[1])
    settled = await asyncio.to_thread(shop.audit)
    assert settled.returncode == 0, settled.stdout


async def _note_as_paid_back(http: aiohttp.ClientSession, shop: Shop, intent_id: str) -> None:
    """What docs/checkout.md tells a person to do, in the sandbox."""
    url = f"{shop.sandbox_url}/v1/payment_intents/{intent_id}"
    noted = {"metadata[paid_back]": "bank transfer of 29 November"}
    key = {"authorization": "Bearer sk_test_sandbox"}
    async with http.post(url, data=noted, headers=key) as reply:
        assert reply.status == 200, await reply.text()
