"""From the first page to a followed order, as a guest and as a customer, without any script."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from services.common.errors import Kind, ShopError
from services.common.fields import isolated
from services.pb import shipping_pb2 as pb
from tests.unit.frontend.fakes import Backends, product
from tests.unit.frontend.kit import Browser, ShownPage, address_fields, attributes

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def at_payment(browser: Browser, quantity: int = 2) -> ShownPage:
    """A logged-in customer with a cart, an address, and the payment page before them."""
    await browser.log_in()
    await browser.add_to_cart("oak-board", quantity)
    page = await browser.get("/checkout")
    return await browser.send(page.form("/checkout/address"), **address_fields())


async def pay(
    browser: Browser, page: ShownPage, method: str = "pm_card_visa", **fields: str
) -> ShownPage:
    return await browser.send(page.form("/checkout"), payment_method=method, **fields)


async def test_the_first_page_leads_into_the_shop(browser: Browser) -> None:
    page = await browser.get("/")
    assert page.status == 200
    assert "Oak Board" in page.text
    assert "€ 24.95" in page.text
    assert ("a", {"href": "/products?category=kitchen"}) in page.tags


async def test_search_keeps_what_was_asked_for(browser: Browser, backends: Backends) -> None:
    page = await browser.get("/products?q=kettle&sort=-price&category=kitchen")
    assert "Results for “kettle”" in page.text
    assert "Tin Kettle" in page.text
    assert "Red Lamp" not in page.text
    assert ("option", {"value": "-price", "selected": None}) in page.tags


async def test_a_page_says_what_it_is_to_search_engines(browser: Browser, base_url: str) -> None:
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
        page = await browser.get(path)
        [link] = attributes(page, "link", rel="canonical")
        [address] = attributes(page, "meta", property="og:url")
        assert link["href"] == address["content"] == base_url + known_as
        [title] = attributes(page, "meta", property="og:title")
        [description] = attributes(page, "meta", name="description")
        titles.add(title["content"])
        descriptions.add(description["content"])
    assert len(titles) == len(descriptions) == len(canonical)
    for path in ("/cart", "/login", "/products?q=lamp", "/no-such-page"):
        page = await browser.get(path)
        assert attributes(page, "meta", name="robots", content="noindex"), path
        assert not attributes(page, "link", rel="canonical"), path
        assert not attributes(page, "meta", property="og:url"), path


async def test_a_product_is_linked_data_and_no_script(browser: Browser, backends: Backends) -> None:
    backends.products["oak-board"] = product(
        "oak-board", name="</script><script>alert(1)", price_cents=2405, available=0
    )
    html = (await browser.get("/products/oak-board")).html
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
async def test_the_navigation_marks_where_one_is(browser: Browser, path: str, link: str) -> None:
    page = await browser.get(path)
    marked = [
        found.get("href") for found in attributes(page, "a") if found.get("aria-current") == "page"
    ]
    assert marked == [link]


async def test_a_typing_error_is_named_with_what_was_meant(
    browser: Browser, backends: Backends
) -> None:
    backends.corrections = {"lmap": "lamp"}
    page = await browser.get("/products?q=lmap&in_stock=yes")
    assert "Nothing matches “lmap” exactly. Did you mean lamp" in page.text
    assert "Red Lamp" in page.text
    assert ("a", {"href": "/products?q=lamp&in_stock=yes"}) in page.tags
    assert "Did you mean" not in (await browser.get("/products?q=lamp")).text


async def test_filters_reach_the_catalogue_in_cents(browser: Browser, backends: Backends) -> None:
    backends.products = {f"thing-{n}": product(f"thing-{n}") for n in range(30)}
    page = await browser.get("/products?min_price=12,50&max_price=%E2%82%AC+40&in_stock=yes")
    asked = backends.queries[-1]
    assert (asked["min_price_cents"], asked["max_price_cents"]) == ("1250", "4000")
    assert asked["in_stock"] == "true"
    [more] = [given["href"] for _, given in page.tags if given.get("rel") == "next"]
    assert more is not None
    assert "min_price=12%2C50" in more
    assert "in_stock=yes" in more


@pytest.mark.parametrize("text", ["cheap", "-1", "1.234", "1e3", "١٢"])
async def test_what_is_no_price_is_said(browser: Browser, backends: Backends, text: str) -> None:
    page = await browser.get(f"/products?min_price={text}")
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
    browser: Browser, backends: Backends, query: str, told: str
) -> None:
    backends.products = {}
    page = await browser.get(f"/products?{query}")
    assert told in page.text
    assert ("different words" in page.text) is ("q=" in query)


async def test_a_long_catalogue_goes_on_behind_a_link(browser: Browser, backends: Backends) -> None:
    backends.products = {f"thing-{n}": product(f"thing-{n}") for n in range(30)}
    page = await browser.get("/products?q=thing")
    more = [given for tag, given in page.tags if tag == "a" and given.get("rel") == "next"]
    assert [given["href"] for given in more] == ["/products?q=thing&pages=2#result-25"]
    whole = await browser.get("/products?q=thing&pages=2")
    [shown] = [given for _, given in whole.tags if given.get("id") == "result-25"]
    assert shown["class"] == "card"
    links = [given.get("href") or "" for _, given in whole.tags]
    shown_ids = [link.removeprefix("/products/") for link in links if "/thing-" in link]
    assert shown_ids == list(backends.products)
    assert not [given for _, given in whole.tags if given.get("rel") == "next"]


async def test_what_is_too_long_for_one_page_goes_on_behind_it(
    browser: Browser, backends: Backends
) -> None:
    backends.products = {f"thing-{n}": product(f"thing-{n}") for n in range(250)}
    page = await browser.get("/products?pages=10")
    [more] = [given for _, given in page.tags if given.get("rel") == "next"]
    assert more["href"] == "/products?cursor=240"
    assert "data-more-link" not in more
    rest = await browser.get("/products?cursor=240")
    assert rest.html.count('id="result-') == 10
    assert "Back to the beginning" in rest.text


async def test_more_of_what_a_typing_error_meant_keeps_saying_so(
    browser: Browser, backends: Backends
) -> None:
    backends.products = {f"thing-{n}": product(f"thing-{n}") for n in range(30)}
    backends.corrections = {"thign": "thing"}
    page = await browser.get("/products?q=thign&pages=2")
    assert "Did you mean thing" in page.text
    assert page.html.count('id="result-') == 30


@pytest.mark.parametrize("pages", ["0", "-1", "11", "many"])
async def test_so_many_pages_are_not_shown(
    browser: Browser, backends: Backends, pages: str
) -> None:
    backends.queries.clear()
    assert (await browser.get(f"/products?pages={pages}")).status == 422
    assert backends.queries == []


async def test_a_page_of_products_takes_one_call(browser: Browser, backends: Backends) -> None:
    await browser.get("/")
    backends.seen.clear()
    await browser.get("/products")
    assert [seen.operation for seen in backends.seen] == ["GET /api/products"]


async def test_a_cart_of_any_length_takes_two_calls(browser: Browser, backends: Backends) -> None:
    for product_id in backends.products:
        await browser.add_to_cart(product_id)
    backends.seen.clear()
    page = await browser.get("/cart")
    assert "€ 74.85" in page.text
    assert sorted(seen.operation for seen in backends.seen) == ["GetProducts", "GetStock"]


async def test_prices_are_the_catalogues_each_time(browser: Browser, backends: Backends) -> None:
    await browser.add_to_cart("oak-board")
    backends.products["oak-board"]["price_cents"] = 100_099
    assert "€ 1,000.99" in (await browser.get("/cart")).text


async def test_quantities_are_changed_and_removed(browser: Browser) -> None:
    page = await browser.add_to_cart("oak-board", 2)
    page = await browser.send(page.form("/cart", action="update"), quantity="3")
    assert "€ 74.85" in page.text
    page = await browser.send(page.form("/cart", action="remove"))
    assert "Your cart is empty" in page.text


async def test_nobody_gets_more_than_twenty_of_one(browser: Browser) -> None:
    await browser.add_to_cart("oak-board", 15)
    page = await browser.add_to_cart("oak-board", 6)
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
    browser: Browser, typed: str, told: str
) -> None:
    page = await browser.add_to_cart("oak-board", 2)
    page = await browser.send(page.form("/cart", action="update"), quantity=typed)
    assert told in page.text
    assert "up to date" not in page.text
    assert "€ 49.90" in page.text


async def test_adding_none_adds_none(browser: Browser) -> None:
    page = await browser.add_to_cart("oak-board", 0)
    assert "at least 1" in page.text
    assert "Your cart is empty" in (await browser.get("/cart")).text


async def test_more_than_there_is_is_said_and_changes_nothing(
    browser: Browser, backends: Backends
) -> None:
    backends.stock["oak-board"] = 3
    page = await browser.add_to_cart("oak-board", 2)
    page = await browser.send(page.form("/cart", action="update"), quantity="4")
    assert "Only 3 are left" in page.text
    assert "up to date" not in page.text
    page = await browser.add_to_cart("oak-board", 2)
    assert "Only 3 are left" in page.text
    assert "€ 49.90" in page.text
    for available, told in ((1, "Only 1 is left"), (0, "This is sold out")):
        backends.stock["red-lamp"] = available
        assert told in (await browser.add_to_cart("red-lamp", 2)).text
    backends.stock["oak-board"] = 1  # less than is in the cart: taking fewer goes all the same
    page = await browser.get("/cart")
    page = await browser.send(page.form("/cart", action="update"), quantity="1")
    assert "up to date" in page.text


async def test_a_product_that_is_gone_can_only_be_removed(
    browser: Browser, backends: Backends
) -> None:
    await browser.add_to_cart("oak-board")
    await browser.add_to_cart("red-lamp")
    del backends.products["oak-board"]
    page = await browser.get("/cart")
    assert "We no longer sell this" in page.text
    assert "Red Lamp" in page.text
    assert ("a", {"class": "button button-big button-wide", "href": "/checkout"}) not in page.tags


async def test_whoever_has_an_account_logs_in_before_the_checkout_and_comes_back(
    browser: Browser,
) -> None:
    await browser.add_to_cart("oak-board")
    page = await browser.get("/checkout")
    assert ("a", {"href": "/login?next=%2Fcheckout"}) in page.tags
    form = (await browser.get("/login?next=/checkout")).form("/login")
    page = await browser.send(form, email="ada@example.com", password="correct horse battery")
    assert page.path == "/checkout"
    assert "Where should it go?" in page.text


async def test_an_order_from_cart_to_parcel(browser: Browser, backends: Backends) -> None:
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
    page = await at_payment(browser)
    assert "€ 49.90" in page.text
    assert "€ 61.85" in page.text  # with express delivery
    page = await pay(browser, page, shipping="express")
    assert "Thank you, your order is confirmed" in page.text
    assert "MM123" in page.text
    assert "Utrecht" in page.text
    placed = backends.calls_of("POST /api/orders")
    assert len(placed) == 1
    assert (await browser.get("/cart")).text.count("Your cart is empty") == 1
    assert "Oak Board" in (await browser.get("/orders")).text


async def test_pressing_twice_is_one_order(browser: Browser, backends: Backends) -> None:
    page = await at_payment(browser)
    first, second = await asyncio.gather(pay(browser, page), pay(browser, page))
    assert first.path == second.path
    keys = {seen.headers["idempotency-key"] for seen in backends.calls_of("POST /api/orders")}
    assert len(keys) == 1
    # And once more after the cart is empty, with the page from before.
    assert (await pay(browser, page)).path == first.path
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
    browser: Browser, backends: Backends, code: str, told: str
) -> None:
    page = await at_payment(browser)
    backends.order_refusal = ShopError(Kind.DECLINED, code, "No.")
    refused = await pay(browser, page, "pm_card_visa_chargeDeclined")
    assert refused.status == 402
    assert told in refused.text
    assert "You were not charged" in refused.text
    backends.order_refusal = None
    done = await pay(browser, refused)
    assert "confirmed" in done.text
    first, second = backends.calls_of("POST /api/orders")
    assert first.headers["idempotency-key"] != second.headers["idempotency-key"]


async def test_an_outage_during_the_order_is_tried_again_under_the_same_key(
    browser: Browser, backends: Backends
) -> None:
    page = await at_payment(browser)
    backends.down = {"order"}
    unclear = await pay(browser, page, shipping="express")
    assert unclear.status == 503
    assert "cannot be ordered or charged twice" in unclear.text
    backends.down = set()
    await pay(browser, unclear, shipping="express")
    first, second = backends.calls_of("POST /api/orders")
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert first.body == second.body


async def test_a_shop_that_gave_the_order_up_takes_a_new_one(
    browser: Browser, backends: Backends
) -> None:
    page = await at_payment(browser)
    backends.order_refusal = ShopError(
        Kind.UNAVAILABLE, "checkout-unavailable", "We gave up.", fields={"order_id": "ord_x"}
    )
    refused = await pay(browser, page)
    assert "We gave up." in refused.text
    backends.order_refusal = None
    await pay(browser, refused)
    first, second = backends.calls_of("POST /api/orders")
    assert first.headers["idempotency-key"] != second.headers["idempotency-key"]


async def test_out_of_stock_says_what_is_left(browser: Browser, backends: Backends) -> None:
    page = await at_payment(browser, quantity=5)
    backends.order_refusal = ShopError(Kind.CONFLICT, "out-of-stock", "Too few.")
    backends.stock["oak-board"] = 3
    refused = await pay(browser, page)
    assert refused.status == 409
    assert "Oak Board: only 3 left" in refused.text
    assert "You were not charged" in refused.text


async def test_an_unknown_way_to_pay_is_refused_before_anything_happens(
    browser: Browser, backends: Backends
) -> None:
    page = await at_payment(browser)
    refused = await pay(browser, page, "pm_card_of_somebody")
    assert refused.status == 422
    assert "Choose how you want to pay" in refused.text
    assert not backends.calls_of("POST /api/orders")


async def test_what_was_shown_is_what_is_ordered(browser: Browser, backends: Backends) -> None:
    page = await at_payment(browser, quantity=2)
    await browser.add_to_cart("oak-board", 3)
    await pay(browser, page)
    (order,) = backends.orders.values()
    assert [line["quantity"] for line in order["lines"]] == [2]
    assert "€ 74.85" in (await browser.get("/cart")).text


async def test_a_parcel_that_is_too_heavy_is_said_where_it_can_be_made_lighter(
    browser: Browser, backends: Backends
) -> None:
    page = await at_payment(browser)
    backends.is_too_heavy = True
    for sent in (await pay(browser, page, "no-such-method"), await browser.get("/checkout")):
        assert (sent.status, sent.path) == (200, "/cart")
        assert "up to 30 kg" in sent.text
        assert "take something out" in sent.text
    assert not backends.orders


async def test_a_page_that_is_sent_again_leaves_the_new_cart_alone(browser: Browser) -> None:
    page = await at_payment(browser, quantity=2)
    first = await pay(browser, page)
    await browser.add_to_cart("oak-board", 3)
    assert (await pay(browser, page)).path == first.path
    assert "€ 74.85" in (await browser.get("/cart")).text


async def test_a_dearer_total_is_shown_before_it_is_charged(
    browser: Browser, backends: Backends
) -> None:
    page = await at_payment(browser, quantity=2)
    refusal = ShopError(
        Kind.CONFLICT,
        "total-changed",
        "Dearer.",
        fields={"expected_total_cents": "5485", "total_cents": "10025", "currency": "EUR"},
    )
    backends.order_refusal = refusal
    page = await pay(browser, page)
    assert page.status == 409
    assert "the total was € 54.85, now it is € 100.25" in page.text.replace("\xa0", " ")
    backends.order_refusal = None
    page = await pay(browser, page)
    assert "Thank you" in page.text


async def test_the_total_that_was_shown_goes_with_the_order(
    browser: Browser, backends: Backends
) -> None:
    page = await at_payment(browser, quantity=2)
    assert "€ 61.85" in page.text  # with express delivery
    await pay(browser, page, shipping="express")
    (asked,) = backends.expected_totals
    assert asked == 6185


@pytest.mark.parametrize("change", ["x", "", "eyJhIjoxfQ.aaaa.bbbb"])
async def test_a_changed_draft_is_no_order(
    browser: Browser, backends: Backends, change: str
) -> None:
    page = await at_payment(browser)
    answer = await pay(browser, page, draft=change)
    assert "too old" in answer.text
    assert not backends.calls_of("POST /api/orders")


async def test_an_order_that_still_works_refreshes_itself(
    browser: Browser, backends: Backends
) -> None:
    backends.order_state = "working"
    page = await pay(browser, await at_payment(browser))
    assert "We are working on it" in page.text
    assert '<noscript><meta http-equiv="refresh" content="3"></noscript>' in page.html
    (order,) = backends.orders.values()
    order["state"] = "confirmed"
    fragment = await browser.get(f"/orders/{order['order_id']}/status")
    assert "your order is confirmed" in fragment.text
    assert "<html" not in fragment.html


async def test_cancelling(browser: Browser) -> None:
    page = await pay(browser, await at_payment(browser))
    form = page.form(page.path.replace("?", "") + "/cancel")
    assert "This order is cancelled" in (await browser.send(form)).text
    assert "cancelled already" in (await browser.send(form)).text


async def test_an_attempt_is_no_order(browser: Browser, backends: Backends) -> None:
    page = await pay(browser, await at_payment(browser))
    (order,) = backends.orders.values()
    reason = {"code": "card-declined", "detail": "Your card was declined."}
    attempt = {**order, "order_id": "ord_attempt", "state": "cancelled", "reason": reason}
    backends.orders["ord_attempt"] = {**attempt, "is_attempt": True}

    page = await browser.get("/orders")
    assert order["order_id"] in page.text
    assert "ord_attempt" not in page.text
    assert ("a", {"href": "/orders?show=not-placed"}) in page.tags
    page = await browser.get("/orders?show=not-placed")
    assert "Not placed" in page.text
    assert "ord_attempt" in page.text
    assert "Your card was declined." in page.text
    assert order["order_id"] not in page.text
    assert ("a", {"href": "/cart"}) in page.tags
    page = await browser.get("/orders/ord_attempt")
    assert "This order was not placed" in page.text
    assert "Your card was declined. Nothing stays charged for it" in page.text
    assert "cancelled" not in page.text.lower()
    assert ("a", {"href": "/cart"}) in page.tags


@pytest.mark.parametrize("is_attempt", [False, True])
async def test_a_refund_that_did_not_arrive_is_no_secret(
    browser: Browser, backends: Backends, is_attempt: bool
) -> None:
    await pay(browser, await at_payment(browser))
    (order,) = backends.orders.values()
    order |= {"state": "cancelled", "is_attempt": is_attempt}
    page = await browser.get(f"/orders/{order['order_id']}")
    assert "has not reached you" not in page.text
    order["refund_failed"] = True
    page = await browser.get(f"/orders/{order['order_id']}")
    assert "Your money has not reached you" in page.text
    assert "You pay nothing" not in page.text
    assert "Nothing stays charged" not in page.text
    page = await browser.get("/orders" + "?show=not-placed" * is_attempt)
    assert "Your money has not reached you yet." in page.text


@pytest.mark.parametrize("is_attempt", [False, True])
async def test_nothing_is_promised_of_a_charge_that_the_bank_decides_about(
    browser: Browser, backends: Backends, is_attempt: bool
) -> None:
    await pay(browser, await at_payment(browser))
    (order,) = backends.orders.values()
    order |= {"state": "cancelled", "is_attempt": is_attempt, "refund_disputed": True}
    page = await browser.get(f"/orders/{order['order_id']}")
    assert "The bank decides about your money:" in page.text
    assert "You pay nothing" not in page.text
    assert "Nothing stays charged" not in page.text
    page = await browser.get("/orders" + "?show=not-placed" * is_attempt)
    assert "The bank decides about your money." in page.text


async def test_orders_are_found_by_number_and_product(browser: Browser, backends: Backends) -> None:
    page = await pay(browser, await at_payment(browser))
    (order,) = backends.orders.values()
    backends.orders["ord_attempt"] = {**order, "order_id": "ord_attempt", "is_attempt": True}

    assert attributes(await browser.get("/orders"), "input", id="order-query", value="")
    page = await browser.get("/orders?q=+Oak+Board+")
    assert order["order_id"] in page.text
    assert "ord_attempt" in page.text, "somebody may look for the number of an attempt, too"
    assert attributes(page, "input", id="order-query", value="Oak Board")
    page = await browser.get("/orders?q=ord_attempt")
    assert "Not placed" in page.text
    assert order["order_id"] not in page.text
    page = await browser.get("/orders?q=%3Cb%3Esubmarine")
    assert "Nothing found for “<b>submarine”" in page.text
    assert ("a", {"href": "/orders"}) in page.tags


async def test_of_several_addresses_one_is_chosen(browser: Browser, backends: Backends) -> None:
    page = await at_payment(browser)
    page = await browser.get("/checkout")
    assert "Check and pay" in page.text, "there is but one"
    form = (await browser.get("/checkout?change=1")).form("/checkout/address")
    await browser.send(form, **address_fields(street="Herengracht 1"))

    page = await browser.get("/checkout")
    assert "Where should it go?" in page.text
    latest = attributes(page, "input", name="address", value="adr_1")
    assert "checked" in latest[0]
    page = await browser.get("/checkout?address=adr_0")
    await pay(browser, page)
    (order,) = backends.orders.values()
    assert order["address"]["street"] == "Keizersgracht 123"
    await browser.add_to_cart("oak-board")
    assert "Where should it go?" in (await browser.get("/checkout?address=adr_gone")).text


async def test_somebody_elses_order_is_not_there(browser: Browser) -> None:
    await browser.log_in()
    for path in ("/orders/ord_of_bob", "/orders/ord_of_bob/status", "/orders/..%2f..%2fx"):
        assert (await browser.get(path)).status == 404


async def test_a_postal_code_of_another_form_is_asked_for_again(
    browser: Browser, backends: Backends
) -> None:
    await browser.log_in()
    await browser.add_to_cart("oak-board")
    form = (await browser.get("/checkout")).form("/checkout/address")
    page = await browser.send(form, **address_fields(postal_code="99999999"))
    assert "In this country a postal code looks like 1015 CJ." in page.text
    assert not backends.addresses


async def test_an_address_that_lacks_something_is_asked_for_again(browser: Browser) -> None:
    await browser.log_in()
    await browser.add_to_cart("oak-board")
    page = await browser.get("/checkout")
    wrong: dict[str, Any] = address_fields(city="", country="XX", street="a" * 201)
    page = await browser.send(page.form("/checkout/address"), **wrong)
    assert page.status == 422
    assert "Enter the city." in page.text
    assert "at most 200 characters" in page.text
    assert ("a", {"href": "#city"}) in page.tags
    assert any(
        given.get("id") == "city" and given.get("aria-invalid") == "true" for _, given in page.tags
    )
