"""Product as its process runs it, with inventory next to it and without."""

from pathlib import Path

from services.common.serving.host import hosting
from services.common.settings import ProcessSettings
from services.common.topology import load_topology
from services.inventory.main import wire as wire_inventory
from services.product.main import wire as wire_product
from tests.testkit.ports import free_port
from tests.unit.asgi import ask


async def test_the_catalogue_with_and_without_inventory(tmp_path: Path) -> None:
    port = free_port()
    process = ProcessSettings(
        host="127.0.0.1",
        grpc_port=port,
        database_url=f"sqlite:///{tmp_path}",
        grpc_addresses={"inventory": (f"127.0.0.1:{port}",)},
        drain_seconds=0,
    )
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
