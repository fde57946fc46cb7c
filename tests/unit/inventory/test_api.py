"""The HTTP and gRPC sides of inventory."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, cast

import pytest

from services.common.dependency_injection import provide
from services.common.documents import Documents, SqliteStore
from services.common.errors import Kind
from services.common.serving.http_server import make_app
from services.common.settings import ProcessSettings
from services.inventory import api
from services.inventory.model import Reservation, Stock
from services.inventory.rpc import InventoryRpc
from services.inventory.service import InventoryService
from services.inventory.store import RESERVATIONS, STOCK, ReservationStore, StockStore
from services.pb import inventory_pb2 as pb
from services.pb import shared_pb2
from tests.unit.asgi import ask
from tests.unit.failure import failure

# The servicers leave their context to the server's interceptor.
NO_CONTEXT = cast("Any", None)


@pytest.fixture
async def service(tmp_path: Path) -> AsyncGenerator[InventoryService]:
    store = SqliteStore(tmp_path / "inventory.db", synchronous="NORMAL")
    stock = StockStore(await Documents[Stock].open(store, STOCK, Stock))
    await stock.seed({"desk": 3, "lamp": 5})
    reservations = await Documents[Reservation].open(store, RESERVATIONS, Reservation)
    yield InventoryService(
        stock,
        ReservationStore(reservations),
        count=lambda outcome: None,
        count_stock_out=lambda product_id: None,
    )
    await store.close()


def reserve_request(order_id: str, **quantities: int) -> pb.ReserveRequest:
    return pb.ReserveRequest(
        order_id=order_id,
        lines=[
            shared_pb2.Line(product_id=product_id, quantity=quantity)
            for product_id, quantity in quantities.items()
        ],
    )


async def test_availability_over_http(service: InventoryService) -> None:
    app = make_app(
        title="inventory-service",
        description="",
        settings=ProcessSettings(),
    )
    app.include_router(api.router)
    provide(app, service)
    found = await ask(app, "GET", "/api/inventory/lamp")
    assert (found.status, found.json()) == (200, {"product_id": "lamp", "available": 5})
    for target in ("/api/inventory/cup", "/api/inventory/%00"):
        missing = await ask(app, "GET", target)
        assert (missing.status, missing.json()["code"]) == (404, "unknown-product")
    assert (await ask(app, "GET", f"/api/inventory/{'x' * 65}")).status == 422


async def test_stock_comes_in_the_order_asked_for(service: InventoryService) -> None:
    request = pb.GetStockRequest(product_ids=["lamp", "cup", "desk", "lamp"])
    answer = await InventoryRpc(service).GetStock(request, NO_CONTEXT)
    assert [(stock.product_id, stock.available) for stock in answer.stock] == [
        ("lamp", 5),
        ("cup", 0),
        ("desk", 3),
        ("lamp", 5),
    ]


async def test_an_order_over_grpc(service: InventoryService) -> None:
    rpc = InventoryRpc(service)
    await rpc.Reserve(reserve_request("order-1", lamp=2), NO_CONTEXT)
    await rpc.Commit(pb.CommitRequest(order_id="order-1"), NO_CONTEXT)
    assert await service.available(["lamp"]) == {"lamp": 3}
    await rpc.Release(pb.ReleaseRequest(order_id="order-1"), NO_CONTEXT)
    assert await service.available(["lamp"]) == {"lamp": 5}


@pytest.mark.parametrize(
    ("order_id", "quantities", "kind", "code"),
    [
        ("order-1", {}, Kind.INVALID, "invalid-lines"),
        ("order-1", {"lamp": 0}, Kind.INVALID, "invalid-quantity"),
        ("order-1", {"lamp": -1}, Kind.INVALID, "invalid-quantity"),
        ("", {"lamp": 1}, Kind.INVALID, "invalid-order-id"),
        ("a.b", {"lamp": 1}, Kind.INVALID, "invalid-order-id"),
        ("order-1", {"lamp": 6}, Kind.CONFLICT, "out-of-stock"),
        ("order-1", {"<b>": 1}, Kind.NOT_FOUND, "unknown-product"),
        ("order-1", {"x" * 5000: 1}, Kind.NOT_FOUND, "unknown-product"),
    ],
)
async def test_wrong_reservations_are_refused(
    service: InventoryService, order_id: str, quantities: dict[str, int], kind: Kind, code: str
) -> None:
    raised = await failure(
        InventoryRpc(service).Reserve(reserve_request(order_id, **quantities), NO_CONTEXT)
    )
    assert (raised.kind, raised.code) == (kind, code)
    assert await service.available(["lamp"]) == {"lamp": 5}
