"""Shipping as its process serves it, over HTTP and gRPC, with the real notification behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from starlette.types import ASGIApp

from services.common import context
from services.common.calls.grpc_client import GrpcEdge, open_channel
from services.common.clock import now_ms
from services.common.documents import Documents, open_store
from services.common.errors import Kind, ShopError
from services.common.notifying import Notifications
from services.common.observing.metrics import Metrics
from services.common.serving.host import Host, Wire, hosting
from services.common.settings import ProcessSettings
from services.common.topology import load_topology
from services.notification.main import wire as wire_notification
from services.pb import shared_pb2
from services.pb import shipping_pb2 as pb
from services.shipping.main import wire as wire_shipping
from services.shipping.model import SHIPMENTS, Shipment, ShipmentState
from services.shipping.service import Shipments
from services.shipping.settings import ShippingSettings
from services.shipping.store import ShipmentStore
from tests.testkit.ports import free_port
from tests.unit.asgi import AsgiAnswer, ask
from tests.unit.common.kit import call_tools, process_settings
from tests.unit.failure import failure
from tests.unit.shipping.examples import ADDRESS, CONTACT, ORDER, a_command
from tests.unit.tokens import headers_of, token_of, verifier

TOPOLOGY = load_topology()
SERVICE = "meshmart.shipping.v1.ShippingService"


class Callers:
    """The services that call shipping over gRPC, and what they ask."""

    def __init__(self, order: GrpcEdge, frontend: GrpcEdge) -> None:
        self._quotes = order.rpc(f"{SERVICE}/GetQuotes", pb.GetQuotesRequest, pb.GetQuotesResponse)
        self._create = order.rpc(f"{SERVICE}/CreateShipment", pb.CreateShipmentRequest, pb.Shipment)
        self._dispatch = order.rpc(
            f"{SERVICE}/DispatchShipment", pb.DispatchShipmentRequest, pb.Shipment
        )
        self._cancel = order.rpc(
            f"{SERVICE}/CancelShipment", pb.CancelShipmentRequest, pb.CancelShipmentResponse
        )
        self._get = frontend.rpc(f"{SERVICE}/GetShipment", pb.GetShipmentRequest, pb.Shipment)

    async def quotes(self, country: str, weight_grams: int) -> pb.GetQuotesResponse:
        """Asks for the tariffs."""
        with context.background(5.0):
            request = pb.GetQuotesRequest(country=country, weight_grams=weight_grams)
            return await self._quotes(request)

    async def create(
        self, *, service: str = "standard", weight_grams: int = 1200, city: str = "Amsterdam"
    ) -> pb.Shipment:
        """Asks for the order's parcel."""
        address = {**ADDRESS.model_dump(), "city": city}
        with context.background(5.0):
            return await self._create(
                pb.CreateShipmentRequest(
                    order_id=ORDER,
                    contact=CONTACT.to_message(),
                    address=shared_pb2.Address(**address),
                    weight_grams=weight_grams,
                    service=service,
                )
            )

    async def dispatch(self) -> pb.Shipment:
        """Lets the carrier have it."""
        with context.background(5.0):
            return await self._dispatch(pb.DispatchShipmentRequest(order_id=ORDER))

    async def cancel(self) -> None:
        """Stops it."""
        with context.background(5.0):
            await self._cancel(pb.CancelShipmentRequest(order_id=ORDER))

    async def get(self, token: str | None) -> pb.Shipment:
        """Shows it to a customer."""
        with context.background(5.0) as current:
            current.token = token
            return await self._get(pb.GetShipmentRequest(order_id=ORDER))


@dataclass(frozen=True, slots=True)
class RunningService:
    """A running process of one service."""

    settings: ProcessSettings
    app: ASGIApp

    async def ask(self, path: str, user_id: str | None = None) -> AsgiAnswer:
        """What its HTTP side answers to a customer, or to nobody."""
        headers: Mapping[str, str] = {} if user_id is None else headers_of(user_id)
        return await ask(self.app, "GET", path, headers=headers)


