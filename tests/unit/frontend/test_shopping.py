"""From the first page to a followed order, as a guest and as a customer, without any script."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from services.common.errors import Kind, ShopError
from services.common.fields import isolated
from services.pb import shipping_pb2 as pb
from tests.testkit.customer import address_fields
from tests.testkit.visitor import ShownPage, Visitor
from tests.unit.frontend.fakes import ADA, Backends, product

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def at_payment(visitor: Visitor, quantity: int = 2) -> ShownPage:
    """A logged-in customer with a cart, an address, and the payment page before them."""
    await visitor.log_in(ADA)
    await visitor.add_to_cart("oak-board", quantity)
    page = await visitor.get("/checkout")
    return await visitor.send(page.form("/checkout/address"), **address_fields())


async def pay(
    visitor: Visitor, page: ShownPage, method: str = "pm_card_visa", **fields: str
) -> ShownPage:
    return await visitor.send(page.form("/checkout"), payment_method=method, **fields)


async def test_the_first_page_leads_into_the_shop(visitor: Visitor) -> None:
    page = await visitor.get("/")
    assert page.status == 200
    assert "Oak Board" in page.text
    assert "€ 24.95" in page.text
    assert ("a", {"href": "/products?category=kitchen"}) in page.tags


@pytest.mark.parametrize(
    ("path", "operation"),
    [
        ("/", "GET /api/products"),
        ("/products", "GET /api/products"),
        ("/products/oak-board", "GET /api/products/oak-board"),
    ],
)
async def test_a_page_asks_the_catalogue_once(
    visitor: Visitor, backends: Backends, path: str, operation: str
) -> None:
    await visitor.get("/about")  # knows the departments from here on
    backends.seen.clear()
    page = await visitor.get(path)
    assert "Red Lamp" in page.text
    assert [(seen.service, seen.operation) for seen in backends.seen] == [("product", operation)]


async def test_search_keeps_what_was_asked_for(visitor: Visitor, backends: Backends) -> None:
    page = await visitor.get("/products?q=kettle&sort=-price&category=kitchen")
    assert "Results for “kettle”" in page.text
    assert "Tin Kettle" in page.text
    assert "Red Lamp" not in page.text
    assert ("option", {"value": "-price", "selected": None}) in page.tags


async def test_a_page_says_what_it_is_to_search_engines(visitor: Visitor, base_url: str) -> None:
    titles: set[str] = set()
    descriptions: set[str] = set()
    canonical = {
        "/": "/",
        "/products?sort=price&min_price=1": "/products",
        "/products?category=kitchen&sort=name": "/products?category=kitchen",
        "/products/oak-board": "/products/oak-board",
        "/about": "/about",
        "/mesh": "/mesh",
    }
    for path, known_as in canonical.items():
        page = await visitor.get(path)
        [link] = page.elements("link", rel="canonical")
        [address] = page.elements("meta", property="og:url")
        assert link["href"] == address["content"] == base_url + known_as
        [title] = page.elements("meta", property="og:title")
        [description] = page.elements("meta", name="description")
        titles.add(title["content"])
        descriptions.add(description["content"])
    assert len(titles) == len(descriptions) == len(canonical)
    for path in ("/cart", "/login", "/products?q=lamp", "/no-such-page"):
        page = await visitor.get(path)
        assert page.elements("meta", name="robots", content="noindex"), path
        assert not page.elements("link", rel="canonical"), path
        assert not page.elements("meta", property="og:url"), path


async def test_a_product_is_linked_data_and_no_script(visitor: Visitor, backends: Backends) -> None:
    backends.products["oak-board"] = product(
        "oak-board", name="</script><script>alert(1)", price_cents=2405, available=0
    )
    html = (await visitor.get("/products/oak-board")).html
    start = '<script type="application/ld+json">'
    text = html[html.index(start) + len(start) :].partition("</script>")[0]
    found = json.loads(text)
    assert found["name"] == "</script><script>alert(1)"
    assert found["offers"]["price"] == "24.05"
    assert found["offers"]["availability"] == "https://schema.org/OutOfStock"


@pytest.mark.parametrize(
    ("path", "link"),
    [
        ("/products", "/products"),
        ("/products?category=kitchen&sort=name", "/products?category=kitchen"),
        ("/cart", "/cart"),
        ("/mesh", "/mesh"),
    ],
)
async def test_the_navigation_marks_where_one_is(visitor: Visitor, path: str, link: str) -> None:
    page = await visitor.get(path)
    marked = [
        found.get("href") for found in page.elements("a") if found.get("aria-current") == "page"
    ]
    assert marked == [link]


async def test_a_typing_error_is_named_with_what_was_meant(
    visitor: Visitor, backends: Backends
) -> None:
    backends.corrections = {"lmap": "lamp"}
    page = await visitor.get("/products?q=lmap&in_stock=yes")
    assert "Nothing matches “lmap” exactly. Did you mean lamp" in page.text
    assert "Red Lamp" in page.text
    assert ("a", {"href": "/products?q=lamp&in_stock=yes"}) in page.tags
    assert "Did you mean" not in (await visitor.get("/products?q=lamp")).text


async def test_filters_reach_the_catalogue_in_cents(visitor: Visitor, backends: Backends) -> None:
    backends.products = {f"thing-{n}": product(f"thing-{n}") for n in range(30)}
    page = await visitor.get("/products?min_price=12,50&max_price=%E2%82%AC+40&in_stock=yes")
    asked = backends.queries[-1]
    assert (asked["min_price_cents"], asked["max_price_cents"]) == ("1250", "4000")
    assert asked["in_stock"] == "true"
    [more] = [given["href"] for _, given in page.tags if given.get("rel") == "next"]
    assert more is not None
    assert "min_price=12%2C50" in more
    assert "in_stock=yes" in more


@pytest.mark.parametrize("text", ["cheap", "-1", "1.234", "1e3", "١٢"])
async def test_what_is_no_price_is_said(visitor: Visitor, backends: Backends, text: str) -> None:
    page = await visitor.get(f"/products?min_price={text}")
    assert f"“{isolated(text)}” is not a price." in page.text
    assert "min_price_cents" not in backends.queries[-1]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("min_price=50&max_price=10", "“From” is more than “Up to”"),
        ("min_price=50&max_price=50", "Try fewer filters."),
        ("q=xyz", "Try fewer or different words."),
        ("q=xyz&category=kitchen&in_stock=yes", "words, or all departments, or fewer filters."),
    ],
)
async def test_what_finds_nothing_says_what_else_to_try(
    visitor: Visitor, backends: Backends, query: str, told: str
) -> None:
    backends.products = {}
    page = await visitor.get(f"/products?{query}")
    assert told in page.text
    assert ("different words" in page.text) is ("q=" in query)


async def test_a_long_catalogue_goes_on_behind_a_link(visitor: Visitor, backends: Backends) -> None:
    backends.products = {f"thing-{n}": product(f"thing-{n}") for n in range(30)}
    page = await visitor.get("/products?q=thing")
    more = [given for tag, given in page.tags if tag == "a" and given.get("rel") == "next"]
    assert [given["href"] for given in more] == ["/products?q=thing&pages=2#result-25"]
    whole = await visitor.get("/products?q=thing&pages=2")
    [shown] = [given for _, given in whole.tags if given.get("id") == "result-25"]
    assert shown["class"] == "card"
    links = [given.get("href") or "" for _, given in whole.tags]
    shown_ids = [link.removeprefix("/products/") for link in links if "/thing-" in link]
    assert shown_ids == list(backends.products)
    assert not [given for _, given in whole.tags if given.get("rel") == "next"]


async def test_what_is_too_long_for_one_page_goes_on_behind_it(
    visitor: Visitor, backends: Backends
) -> None:
    backends.products = {f"thing-{n}": product(f"thing-{n}") for n in range(250)}
    page = await visitor.get("/products?pages=10")
    [more] = [given for _, given in page.tags if given.get("rel") == "next"]
    assert more["href"] == "/products?cursor=240"
    assert "data-more-link" not in more
    rest = await visitor.get("/products?cursor=240")
    assert rest.html.count('id="result-') == 10
    assert "Back to the beginning" in rest.text


async def test_more_of_what_a_typing_error_meant_keeps_saying_so(
    visitor: Visitor, backends: Backends
) -> None:
    backends.products = {f"thing-{n}": product(f"thing-{n}") for n in range(30)}
    backends.corrections = {"thign": "thing"}
    page = await visitor.get("/products?q=thign&pages=2")
    assert "Did you mean thing" in page.text
    assert page.html.count('id="result-') == 30


@pytest.mark.parametrize("pages", ["0", "-1", "11", "many"])
async def test_so_many_pages_are_not_shown(
    visitor: Visitor, backends: Backends, pages: str
) -> None:
    backends.queries.clear()
    assert (await visitor.get(f"/products?pages={pages}")).status == 422
    assert backends.queries == []


async def test_a_page_of_products_takes_one_call(visitor: Visitor, backends: Backends) -> None:
    await visitor.get("/")
    backends.seen.clear()
    await visitor.get("/products")
    assert [seen.operation for seen in backends.seen] == ["GET /api/products"]


async def test_a_cart_of_any_length_takes_two_calls(visitor: Visitor, backends: Backends) -> None:
    for product_id in backends.products:
        await visitor.add_to_cart(product_id)
    backends.seen.clear()
    page = await visitor.get("/cart")
    assert "€ 74.85" in page.text
    assert sorted(seen.operation for seen in backends.seen) == ["GetProducts", "GetStock"]


async def test_prices_are_the_catalogues_each_time(visitor: Visitor, backends: Backends) -> None:
    await visitor.add_to_cart("oak-board")
    backends.products["oak-board"]["price_cents"] = 100_099
    assert "€ 1,000.99" in (await visitor.get("/cart")).text


async def test_quantities_are_changed_and_removed(visitor: Visitor) -> None:
    page = await visitor.add_to_cart("oak-board", 2)
    page = await visitor.send(page.form("/cart", action="update"), quantity="3")
    assert "€ 74.85" in page.text
    page = await visitor.send(page.form("/cart", action="remove"))
    assert "Your cart is empty" in page.text


async def test_nobody_gets_more_than_twenty_of_one(visitor: Visitor) -> None:
    await visitor.add_to_cart("oak-board", 15)
    page = await visitor.add_to_cart("oak-board", 6)
    assert "at most 20" in page.text
    assert "€ 374.25" in page.text


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("1000", "at most 20"),
        ("abc", "whole number"),
        ("", "whole number"),
        ("-1", "whole number"),
        ("41", "at most 20"),
    ],
)
async def test_a_quantity_that_cannot_be_is_said_and_changes_nothing(
    visitor: Visitor, typed: str, told: str
) -> None:
    page = await visitor.add_to_cart("oak-board", 2)
    page = await visitor.send(page.form("/cart", action="update"), quantity=typed)
    assert told in page.text
    assert "up to date" not in page.text
    assert "€ 49.90" in page.text


async def test_adding_none_adds_none(visitor: Visitor) -> None:
    page = await visitor.add_to_cart("oak-board", 0)
    assert "at least 1" in page.text
    assert "Your cart is empty" in (await visitor.get("/cart")).text


async def test_more_than_there_is_is_said_and_changes_nothing(
    visitor: Visitor, backends: Backends
) -> None:
    backends.stock["oak-board"] = 3
    page = await visitor.add_to_cart("oak-board", 2)
    page = await visitor.send(page.form("/cart", action="update"), quantity="4")
    assert "Only 3 are left" in page.text
    assert "up to date" not in page.text
    page = await visitor.add_to_cart("oak-board", 2)
    assert "Only 3 are left" in page.text
    assert "€ 49.90" in page.text
    for available, told in ((1, "Only 1 is left"), (0, "This is sold out")):
        backends.stock["red-lamp"] = available
        assert told in (await visitor.add_to_cart("red-lamp", 2)).text
    backends.stock["oak-board"] = 1  # less than is in the cart: taking fewer goes all the same
    page = await visitor.get("/cart")
    page = await visitor.send(page.form("/cart", action="update"), quantity="1")
    assert "up to date" in page.text


async def test_a_product_that_is_gone_can_only_be_removed(
    visitor: Visitor, backends: Backends
) -> None:
    await visitor.add_to_cart("oak-board")
    await visitor.add_to_cart("red-lamp")
    del backends.products["oak-board"]
    page = await visitor.get("/cart")
    assert "We no longer sell this" in page.text
    assert "Red Lamp" in page.text
    assert ("a", {"class": "button button-big button-wide", "href": "/checkout"}) not in page.tags


async def test_whoever_has_an_account_logs_in_before_the_checkout_and_comes_back(
    visitor: Visitor,
) -> None:
    await visitor.add_to_cart("oak-board")
    page = await visitor.get("/checkout")
    assert ("a", {"href": "/login?next=%2Fcheckout"}) in page.tags
    form = (await visitor.get("/login?next=/checkout")).form("/login")
    page = await visitor.send(form, email="ada@example.com", password="correct horse battery")
    assert page.path == "/checkout"
    assert "Where should it go?" in page.text


async def test_an_order_from_cart_to_parcel(visitor: Visitor, backends: Backends) -> None:
    backends.shipment = pb.Shipment(
        state=pb.SHIPMENT_STATE_IN_TRANSIT,
        tracking_number="MM123",
        history=[
            pb.TrackingEvent(state=pb.SHIPMENT_STATE_PREPARED, at_ms=1_795_463_000_000),
            pb.TrackingEvent(state=pb.SHIPMENT_STATE_DISPATCHED, at_ms=1_795_463_100_000),
            pb.TrackingEvent(
                state=pb.SHIPMENT_STATE_IN_TRANSIT, at_ms=1_795_463_200_000, place="Utrecht"
            ),
        ],
    )
    page = await at_payment(visitor)
    assert "€ 49.90" in page.text
    assert "€ 61.85" in page.text  # with express delivery
    page = await pay(visitor, page, shipping="express")
    assert "Thank you, your order is confirmed" in page.text
    assert "MM123" in page.text
    assert "Utrecht" in page.text
    placed = backends.calls_of("POST /api/orders")
    assert len(placed) == 1
    assert (await visitor.get("/cart")).text.count("Your cart is empty") == 1
    assert "Oak Board" in (await visitor.get("/orders")).text


async def test_pressing_twice_is_one_order(visitor: Visitor, backends: Backends) -> None:
    page = await at_payment(visitor)
    first, second = await asyncio.gather(pay(visitor, page), pay(visitor, page))
    assert first.path == second.path
    keys = {seen.headers["idempotency-key"] for seen in backends.calls_of("POST /api/orders")}
    assert len(keys) == 1
    # And once more after the cart is empty, with the page from before.
    assert (await pay(visitor, page)).path == first.path
    assert len(backends.orders) == 1


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("card-declined", "The bank declined this card."),
        ("insufficient-funds", "insufficient funds"),
        ("expired-card", "has expired"),
    ],
)
async def test_a_decline_keeps_the_cart_and_asks_for_another_card(
    visitor: Visitor, backends: Backends, code: str, told: str
) -> None:
    page = await at_payment(visitor)
    backends.order_refusal = ShopError(Kind.DECLINED, code, "No.")
    refused = await pay(visitor, page, "pm_card_visa_chargeDeclined")
    assert refused.status == 402
    assert told in refused.text
    assert "You were not charged" in refused.text
    backends.order_refusal = None
    done = await pay(visitor, refused)
    assert "confirmed" in done.text
    first, second = backends.calls_of("POST /api/orders")
    assert first.headers["idempotency-key"] != second.headers["idempotency-key"]


async def test_an_outage_during_the_order_is_tried_again_under_the_same_key(
    visitor: Visitor, backends: Backends
) -> None:
    page = await at_payment(visitor)
    backends.down = {"order"}
    unclear = await pay(visitor, page, shipping="express")
    assert unclear.status == 503
    assert "cannot be ordered or charged twice" in unclear.text
    backends.down = set()
    await pay(visitor, unclear, shipping="express")
    first, second = backends.calls_of("POST /api/orders")
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert first.body == second.body


async def test_a_shop_that_gave_the_order_up_takes_a_new_one(
    visitor: Visitor, backends: Backends
) -> None:
    page = await at_payment(visitor)
    backends.order_refusal = ShopError(
        Kind.UNAVAILABLE, "checkout-unavailable", "We gave up.", fields={"order_id": "ord_x"}
    )
    refused = await pay(visitor, page)
    assert "We gave up." in refused.text
    backends.order_refusal = None
    await pay(visitor, refused)
    first, second = backends.calls_of("POST /api/orders")
    assert first.headers["idempotency-key"] != second.headers["idempotency-key"]


async def test_out_of_stock_says_what_is_left(visitor: Visitor, backends: Backends) -> None:
    page = await at_payment(visitor, quantity=5)
    backends.order_refusal = ShopError(Kind.CONFLICT, "out-of-stock", "Too few.")
    backends.stock["oak-board"] = 3
    refused = await pay(visitor, page)
    assert refused.status == 409
    assert "Oak Board: only 3 left" in refused.text
    assert "You were not charged" in refused.text


async def test_an_unknown_way_to_pay_is_refused_before_anything_happens(
    visitor: Visitor, backends: Backends
) -> None:
    page = await at_payment(visitor)
    refused = await pay(visitor, page, "pm_card_of_somebody")
    assert refused.status == 422
    assert "Choose how you want to pay" in refused.text
    assert not backends.calls_of("POST /api/orders")


async def test_what_was_shown_is_what_is_ordered(visitor: Visitor, backends: Backends) -> None:
    page = await at_payment(visitor, quantity=2)
    await visitor.add_to_cart("oak-board", 3)
    await pay(visitor, page)
    (order,) = backends.orders.values()
    assert [line["quantity"] for line in order["lines"]] == [2]
    assert "€ 74.85" in (await visitor.get("/cart")).text


async def test_a_parcel_that_is_too_heavy_is_said_where_it_can_be_made_lighter(
    visitor: Visitor, backends: Backends
) -> None:
    page = await at_payment(visitor)
    backends.is_too_heavy = True
    for sent in (await pay(visitor, page, "no-such-method"), await visitor.get("/checkout")):
        assert (sent.status, sent.path) == (200, "/cart")
        assert "up to 30 kg" in sent.text
        assert "take something out" in sent.text
    assert not backends.orders


async def test_a_page_that_is_sent_again_leaves_the_new_cart_alone(visitor: Visitor) -> None:
    page = await at_payment(visitor, quantity=2)
    first = await pay(visitor, page)
    await visitor.add_to_cart("oak-board", 3)
    assert (await pay(visitor, page)).path == first.path
    assert "€ 74.85" in (await visitor.get("/cart")).text


async def test_a_dearer_total_is_shown_before_it_is_charged(
    visitor: Visitor, backends: Backends
) -> None:
    page = await at_payment(visitor, quantity=2)
    refusal = ShopError(
        Kind.CONFLICT,
        "total-changed",
        "Dearer.",
        fields={"expected_total_cents": "5485", "total_cents": "10025", "currency": "EUR"},
    )
    backends.order_refusal = refusal
    page = await pay(visitor, page)
    assert page.status == 409
    assert "the total was € 54.85, now it is € 100.25" in page.text.replace("\xa0", " ")
    backends.order_refusal = None
    page = await pay(visitor, page)
    assert "Thank you" in page.text


async def test_the_total_that_was_shown_goes_with_the_order(
    visitor: Visitor, backends: Backends
) -> None:
    page = await at_payment(visitor, quantity=2)
    assert "€ 61.85" in page.text  # with express delivery
    await pay(visitor, page, shipping="express")
    (asked,) = backends.expected_totals
    assert asked == 6185


@pytest.mark.parametrize("change", ["x", "", "eyJhIjoxfQ.aaaa.bbbb"])
async def test_a_changed_draft_is_no_order(
    visitor: Visitor, backends: Backends, change: str
) -> None:
    page = await at_payment(visitor)
    answer = await pay(visitor, page, draft=change)
    assert "too old" in answer.text
    assert not backends.calls_of("POST /api/orders")


async def test_an_order_that_still_works_refreshes_itself(
    visitor: Visitor, backends: Backends
) -> None:
    backends.order_state = "working"
    page = await pay(visitor, await at_payment(visitor))
    assert "We are working on it" in page.text
    assert '<noscript><meta http-equiv="refresh" content="3"></noscript>' in page.html
    (order,) = backends.orders.values()
    order["state"] = "confirmed"
    fragment = await visitor.get(f"/orders/{order['order_id']}/status")
    assert "your order is confirmed" in fragment.text
    assert "<html" not in fragment.html


async def test_cancelling(visitor: Visitor) -> None:
    page = await pay(visitor, await at_payment(visitor))
    form = page.form(page.path.replace("?", "") + "/cancel")
    assert "This order is cancelled" in (await visitor.send(form)).text
    assert "cancelled already" in (await visitor.send(form)).text


async def test_an_attempt_is_no_order(visitor: Visitor, backends: Backends) -> None:
    page = await pay(visitor, await at_payment(visitor))
    (order,) = backends.orders.values()
    reason = {"code": "card-declined", "detail": "Your card was declined."}
    attempt = {**order, "order_id": "ord_attempt", "state": "cancelled", "reason": reason}
    backends.orders["ord_attempt"] = {**attempt, "is_attempt": True}

    page = await visitor.get("/orders")
    assert order["order_id"] in page.text
    assert "ord_attempt" not in page.text
    assert ("a", {"href": "/orders?show=not-placed"}) in page.tags
    page = await visitor.get("/orders?show=not-placed")
    assert "Not placed" in page.text
    assert "ord_attempt" in page.text
    assert "Your card was declined." in page.text
    assert order["order_id"] not in page.text
    assert ("a", {"href": "/cart"}) in page.tags
    page = await visitor.get("/orders/ord_attempt")
    assert "This order was not placed" in page.text
    assert "Your card was declined. You pay nothing for it" in page.text
    assert "cancelled" not in page.text.lower()
    assert ("a", {"href": "/cart"}) in page.tags


@pytest.mark.parametrize("is_attempt", [False, True])
async def test_a_refund_that_did_not_arrive_is_no_secret(
    visitor: Visitor, backends: Backends, is_attempt: bool
) -> None:
    await pay(visitor, await at_payment(visitor))
    (order,) = backends.orders.values()
    order |= {"state": "cancelled", "is_attempt": is_attempt}
    page = await visitor.get(f"/orders/{order['order_id']}")
    assert "has not reached you" not in page.text
    order["refund_failed"] = True
    page = await visitor.get(f"/orders/{order['order_id']}")
    assert "Your money has not reached you" in page.text
    assert "You pay nothing" not in page.text
    page = await visitor.get("/orders" + "?show=not-placed" * is_attempt)
    assert "Your money has not reached you yet." in page.text


@pytest.mark.parametrize("is_attempt", [False, True])
async def test_nothing_is_promised_of_a_charge_that_the_bank_decides_about(
    visitor: Visitor, backends: Backends, is_attempt: bool
) -> None:
    await pay(visitor, await at_payment(visitor))
    (order,) = backends.orders.values()
    order |= {"state": "cancelled", "is_attempt": is_attempt, "refund_disputed": True}
    page = await visitor.get(f"/orders/{order['order_id']}")
    assert "The bank decides about your money:" in page.text
    assert "You pay nothing" not in page.text
    page = await visitor.get("/orders" + "?show=not-placed" * is_attempt)
    assert "The bank decides about your money." in page.text


async def test_orders_are_found_by_number_and_product(visitor: Visitor, backends: Backends) -> None:
    page = await pay(visitor, await at_payment(visitor))
    (order,) = backends.orders.values()
    backends.orders["ord_attempt"] = {**order, "order_id": "ord_attempt", "is_attempt": True}

    assert (await visitor.get("/orders")).elements("input", id="order-query", value="")
    page = await visitor.get("/orders?q=+Oak+Board+")
    assert order["order_id"] in page.text
    assert "ord_attempt" in page.text, "somebody may look for the number of an attempt, too"
    assert page.elements("input", id="order-query", value="Oak Board")
    page = await visitor.get("/orders?q=ord_attempt")
    assert "Not placed" in page.text
    assert order["order_id"] not in page.text
    page = await visitor.get("/orders?q=%3Cb%3Esubmarine")
    assert "Nothing found for “<b>submarine”" in page.text
    assert ("a", {"href": "/orders"}) in page.tags


async def test_of_several_addresses_one_is_chosen(visitor: Visitor, backends: Backends) -> None:
    page = await at_payment(visitor)
    page = await visitor.get("/checkout")
    assert "Check and pay" in page.text, "there is but one"
    form = (await visitor.get("/checkout?change=1")).form("/checkout/address")
    await visitor.send(form, **address_fields(street="Herengracht 1"))

    page = await visitor.get("/checkout")
    assert "Where should it go?" in page.text
    latest = page.elements("input", name="address", value="adr_1")
    assert "checked" in latest[0]
    page = await visitor.get("/checkout?address=adr_0")
    await pay(visitor, page)
    (order,) = backends.orders.values()
    assert order["address"]["street"] == "Keizersgracht 123"
    await visitor.add_to_cart("oak-board")
    assert "Where should it go?" in (await visitor.get("/checkout?address=adr_gone")).text


async def test_somebody_elses_order_is_not_there(visitor: Visitor) -> None:
    await visitor.log_in(ADA)
    for path in ("/orders/ord_of_bob", "/orders/ord_of_bob/status", "/orders/..%2f..%2fx"):
        assert (await visitor.get(path)).status == 404


async def test_a_postal_code_of_another_form_is_asked_for_again(
    visitor: Visitor, backends: Backends
) -> None:
    await visitor.log_in(ADA)
    await visitor.add_to_cart("oak-board")
    form = (await visitor.get("/checkout")).form("/checkout/address")
    page = await visitor.send(form, **address_fields(postal_code="99999999"))
    assert "In this country a postal code looks like 1015 CJ." in page.text
    assert not backends.addresses


async def test_an_address_that_lacks_something_is_asked_for_again(visitor: Visitor) -> None:
    await visitor.log_in(ADA)
    await visitor.add_to_cart("oak-board")
    page = await visitor.get("/checkout")
    wrong: dict[str, Any] = address_fields(city="", country="XX", street="a" * 201)
    page = await visitor.send(page.form("/checkout/address"), **wrong)
    assert page.status == 422
    assert "Enter the city." in page.text
    assert "at most 200 characters" in page.text
    assert ("a", {"href": "#city"}) in page.tags
    assert any(
        given.get("id") == "city" and given.get("aria-invalid") == "true" for _, given in page.tags
    )
