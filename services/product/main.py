"""Wires product."""

from __future__ import annotations

from services.common.serving.host import Host
from services.pb import product_pb2 as pb
from services.pb.product_pb2_grpc import add_ProductServiceServicer_to_server
from services.product import api
from services.product.clients import StockClient
from services.product.files import read_catalogue
from services.product.model import Edition, Product
from services.product.rpc import ProductRpc
from services.product.service import ProductService
from services.product.settings import ProductSettings
from services.product.stock import ShownStock
from services.product.store import PRODUCTS, ProductStore


async def wire(host: Host) -> None:
    """Builds the service on what the host gives."""
    catalogue = read_catalogue()
    store = ProductStore(await host.documents(PRODUCTS, Product))
    await store.load(catalogue.products)
    inventory = StockClient(host.grpc("inventory"))
    max_age_seconds = host.settings(ProductSettings).stock_max_age_seconds
    stock = ShownStock(inventory, max_age_seconds=max_age_seconds) if max_age_seconds else inventory
    service = ProductService(store, catalogue, stock, Edition.of_version(host.process.version))
    host.serve_http(api.router, service)
    host.serve_grpc(
        add_ProductServiceServicer_to_server,
        ProductRpc(service),
        pb.DESCRIPTOR.services_by_name["ProductService"].full_name,
    )
