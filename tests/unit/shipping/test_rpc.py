"""The gRPC side of shipping: what its messages say, and whose token it needs."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider

from services.common import context
from services.common.context import RequestContext
from services.common.documents import Documents, SqliteStore
from services.common.errors import Kind, ShopError
from services.common.observing.metrics import Metrics
from services.pb import shared_pb2
from services.pb import shipping_pb2 as pb
from services.shipping.model import SHIPMENTS, Shipment
from services.shipping.rpc import ShippingRpc
from services.shipping.service import Shipments
from services.shipping.settings import ShippingSettings
from services.shipping.store import ShipmentStore
from tests.unit.failure import failure
from tests.unit.shipping.examples import ADDRESS, CONTACT, ORDER, Inbox
from tests.unit.tokens import token_of, verifier


@pytest.fixture
async def rpc(tmp_path: Path) -> AsyncGenerator[ShippingRpc]:
    database = SqliteStore(tmp_path / "shipping.db")
    try:
        store = ShipmentStore(await Documents.open(database, SHIPMENTS, Shipment))
        tracer = TracerProvider().get_tracer("test")
        shipments = Shipments(store, Inbox(), ShippingSettings(), tracer, Metrics())
        yield ShippingRpc(shipments, verifier())
    finally:
        await database.close()


def creation(**changes: str) -> pb.CreateShipmentRequest:
    address: dict[str, str] = {**ADDRESS.model_dump(), **changes}
    return pb.CreateShipmentRequest(
        order_id=ORDER,
        contact=CONTACT.to_message(),
        address=shared_pb2.Address(**address),
        weight_grams=1200,
        service="standard",
    )


async def test_a_shipment_goes_through_its_states(rpc: ShippingRpc) -> None:
    created = await rpc.CreateShipment(creation(), None)
    assert created.state == pb.SHIPMENT_STATE_PREPARED
    assert created.tracking_number.startswith("MM")
    dispatched = await rpc.DispatchShipment(pb.DispatchShipmentRequest(order_id=ORDER), None)
    assert [event.state for event in dispatched.history] == [
        pb.SHIPMENT_STATE_PREPARED,
        pb.SHIPMENT_STATE_DISPATCHED,
    ]
    await rpc.CancelShipment(pb.CancelShipmentRequest(order_id=ORDER), None)
    with pytest.raises(ShopError, match="cancelled"):
        await rpc.DispatchShipment(pb.DispatchShipmentRequest(order_id=ORDER), None)


@pytest.mark.parametrize("change", [{"city": ""}, {"country": "Holland"}, {"street": "a\nb"}])
async def test_an_incomplete_address_is_refused(rpc: ShippingRpc, change: dict[str, str]) -> None:
    refused = await failure(rpc.CreateShipment(creation(**change), None))
    assert (refused.kind, refused.code) == (Kind.INVALID, "invalid-address")


async def test_quotes_are_cheapest_first(rpc: ShippingRpc) -> None:
    answer = await rpc.GetQuotes(pb.GetQuotesRequest(country="NL", weight_grams=1200), None)
    assert [
        (quote.service, quote.price.cents, quote.price.currency) for quote in answer.quotes
    ] == [
        ("standard", 535, "EUR"),
        ("express", 1075, "EUR"),
    ]


async def test_only_the_owner_sees_a_shipment(rpc: ShippingRpc) -> None:
    await rpc.CreateShipment(creation(), None)
    asked = pb.GetShipmentRequest(order_id=ORDER)
    with context.serving(RequestContext(deadline=0.0, token=token_of("usr_ada"))):
        assert (await rpc.GetShipment(asked, None)).order_id == ORDER
    for token, kind in (
        (token_of("usr_eve"), Kind.NOT_FOUND),
        (None, Kind.UNAUTHENTICATED),
        ("forged", Kind.UNAUTHENTICATED),
    ):
        with (
            context.serving(RequestContext(deadline=0.0, token=token)),
            pytest.raises(ShopError) as refused,
        ):
            await rpc.GetShipment(asked, None)
        assert refused.value.kind is kind


@pytest.mark.parametrize("order_id", ["", "a.b", "$a", "x" * 65])
async def test_an_order_id_has_the_form_that_all_services_know(
    rpc: ShippingRpc, order_id: str
) -> None:
    request = creation()
    request.order_id = order_id
    for call in (
        rpc.CreateShipment(request, None),
        rpc.DispatchShipment(pb.DispatchShipmentRequest(order_id=order_id), None),
        rpc.CancelShipment(pb.CancelShipmentRequest(order_id=order_id), None),
    ):
        refused = await failure(call)
        assert (refused.kind, refused.code) == (Kind.INVALID, "invalid-order-id")