@asynccontextmanager
async def running(name: str, wire: Wire, data: Path, port: int) -> AsyncGenerator[RunningService]:
    """Runs a service, whose customers' tokens are those of the tests."""

    async def wire_with_keys(host: Host) -> None:
        host.token_verifier = verifier()  # in the place of auth's keys
        await wire(host)

    settings = process_settings(
        grpc_port=port,
        database_url=f"sqlite:///{data}",
        grpc_addresses={"notification": (f"127.0.0.1:{free_port()}",)},
        drain_seconds=0,
    )
    async with (
        hosting(name, wire_with_keys, topology=TOPOLOGY, process=settings) as host,
        host.running(),
    ):
        yield RunningService(settings, host.app())


@pytest.fixture
async def shipping(tmp_path: Path) -> AsyncGenerator[RunningService]:
    async with running("shipping", wire_shipping, tmp_path, free_port()) as process:
        yield process


@pytest.fixture
async def callers(shipping: RunningService) -> AsyncGenerator[Callers]:
    async with open_channel([f"127.0.0.1:{shipping.settings.grpc_port}"]) as channel:
        order, frontend = (
            GrpcEdge(TOPOLOGY.edge(caller, "shipping"), channel, call_tools())
            for caller in ("order", "frontend")
        )
        yield Callers(order, frontend)


class TestServedQuotes:
    async def test_are_the_same_over_both_protocols(
        self, shipping: RunningService, callers: Callers
    ) -> None:
        shown = await shipping.ask("/api/shipping/quotes?country=DE&weight_grams=1001")
        assert shown.status == 200
        assert shown.json()["quotes"][0] == {
            "service": "standard",
            "price_cents": 885,
            "currency": "EUR",
            "days_min": 2,
            "days_max": 4,
        }
        quotes = (await callers.quotes("DE", 1001)).quotes
        assert [
            {
                "service": quote.service,
                "price_cents": quote.price.cents,
                "currency": quote.price.currency,
                "days_min": quote.days_min,
                "days_max": quote.days_max,
            }
            for quote in quotes
        ] == shown.json()["quotes"]

    @pytest.mark.parametrize(
        "query",
        [
            "",
            "country=NL",
            "weight_grams=1",
            "country=nl&weight_grams=1",
            "country=ZZ&weight_grams=1",
            "country=KP&weight_grams=1",
            "country=NLD&weight_grams=1",
            "country=NL%0A&weight_grams=1",
            "country=NL&weight_grams=0",
            "country=NL&weight_grams=100001",
            "country=NL&weight_grams=1.5",
            "country=NL&weight_grams=much",
        ],
    )
    async def test_need_a_country_and_a_weight(self, shipping: RunningService, query: str) -> None:
        assert (await shipping.ask(f"/api/shipping/quotes?{query}")).status == 422

    @pytest.mark.parametrize("weight_grams", [-1, 0, 100_001])
    async def test_end_where_parcels_do(self, callers: Callers, weight_grams: int) -> None:
        refused = await failure(callers.quotes("NL", weight_grams))
        assert (refused.kind, refused.code) == (Kind.INVALID, "weight-out-of-range")


