"""Product as its process runs it, with inventory next to it and without."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest
from starlette.types import ASGIApp

from services.common.serving.host import hosting
from services.common.settings import ProcessSettings
from services.common.topology import load_topology
from services.inventory.main import wire as wire_inventory
from services.pb import inventory_pb2 as pb
from services.pb import shared_pb2
from services.pb.inventory_pb2_grpc import InventoryServiceStub
from services.product.main import wire as wire_product
from tests.testkit.ports import free_port
from tests.testkit.waiting import eventually
from tests.unit.asgi import ask

MUGS = "stoneware-mug-set"


def process_settings(folder: Path) -> ProcessSettings:
    port = free_port()
    return ProcessSettings(
        host="127.0.0.1",
        grpc_port=port,
        database_url=f"sqlite:///{folder}",
        grpc_addresses={"inventory": (f"127.0.0.1:{port}",)},
        drain_seconds=0,
    )


async def test_the_catalogue_with_and_without_inventory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOCK_MAX_AGE_SECONDS", "0")
    process = process_settings(tmp_path)
    topology = load_topology()
    async with hosting("product", wire_product, topology=topology, process=process) as product:
        app = product.app()
        async with (
            hosting("inventory", wire_inventory, topology=topology, process=process) as inventory,
            inventory.running(),
        ):
            page = (await ask(app, "GET", "/api/products?limit=60")).json()
            assert len(page["items"]) == 60
            assert all(item["available"] >= 0 for item in page["items"])
            first = page["items"][0]
            stock = await ask(inventory.app(), "GET", f"/api/inventory/{first['id']}")
            assert stock.json() == {
                "product_id": first["id"],
                "available": first["available"],
            }
        alone = await ask(app, "GET", "/api/products?limit=60")
        assert alone.status == 200
        assert {item["available"] for item in alone.json()["items"]} == {None}
        document = (await ask(app, "GET", "/openapi.json")).json()
        assert set(document["paths"]) == {
            "/api/products",
            "/api/products/{product_id}",
            "/api/products/{product_id}/picture",
            "/api/categories",
        }


@asynccontextmanager
async def selling(folder: Path) -> AsyncGenerator[tuple[ASGIApp, InventoryServiceStub]]:
    """Product's app, and inventory as order calls it."""
    process = process_settings(folder)
    topology = load_topology()
    async with (
        hosting("product", wire_product, topology=topology, process=process) as product,
        hosting("inventory", wire_inventory, topology=topology, process=process) as inventory,
        inventory.running(),
        grpc.aio.insecure_channel(f"127.0.0.1:{process.grpc_port}") as channel,
    ):
        yield product.app(), InventoryServiceStub(channel)


async def shown(app: ASGIApp) -> int:
    return (await ask(app, "GET", f"/api/products/{MUGS}")).json()["available"]


async def test_an_old_figure_on_a_page_sells_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOCK_MAX_AGE_SECONDS", "60")
    async with selling(tmp_path) as (app, inventory):
        available = await shown(app)
        line = shared_pb2.Line(product_id=MUGS, quantity=available)
        await inventory.Reserve(pb.ReserveRequest(order_id="ord_1", lines=[line]))
        assert await shown(app) == available > 0, "the page is allowed to be old"
        one = shared_pb2.Line(product_id=MUGS, quantity=1)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await inventory.Reserve(pb.ReserveRequest(order_id="ord_2", lines=[one]))
    assert refused.value.details() == f"{MUGS} is sold out."


async def test_a_page_follows_the_stock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOCK_MAX_AGE_SECONDS", "0.2")
    async with selling(tmp_path) as (app, inventory):
        line = shared_pb2.Line(product_id=MUGS, quantity=await shown(app))
        await inventory.Reserve(pb.ReserveRequest(order_id="ord_1", lines=[line]))

        async def is_sold_out() -> bool:
            return await shown(app) == 0

        await eventually(is_sold_out, "the page says that it is sold out")
