"""Wires inventory."""

from __future__ import annotations

from services.common.observing.label_values import LabelValues
from services.common.serving.host import Host
from services.inventory import api
from services.inventory.model import Reservation, Stock
from services.inventory.rpc import InventoryRpc
from services.inventory.seed import read_stock_file
from services.inventory.service import InventoryService
from services.inventory.settings import InventorySettings
from services.inventory.store import RESERVATIONS, STOCK, ReservationStore, StockStore
from services.pb import inventory_pb2 as pb
from services.pb.inventory_pb2_grpc import add_InventoryServiceServicer_to_server

# A stray is gone within the pause before it is first seen, STRAY_SECONDS and the pause after them:
# at most 12 s, with the job's jitter. A look at 60 products takes a few milliseconds.
SWEEP_SECONDS = 3.0
# How many products are counted by name when they sell out.
_MAX_PRODUCTS = 200


async def wire(host: Host) -> None:
    """Builds the service on what the host gives."""
    settings = host.settings(InventorySettings)
    stock = StockStore(await host.documents(STOCK, Stock))
    seed = read_stock_file(settings.stock_file)
    await stock.seed(seed)
    outcomes = host.metrics.counter("reservations", "Reservations, by outcome.", ("outcome",))
    stock_outs = host.metrics.counter(
        "stock_outs",
        "Orders that wanted more of a product than there was.",
        ("product_id",),
        rare=list(seed)[:_MAX_PRODUCTS],
    )
    products = LabelValues(_MAX_PRODUCTS)
    service = InventoryService(
        stock,
        ReservationStore(await host.documents(RESERVATIONS, Reservation)),
        count=lambda outcome: outcomes.labels(outcome).inc(),
        count_stock_out=lambda product_id: stock_outs.labels(products.bounded(product_id)).inc(),
    )
    host.serve_http(api.router, service)
    host.serve_grpc(
        add_InventoryServiceServicer_to_server,
        InventoryRpc(service),
        pb.DESCRIPTOR.services_by_name["InventoryService"].full_name,
    )
    host.every("sweep", SWEEP_SECONDS, service.sweep)