class TestShipment:
    async def test_is_created_over_grpc_and_shown_over_http(
        self, shipping: RunningService, callers: Callers
    ) -> None:
        created = await callers.create()
        assert await callers.create() == created
        assert await callers.dispatch() == await callers.dispatch()
        answer = await shipping.ask(f"/api/shipping/orders/{ORDER}", "usr_ada")
        assert answer.status == 200
        shown = answer.json()
        assert [moment.pop("at")[-1] for moment in shown["history"]] == ["Z", "Z"]
        assert shown == {
            "order_id": ORDER,
            "state": "dispatched",
            "tracking_number": created.tracking_number,
            "service": "standard",
            "history": [
                {"state": "prepared", "place": "Utrecht warehouse"},
                {"state": "dispatched", "place": "Utrecht warehouse"},
            ],
        }

    async def test_is_for_its_owner_only(self, shipping: RunningService, callers: Callers) -> None:
        await callers.create()
        own, path = await callers.get(token_of("usr_ada")), f"/api/shipping/orders/{ORDER}"
        assert own.state == pb.SHIPMENT_STATE_PREPARED
        foreign = await shipping.ask(path, "usr_eve")
        unknown = await shipping.ask("/api/shipping/orders/ord_2", "usr_eve")
        assert (foreign.status, unknown.status) == (404, 404)
        assert foreign.json()["detail"] == unknown.json()["detail"]
        assert (await shipping.ask(path)).status == 401
        for token, kind in (
            (token_of("usr_eve"), Kind.NOT_FOUND),
            (None, Kind.UNAUTHENTICATED),
            ("forged", Kind.UNAUTHENTICATED),
        ):
            assert (await failure(callers.get(token))).kind is kind

    @pytest.mark.parametrize("order_id", ["a.b", "%00", "x" * 65, "ORD"])
    async def test_is_not_looked_for_under_what_is_no_order(
        self, shipping: RunningService, order_id: str
    ) -> None:
        assert (await shipping.ask(f"/api/shipping/orders/{order_id}", "usr_ada")).status == 422

    async def test_refusals_reach_the_caller_with_their_reasons(self, callers: Callers) -> None:
        async def code(call: Awaitable[object]) -> tuple[Kind, str]:
            with pytest.raises(ShopError) as refused:
                await call
            return refused.value.kind, refused.value.code

        assert await code(callers.dispatch()) == (Kind.NOT_FOUND, "unknown-shipment")
        assert await code(callers.create(city="")) == (Kind.INVALID, "invalid-address")
        assert await code(callers.create(service="x")) == (Kind.INVALID, "no-such-shipping")
        assert await code(callers.create(weight_grams=0)) == (Kind.INVALID, "weight-out-of-range")
        for _ in range(2):
            await callers.cancel()
        assert await code(callers.create()) == (Kind.CONFLICT, "shipment-closed")
        assert await code(callers.dispatch()) == (Kind.CONFLICT, "shipment-closed")


class Carrier:
    """A process of shipping that sweeps when it is told to, with a carrier in a hurry."""

    def __init__(self, store: ShipmentStore, notifications: Notifications) -> None:
        self._store = store
        self.shipments = Shipments(
            store,
            notifications,
            ShippingSettings(shipping_step_seconds=0.001),
            TracerProvider().get_tracer("test"),
            Metrics(),
        )

    async def sweep(self) -> Shipment:
        """Moves the parcel on as if its time had come."""
        stored = await self._store.get(ORDER)
        assert stored is not None
        due = stored.value.model_copy(update={"due_ms": now_ms(), "moves_ms": now_ms()})
        await self._store.save(stored, due)
        await self.shipments.move_on()
        return await self.shipments.get("usr_ada", ORDER)

    async def arrival(self) -> Shipment:
        """The parcel when it has arrived and all is told."""
        async with asyncio.timeout(10.0):
            while True:
                shipment = await self.sweep()
                if shipment.state is ShipmentState.DELIVERED and not shipment.events:
                    return shipment
                await asyncio.sleep(0.01)


@pytest.fixture
async def carrier(tmp_path: Path, notification_port: int) -> AsyncGenerator[Carrier]:
    async with AsyncExitStack() as resources:
        database = open_store(f"sqlite:///{tmp_path}", "shipping")
        resources.push_async_callback(database.close)
        store = ShipmentStore(await Documents.open(database, SHIPMENTS, Shipment))
        address = f"127.0.0.1:{notification_port}"
        channel = await resources.enter_async_context(open_channel([address]))
        edge = GrpcEdge(TOPOLOGY.edge("shipping", "notification"), channel, call_tools())
        yield Carrier(store, Notifications(edge))


@pytest.fixture
def notification_port() -> int:
    return free_port()


async def test_the_customer_finds_both_messages_in_the_inbox(
    carrier: Carrier, notification_port: int, tmp_path: Path
) -> None:
    """Nobody can be told at first: what happened then is told as soon as that is mended."""
    await carrier.shipments.create(a_command())
    await carrier.shipments.dispatch(ORDER)
    with context.background(30.0):
        away = await carrier.sweep()
        assert (away.state, len(away.events)) == (ShipmentState.IN_TRANSIT, 1)
        async with running(
            "notification", wire_notification, tmp_path, notification_port
        ) as notification:
            shipment = await carrier.arrival()
            inbox = (await notification.ask("/api/notifications", "usr_ada")).json()["items"]
    assert {message["id"]: message["kind"] for message in inbox} == {
        f"{ORDER}:in-transit": "shipment-dispatched",
        f"{ORDER}:delivered": "shipment-delivered",
    }
    assert shipment.tracking_number in "".join(message["text"] for message in inbox)
    assert len(shipment.history) == 5
