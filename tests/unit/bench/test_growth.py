"""Grown shops hold what the shop itself could have stored."""

from __future__ import annotations

from pathlib import Path

from pydantic import TypeAdapter

from services.common.documents import Collection, Document, Documents, Index
from services.common.documents.sqlite import SqliteStore
from services.common.fields import AddressFields, Slug
from services.order.model import Contact, Order, OrderState, order_id_for
from services.product.model import Product
from tests.bench.growth.bulk import insert_all, orders_like, stored_orders
from tests.bench.growth.grown import grown_catalogue
from tests.testkit.customer import address_fields


class Thing(Document):
    id: str
    number: int


THINGS = Collection("things", indexes=(Index("by_number", order="number"),))
ORDER = Order(
    id=order_id_for("usr_1", "key"),
    user_id="usr_1",
    fingerprint="f",
    contact=Contact(name="Ada", email="ada@example.com"),
    address=AddressFields.model_validate(address_fields()),
    lines=(),
    shipping_service="standard",
    shipping_cents=490,
    currency="EUR",
    payment_method="pm_card_visa",
    created_ms=1_700_000_000_000,
    state=OrderState.CONFIRMED,
    step=None,
)


def test_a_grown_catalogue_has_different_valid_products() -> None:
    as_it_is, grown = grown_catalogue(1), grown_catalogue(3)
    assert len(grown.products) == 3 * len(as_it_is.products)
    ids = [product.id for product in grown.products]
    assert {product.id for product in as_it_is.products} < set(ids)
    TypeAdapter(list[Slug]).validate_python(ids)
    assert len(set(ids)) == len(ids) == len(grown.pictures)
    for product in grown.products:
        assert Product.model_validate(product.model_dump(mode="json")) == product


async def test_what_was_inserted_at_once_is_found_as_if_one_by_one(tmp_path: Path) -> None:
    things = [Thing(id=f"thing-{number}", number=number) for number in range(300)]
    insert_all(tmp_path / "bulk.db", THINGS, things)
    store = SqliteStore(tmp_path / "bulk.db")
    documents = await Documents.open(store, THINGS, Thing)
    found = [stored.value async for stored in documents.each("by_number")]
    await store.close()
    assert found == things


def test_orders_like_one_are_valid_and_one_in_a_hundred_is_the_customers(tmp_path: Path) -> None:
    file = tmp_path / "order.db"
    insert_all(file, Collection("orders"), orders_like(ORDER, 1000))
    orders = stored_orders(file)
    assert len({order.id for order in orders}) == 1000
    own = [order for order in orders if order.user_id == ORDER.user_id]
    assert len(own) == 10
    assert all(order.created_ms < ORDER.created_ms for order in orders)
