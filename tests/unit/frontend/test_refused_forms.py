"""What a service refuses is said at the form, with what was typed still in it."""

from __future__ import annotations

from typing import Any

import pytest

from services.common.delivery import MAX_PARCEL_GRAMS
from services.common.errors import Kind, ShopError
from tests.testkit.customer import address_fields
from tests.testkit.visitor import ShownPage, Visitor
from tests.unit.frontend.fakes import ADA, Backends, product

pytestmark = pytest.mark.asyncio(loop_scope="session")

ON_THE_CITY = ShopError(
    Kind.INVALID, "invalid-request", "The request is not valid.", fields={"body.city": "No such"}
)
ON_THE_NAME = ShopError(
    Kind.INVALID, "invalid-request", "The request is not valid.", fields={"body.name": "Too odd"}
)
ON_NOTHING = ShopError(Kind.INVALID, "odd", "That cannot be.")


def said(page: ShownPage, field: str) -> str:
    """What stands at a field, and in the summary of the same page."""
    [box] = page.elements("input", name=field)
    assert box["aria-invalid"] == "true"
    assert page.elements("a", href=f"#{field}")
    start = page.html.index(f'id="{field}-error"')
    return page.html[start : page.html.index("</p>", start)].rpartition("</svg>")[2].strip()


def typed(page: ShownPage, field: str) -> Any:
    [box] = page.elements("input", name=field)
    return box["value"]


async def at_the_address_step(visitor: Visitor) -> ShownPage:
    await visitor.log_in(ADA)
    await visitor.add_to_cart("oak-board")
    return await visitor.get("/checkout")


@pytest.mark.parametrize(
    ("refusal", "field", "sentence"),
    [(ON_THE_CITY, "city", "No such."), (ON_NOTHING, "name", "That cannot be.")],
)
async def test_an_address_of_an_order(
    visitor: Visitor, backends: Backends, refusal: ShopError, field: str, sentence: str
) -> None:
    page = await at_the_address_step(visitor)
    backends.user_refusal = refusal
    page = await visitor.send(page.form("/checkout/address"), **address_fields(city="Delft"))
    assert page.status == 422
    assert said(page, field) == sentence
    assert typed(page, "city") == "Delft"


async def test_a_full_address_book_keeps_nobody_from_ordering(
    visitor: Visitor, backends: Backends
) -> None:
    page = await at_the_address_step(visitor)
    backends.user_refusal = ShopError(Kind.CONFLICT, "too-many-addresses", "It is full.")
    page = await visitor.send(page.form("/checkout/address"), **address_fields())
    assert "Check and pay" in page.text


@pytest.mark.parametrize(
    ("changes", "field", "sentence"),
    [
        ({"name": "www.shop.example"}, "name", "A name holds no web address: "),
        ({"street": "\u2800"}, "street", "At least one character that can be seen is needed."),
        ({"postal_code": "1015"}, "postal_code", "In this country a postal code looks like"),
    ],
)
@pytest.mark.parametrize("place", ["/checkout/address", "/profile/addresses"])
async def test_what_every_service_refuses_is_sent_to_none(
    visitor: Visitor,
    backends: Backends,
    place: str,
    changes: dict[str, str],
    field: str,
    sentence: str,
) -> None:
    page = await at_the_address_step(visitor)
    if place == "/profile/addresses":
        page = await visitor.get("/profile")
    page = await visitor.send(page.form(place), **address_fields(**changes))
    assert page.status == 422
    assert said(page, field).startswith(sentence)
    assert not backends.calls_of("POST /api/users/me/addresses")


async def test_an_address_of_the_address_book(visitor: Visitor, backends: Backends) -> None:
    await visitor.log_in(ADA)
    page = await visitor.get("/profile")
    backends.user_refusal = ON_THE_CITY
    page = await visitor.send(page.form("/profile/addresses"), **address_fields(city="Delft"))
    assert page.status == 422
    assert said(page, "city") == "No such."
    assert typed(page, "city") == "Delft"


@pytest.mark.parametrize(
    ("refusal", "status", "sentence"),
    [
        (ON_THE_NAME, 422, "Too odd."),
        (ON_NOTHING, 422, "That cannot be."),
        (ShopError(Kind.CONFLICT, "changed", "It has changed."), 409, "It has changed."),
    ],
)
async def test_another_name(
    visitor: Visitor, backends: Backends, refusal: ShopError, status: int, sentence: str
) -> None:
    await visitor.log_in(ADA)
    page = await visitor.get("/profile")
    backends.user_refusal = refusal
    page = await visitor.send(page.form("/profile"), full_name="Ada King")
    assert page.status == status
    assert said(page, "full_name") == sentence
    assert typed(page, "full_name") == "Ada King"


async def test_a_name_for_an_account(visitor: Visitor, backends: Backends) -> None:
    page = await visitor.get("/register")
    backends.user_refusal = ON_THE_NAME
    page = await visitor.send(
        page.form("/register"), name="Ada", email="ada@example.com", password="a long password"
    )
    assert page.status == 422
    assert said(page, "name") == "Too odd."
    assert not page.elements("a", href="#email")


@pytest.mark.parametrize(
    ("old", "field"),
    [({"postal_code": "1015"}, "postal_code"), ({"name": "www.shop.example"}, "name")],
)
async def test_an_address_from_before_todays_rules_is_mended_at_the_address_step(
    visitor: Visitor, backends: Backends, old: dict[str, str], field: str
) -> None:
    backends.addresses = [{**address_fields(**old), "id": "adr_0"}]
    page = await at_the_address_step(visitor)
    assert "Where should it go?" in page.text
    assert said(page, field)
    assert typed(page, field) == old[field]
    assert typed(page, "city") == "Amsterdam"
    page = await visitor.send(page.form("/checkout/address"), **address_fields())
    assert "Check and pay" in page.text


async def test_a_cart_that_nobody_carries_says_so(visitor: Visitor, backends: Backends) -> None:
    backends.products["anvil"] = product("anvil", weight_grams=MAX_PARCEL_GRAMS // 4 + 10)
    backends.stock["anvil"] = 40
    page = await visitor.add_to_cart("anvil", 3)
    assert page.elements("a", href="/checkout")
    assert "weighs" not in page.text
    page = await visitor.add_to_cart("anvil")
    assert "Your cart weighs 100.1 kg. We ship parcels of up to 100 kg: please take" in page.text
    assert not page.elements("a", href="/checkout")
