"""Ordering without an account, and keeping it afterwards."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.testkit.customer import address_fields
from tests.testkit.visitor import ShownPage, Visitor
from tests.unit.frontend.fakes import ADA, CODE, MAX_LINK_MAILS, PASSWORD, WEAK_PASSWORD, Backends

pytestmark = pytest.mark.asyncio(loop_scope="session")

REFRESH = "meshmart-refresh"
GRACE = "grace@example.com"
CORRECTED = "grace@example.org"


async def as_guest(visitor: Visitor, **changes: Any) -> ShownPage:
    """What the delivery form of somebody without an account leads to."""
    await visitor.add_to_cart("oak-board")
    form = (await visitor.get("/checkout")).form("/checkout/address")
    return await visitor.send(form, **address_fields(email="grace@example.com", **changes))


async def ordered(visitor: Visitor) -> ShownPage:
    """The order of a guest."""
    page = await as_guest(visitor)
    return await visitor.send(page.form("/checkout"), payment_method="pm_card_visa")


async def test_an_order_needs_no_account(visitor: Visitor, backends: Backends) -> None:
    page = await as_guest(visitor)
    assert "Check and pay" in page.text
    (opened,) = backends.calls_of("POST /api/auth/guest")
    assert json.loads(opened.body) == {"email": "grace@example.com", "name": "Ada Lovelace"}
    page = await visitor.send(page.form("/checkout"), payment_method="pm_card_visa")
    assert "your order is confirmed" in page.text
    assert ("a", {"href": "/profile/keep"}) in page.tags
    (order,) = backends.orders.values()
    assert order["order_id"] in (await visitor.get("/orders")).text


async def test_a_second_order_is_that_of_the_same_guest(
    visitor: Visitor, backends: Backends
) -> None:
    await ordered(visitor)
    await visitor.add_to_cart("red-lamp")
    page = await visitor.get("/checkout")
    assert "Check and pay" in page.text, "the address is known"
    assert len(backends.calls_of("POST /api/auth/guest")) == 1


@pytest.mark.parametrize(
    ("fields", "told"),
    [({"email": "no address"}, "Enter an e-mail address like"), ({"city": ""}, "Enter the city.")],
)
async def test_what_is_missing_is_asked_for_again(
    visitor: Visitor, backends: Backends, fields: dict[str, str], told: str
) -> None:
    await visitor.add_to_cart("oak-board")
    form = (await visitor.get("/checkout")).form("/checkout/address")
    typed = {**address_fields(email="grace@example.com"), **fields}
    page = await visitor.send(form, **typed)
    assert page.status == 422
    assert told in page.text
    value = {"id": "email", "value": typed["email"]}
    assert any(value.items() <= given.items() for _, given in page.tags)
    assert not backends.calls_of("POST /api/auth/guest")


async def test_without_auth_nobody_is_let_in_and_nothing_is_lost(
    visitor: Visitor, backends: Backends
) -> None:
    await visitor.add_to_cart("oak-board")
    form = (await visitor.get("/checkout")).form("/checkout/address")
    backends.down = {"auth"}
    page = await visitor.send(form, **address_fields(email="grace@example.com"))
    assert page.status == 503
    assert "Ordering without an account is taking a short break" in page.text
    assert "Keizersgracht 123" in page.html


async def test_a_page_from_before_a_log_in_says_so_and_keeps_the_cart(
    visitor: Visitor, backends: Backends
) -> None:
    before = await as_guest(visitor)
    await visitor.log_in(ADA)  # in another tab
    page = await visitor.send(before.form("/checkout"), payment_method="pm_card_visa")
    assert page.status == 403
    assert "Somebody has logged in or out" in page.text
    assert "too old" not in page.text
    assert any(tag == "a" and given["href"] == "/checkout" for tag, given in page.tags)
    assert not backends.calls_of("POST /api/orders")
    assert "Oak" in (await visitor.get("/cart")).text

    page = await visitor.send(before.form("/preview"))
    assert page.status == 403
    assert not any(given.get("href") == "/preview" for _, given in page.tags), "no such page"


async def test_a_guest_whose_session_has_ended_begins_again(
    visitor: Visitor, backends: Backends
) -> None:
    before = await as_guest(visitor)
    backends.refresh_tokens.clear()
    visitor.set_cookie("meshmart-access", backends.access_token(exp=1))
    page = await visitor.send(before.form("/checkout"), payment_method="pm_card_visa")
    assert page.path == "/checkout"
    assert "too old" in page.text
    assert "Where should it go?" in page.text
    assert not backends.calls_of("POST /api/orders")


async def test_a_customer_gives_no_address_of_another(visitor: Visitor, backends: Backends) -> None:
    await visitor.log_in(ADA)
    await visitor.add_to_cart("oak-board")
    form = (await visitor.get("/checkout")).form("/checkout/address")
    await visitor.send(form, **address_fields(email="eve@example.com"))
    assert not backends.calls_of("POST /api/auth/guest")


async def test_a_password_keeps_the_account(visitor: Visitor, backends: Backends) -> None:
    page = await ordered(visitor)
    page = await visitor.get("/profile/keep")
    assert "grace@example.com" in page.html
    short = await visitor.send(page.form("/profile/keep"), email=GRACE, password="short")
    assert short.status == 422
    assert "Use at least 10 characters." in short.text
    before = visitor.cookie(REFRESH)
    page = await visitor.send(page.form("/profile/keep"), email=GRACE, password=PASSWORD)
    assert page.path == "/profile"
    assert "yours to keep" in page.text
    assert "as a guest" not in page.text
    assert visitor.cookie(REFRESH) != before
    (order,) = backends.orders.values()
    page = await visitor.get(f"/orders/{order['order_id']}")
    assert ("a", {"href": "/profile/keep"}) not in page.tags
    assert (await visitor.get("/profile/keep")).path == "/profile"


async def test_a_password_that_was_set_already_is_no_error(
    visitor: Visitor, backends: Backends
) -> None:
    await ordered(visitor)
    page = await visitor.get("/profile/keep")
    backends.profile["is_guest"] = False  # the answer to this form was lost
    page = await visitor.send(page.form("/profile/keep"), email=GRACE, password=PASSWORD)
    assert page.path == "/profile"
    assert "has a password already" in page.text
    assert "as a guest" not in page.text


async def test_an_address_with_an_account_is_not_taken_over(
    visitor: Visitor, backends: Backends
) -> None:
    await visitor.add_to_cart("oak-board")
    form = (await visitor.get("/checkout")).form("/checkout/address")
    page = await visitor.send(form, **address_fields(email="taken@example.com"))
    assert "Check and pay" in page.text, "nothing tells that there is an account"
    keeping = (await visitor.get("/profile/keep")).form("/profile/keep")
    page = await visitor.send(keeping, email="taken@example.com", password=PASSWORD)
    assert page.status == 409
    assert "cannot be moved to the account of taken@example.com" in page.text
    assert ("a", {"href": "/login"}) not in page.tags, "that way the orders are lost"
    assert (page.elements("input", id="password")[0].get("aria-invalid")) is None
    assert page.elements("input", id="email", value="taken@example.com")
    page = await visitor.send(page.form("/profile/keep"), email=CORRECTED, password=PASSWORD)
    assert "yours to keep" in page.text
    assert backends.profile["email"] == CORRECTED


async def test_what_is_wrong_with_a_password_is_said_there(visitor: Visitor) -> None:
    await as_guest(visitor)
    page = await visitor.get("/profile/keep")
    page = await visitor.send(page.form("/profile/keep"), email=GRACE, password=WEAK_PASSWORD)
    assert page.status == 422
    assert "Everybody would try that." in page.text
    assert page.elements("input", id="password")[0]["aria-invalid"] == "true"


async def test_while_auth_is_away_no_password_is_set(visitor: Visitor, backends: Backends) -> None:
    await as_guest(visitor)
    page = await visitor.get("/profile/keep")
    backends.down = {"auth"}
    page = await visitor.send(page.form("/profile/keep"), email=GRACE, password=PASSWORD)
    assert (page.status, "taking a short break" in page.text) == (503, True)


async def test_a_guest_can_log_in_to_an_account(visitor: Visitor) -> None:
    await ordered(visitor)
    page = await visitor.get("/profile")
    assert "You order as a guest." in page.text
    assert ("a", {"href": "/login"}) in page.tags
    page = await visitor.log_in(ADA, "/profile")
    assert page.path == "/profile"
    assert "You order as a guest." not in page.text
    assert (await visitor.get("/login?next=/orders")).path == "/orders"


async def test_a_guest_is_told_how_to_get_another_link(
    visitor: Visitor, backends: Backends
) -> None:
    backends.mail = "waiting"
    await as_guest(visitor)
    assert ("a", {"href": "/inbox"}) in (await visitor.get("/confirm")).tags
    assert "Mail me the link again" in (await visitor.get("/inbox")).text


LEFT_BEHIND = "Your orders do not move to another account"
# Each of these ends a guest's session.
EXITS = ["/login", "/register", "/password", "/profile"]


@pytest.mark.parametrize("path", EXITS)
async def test_a_guest_with_orders_is_told_what_stays_behind(visitor: Visitor, path: str) -> None:
    await ordered(visitor)
    page = await visitor.get(path)
    assert LEFT_BEHIND in page.text
    assert ("a", {"href": "/profile/keep"}) in page.tags


async def test_a_refused_form_still_says_so(visitor: Visitor) -> None:
    await ordered(visitor)
    page = await visitor.get("/login")
    page = await visitor.send(page.form("/login"), email="ada@example.com", password="wrong")
    assert page.status == 401
    assert LEFT_BEHIND in page.text
    page = await visitor.get("/password")
    page = await visitor.send(page.form("/password"), code=CODE, new_password="short")
    assert page.status == 422
    assert LEFT_BEHIND in page.text


@pytest.mark.parametrize("path", EXITS)
async def test_nothing_stays_behind_of_a_guest_who_has_not_ordered(
    visitor: Visitor, path: str
) -> None:
    await as_guest(visitor)
    assert LEFT_BEHIND not in (await visitor.get(path)).text


@pytest.mark.parametrize("refusing", ["down", "distrustful"])
async def test_where_orders_cannot_be_asked_for_there_may_be_some(
    visitor: Visitor, backends: Backends, refusing: str
) -> None:
    await ordered(visitor)
    setattr(backends, refusing, {"order"})
    page = await visitor.get("/login")
    assert page.status == 200
    assert LEFT_BEHIND in page.text


async def test_nobody_else_is_told_of_orders_left_behind(
    visitor: Visitor, backends: Backends
) -> None:
    assert LEFT_BEHIND not in (await visitor.get("/login")).text
    assert not backends.calls_of("GET /api/orders")
    await ordered(visitor)
    await visitor.log_in(ADA)
    assert LEFT_BEHIND not in (await visitor.get("/profile")).text
    assert "only in this browser" not in (await visitor.get("/orders")).text


async def test_a_guests_orders_say_how_long_they_are_seen(visitor: Visitor) -> None:
    await ordered(visitor)
    page = await visitor.get("/orders")
    assert "only in this browser, and until you log out or log in" in page.text
    assert ("a", {"href": "/profile/keep"}) in page.tags


async def test_a_guest_sees_and_corrects_where_mails_go_before_paying(
    visitor: Visitor, backends: Backends
) -> None:
    page = await as_guest(visitor)
    assert f"Mails go to {GRACE}" in page.text
    assert ("a", {"href": "/checkout?change=1#email"}) in page.tags
    page = await visitor.get("/checkout?change=1")
    assert page.elements("input", id="email", value=GRACE)
    page = await visitor.send(page.form("/profile/email"), email=CORRECTED)
    assert page.path == "/checkout"
    assert f"Mails go to {CORRECTED}" in page.text
    assert backends.link_mails == [("guest", CORRECTED)]
    page = await visitor.send(page.form("/checkout"), payment_method="pm_card_visa")
    assert f"Mails go to {CORRECTED}" in page.text, "the order says so, too"
    assert ("a", {"href": "/profile#email"}) in page.tags


async def test_a_correction_that_is_no_address_is_asked_for_again(
    visitor: Visitor, backends: Backends
) -> None:
    await as_guest(visitor)
    form = (await visitor.get("/checkout?change=1")).form("/profile/email")
    page = await visitor.send(form, email="grace@")
    assert page.status == 422
    assert "Enter an e-mail address like" in page.text
    assert page.elements("input", id="email", value="grace@")
    page = await visitor.send(page.form("/profile/email"), email=CORRECTED)
    assert page.path == "/checkout", "still on the way to the payment"
    assert backends.profile["email"] == CORRECTED


async def test_a_customer_sees_where_mails_go_and_corrects_nothing(
    visitor: Visitor, backends: Backends
) -> None:
    await visitor.log_in(ADA)
    await visitor.add_to_cart("oak-board")
    form = (await visitor.get("/checkout")).form("/checkout/address")
    page = await visitor.send(form, **address_fields())
    assert "Mails go to ada@example.com" in page.text
    assert not (await visitor.get("/checkout?change=1")).elements("input", id="email")
    token = page.form("/checkout").fields["form_token"]
    fields = {"form_token": token, "email": CORRECTED}
    page = await visitor.post("/profile/email", fields, {"origin": visitor.base_url})
    assert page.path == "/profile"
    assert not backends.calls_of("POST /api/auth/guest/address")


async def test_a_guest_asks_for_the_link_again(visitor: Visitor, backends: Backends) -> None:
    await ordered(visitor)
    backends.mail = "waiting"
    page = await visitor.get("/inbox")
    assert f"Mails to {GRACE} wait" in page.text
    again = page.form("/profile/confirm")
    page = await visitor.send(again)
    assert page.path == "/inbox"
    assert f"on its way to {GRACE}" in page.text
    for _ in range(MAX_LINK_MAILS):
        page = await visitor.send(again)
    assert "Too many mails." in page.text
    assert backends.link_mails == [("guest", GRACE)] * MAX_LINK_MAILS
    assert (await visitor.get("/profile")).form("/profile/confirm")


async def test_without_the_account_a_guest_pays_all_the_same(
    visitor: Visitor, backends: Backends
) -> None:
    page = await as_guest(visitor)
    backends.down = {"user"}
    page = await visitor.send(page.form("/checkout"), payment_method="pm_card_visa")
    assert "your order is confirmed" in page.text
    assert "Mails go to" not in page.text


async def test_what_is_wrong_is_listed_as_the_form_runs(visitor: Visitor) -> None:
    await visitor.add_to_cart("oak-board")
    form = (await visitor.get("/checkout")).form("/checkout/address")
    blank = dict.fromkeys(["email", *address_fields()], "")
    page = await visitor.send(form, **blank)
    listed = [given["href"] for tag, given in page.tags if tag == "a" and given.get("href", "")]
    wrong = [href for href in listed if href and href.startswith("#") and href != "#main"]
    assert wrong == ["#email", "#name", "#street", "#postal_code", "#city", "#country"]


async def test_an_address_is_checked_whole_beside_a_wrong_email(visitor: Visitor) -> None:
    await visitor.add_to_cart("oak-board")
    form = (await visitor.get("/checkout")).form("/checkout/address")
    page = await visitor.send(form, **address_fields(email="grace@", street="\u115f"))
    assert page.elements("input", id="email")[0]["aria-invalid"] == "true"
    assert page.elements("input", id="street")[0]["aria-invalid"] == "true"
