"""Wires inventory."""

from __future__ import annotations

from services.common.host import Host
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


async def wire(host: Host) -> None:
    """Builds the service on what the host gives."""
    settings = host.settings(InventorySettings)
    stock = StockStore(await host.documents(STOCK, Stock))
    await stock.seed(read_stock_file(settings.stock_file))
    outcomes = host.metrics.counter("reservations", "Reservations, by outcome.", ("outcome",))
    service = InventoryService(
        stock,
        ReservationStore(await host.documents(RESERVATIONS, Reservation)),
        count=lambda outcome: outcomes.labels(outcome).inc(),
    )
    host.serve_http(api.router, service)
    host.serve_grpc(
        add_InventoryServiceServicer_to_server,
        InventoryRpc(service),
        pb.DESCRIPTOR.services_by_name["InventoryService"].full_name,
    )
    host.every("sweep", SWEEP_SECONDS, service.sweep)
