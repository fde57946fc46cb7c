"""What a customer meets between the first look and the parcel at the door."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Generator

import aiohttp
import pytest

from services.inventory.model import Stock
from services.payment.model import PaymentState
from tests.testkit.books import Books, open_books
from tests.testkit.customer import Answer, Client, Customer
from tests.testkit.shop import Shop
from tests.testkit.waiting import eventually

BOARD, BINOCULARS = "oak-serving-board", "pocket-binoculars"

DECLINES = {
    "pm_card_visa_chargeDeclined": ("card-declined", "Your card was declined."),
    "pm_card_visa_chargeDeclinedInsufficientFunds": ("insufficient-funds", "insufficient funds"),
    "pm_card_visa_chargeDeclinedExpiredCard": ("expired-card", "Your card has expired."),
    "pm_card_visa_chargeDeclinedProcessingError": ("processing-error", "could not process"),
    "pm_card_authenticationRequired": ("authentication-required", "confirm this payment"),
}


async def test_a_paid_order_is_confirmed_and_told_once(
    client: Client, customer: Customer, books: Books
) -> None:
    found = await client.send("GET", "/api/products", query={"q": "oak serving board"})
    product = next(item for item in found.body["items"] if item["id"] == BOARD)
    before = await books.stock(BOARD)

    placed = await customer.place({BOARD: 2})

    assert placed.status == 201
    order = placed.body
    assert order["state"] == "confirmed"
    assert order["items_cents"] == 2 * product["price_cents"]
    assert order["total_cents"] == order["items_cents"] + order["shipping_cents"]
    assert (await customer.order(order["order_id"])).body == order
    await books.settled()
    assert (await books.ledger()).charges(order["order_id"]) == [order["total_cents"]]
    assert _moved(before, await books.stock(BOARD)) == {"available": -2, "sold": 2}
    [message] = await customer.inbox()
    assert (message["kind"], message["order_id"]) == ("order-confirmed", order["order_id"])


@pytest.mark.parametrize("payment_method", DECLINES)
async def test_a_declined_card_costs_nothing(
    payment_method: str, customer: Customer, books: Books
) -> None:
    code, detail = DECLINES[payment_method]
    before = await books.stock(BOARD)

    placed = await customer.place({BOARD: 1}, payment_method=payment_method)

    assert (placed.status, placed.code) == (402, code)
    assert detail in placed.body["detail"]
    order_id = placed.body["fields"]["order_id"]
    snapshot = await books.settled()
    assert snapshot.ledger.charges(order_id) == []
    assert snapshot.payments[order_id].state is PaymentState.VOIDED
    assert await books.stock(BOARD) == before
    order = await customer.order(order_id)
    assert (order.body["state"], order.body["reason"]["code"]) == ("cancelled", code)
    assert order.body["is_attempt"]
    assert await customer.inbox() == [], "its customer has the answer"


async def test_an_unknown_payment_method_is_the_clients_fault(
    customer: Customer, books: Books
) -> None:
    placed = await customer.place({BOARD: 1}, payment_method="pm_card_nobodyKnows")

    assert placed.status == 422
    await books.settled()


async def test_more_than_there_is_names_the_product_and_holds_nothing_else(
    customer: Customer, books: Books
) -> None:
    board, binoculars = await books.stock(BOARD), await books.stock(BINOCULARS)
    assert binoculars.available < 99, "the test needs something that can run out in one order"

    placed = await customer.place({BOARD: 1, BINOCULARS: 99})

    assert (placed.status, placed.code) == (409, "out-of-stock")
    assert placed.body["fields"]["product_id"] == BINOCULARS
    snapshot = await books.settled()
    assert (await books.stock(BOARD), await books.stock(BINOCULARS)) == (board, binoculars)
    assert placed.body["fields"]["order_id"] not in snapshot.payments


async def test_an_unknown_product_is_named_and_no_order_is_kept(customer: Customer) -> None:
    placed = await customer.place({BOARD: 1, "moon-dust": 1})

    assert (placed.status, placed.code) == (422, "unknown-product")
    assert placed.body["fields"]["product_id"] == "moon-dust"
    assert (await customer.send("GET", "/api/orders")).body["items"] == []


async def test_a_cancelled_order_is_refunded_and_goes_back_on_the_shelf(
    customer: Customer, books: Books
) -> None:
    before = await books.stock(BOARD)
    order_id = await customer.bought({BOARD: 3})

    cancelled = await customer.cancel(order_id)

    assert (cancelled.status, cancelled.body["state"]) == (200, "cancelled")
    snapshot = await books.settled()
    assert snapshot.ledger.refunded(order_id) == cancelled.body["total_cents"]
    assert await books.stock(BOARD) == before
    kinds = [message["kind"] for message in await customer.inbox()]
    assert kinds == ["order-confirmed", "order-cancelled"]


async def test_cancelling_twice_at_once_refunds_once(customer: Customer, books: Books) -> None:
    order_id = await customer.bought({BOARD: 1})

    answers = await asyncio.gather(*(customer.cancel(order_id) for _ in range(5)))

    assert {answer.status for answer in answers} <= {200, 202}
    snapshot = await books.settled()
    assert snapshot.ledger.refunded(order_id) == snapshot.orders[order_id].total_cents


async def test_orders_of_others_do_not_exist(client: Client, customer: Customer) -> None:
    order_id = await customer.bought({BOARD: 1})
    stranger = await Customer.register(client)

    for answer in (await stranger.order(order_id), await stranger.cancel(order_id)):
        assert (answer.status, answer.code) == (404, "unknown-order")
    shipment = await stranger.send("GET", f"/api/shipping/orders/{order_id}")
    assert (shipment.status, shipment.code) == (404, "unknown-shipment")
    assert await stranger.inbox() == []
    assert (await customer.order(order_id)).body["state"] == "confirmed"


async def test_the_order_history_pages_newest_first_without_gaps(customer: Customer) -> None:
    placed = [await customer.bought({BOARD: 1}) for _ in range(5)]

    seen: list[str] = []
    cursor: str | None = None
    while True:
        query: dict[str, str | int] = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await customer.send("GET", "/api/orders", query=query)).body
        assert len(page["items"]) <= 2
        seen += [order["order_id"] for order in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert seen == placed[::-1]


@pytest.fixture(scope="module")
def quick_shop(tmp_path_factory: pytest.TempPathFactory) -> Generator[Shop]:
    """A shop whose carrier is quick."""
    folder = tmp_path_factory.mktemp("quick")
    with Shop(folder, environment={"SHIPPING_STEP_SECONDS": "0.2"}) as shop:
        yield shop


async def test_a_parcel_arrives_and_its_customer_is_told(
    quick_shop: Shop, http: aiohttp.ClientSession
) -> None:
    customer = await Customer.register(Client(http, quick_shop.url))
    order_id = await customer.bought({BOARD: 1})

    shipment = await _shipment_in(customer, order_id, "delivered")

    states = [moment["state"] for moment in shipment.body["history"]]
    assert states == ["prepared", "dispatched", "in-transit", "out-for-delivery", "delivered"]

    async def all_told() -> bool:
        return len(await customer.inbox()) >= 3

    await eventually(all_told, "the messages about the parcel have come")
    assert Counter(message["kind"] for message in await customer.inbox()) == {
        "order-confirmed": 1,
        "shipment-dispatched": 1,
        "shipment-delivered": 1,
    }


async def test_an_order_that_was_picked_up_cannot_be_cancelled(
    quick_shop: Shop, http: aiohttp.ClientSession
) -> None:
    customer = await Customer.register(Client(http, quick_shop.url))
    order_id = await customer.bought({BOARD: 1})
    await _shipment_in(customer, order_id, "in-transit")

    cancelled = await customer.cancel(order_id)

    assert (cancelled.status, cancelled.code) == (409, "shipment-under-way")
    assert (await customer.order(order_id)).body["state"] == "confirmed"
    async with open_books(quick_shop) as books:
        snapshot = await books.settled()
    assert snapshot.ledger.refunded(order_id) == 0


async def _shipment_in(customer: Customer, order_id: str, state: str) -> Answer:
    """The shipment as soon as it has been in that state."""

    async def look() -> Answer | None:
        answer = await customer.send("GET", f"/api/shipping/orders/{order_id}")
        assert answer.status == 200, answer
        states = [moment["state"] for moment in answer.body["history"]]
        return answer if state in states else None

    return await eventually(look, f"the shipment of {order_id} is {state}")


def _moved(before: Stock, after: Stock) -> dict[str, int]:
    """What has changed in the counts of a product."""
    changes = {
        name: getattr(after, name) - getattr(before, name)
        for name in ("available", "reserved", "sold")
    }
    return {name: change for name, change in changes.items() if change}
