"""The gRPC calls of `frontend`, made by the load test: the catalogue, the stock, and the prices of
shipping.

These calls change nothing. Those that do are steps of a checkout: made by anybody but `order`,
they would leave the books unbalanced.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import grpc
from google.protobuf.message import Message
from locust.exception import CatchResponseError, RescheduleTask

from loadtest.customer import ADDRESSES
from loadtest.settings import BadFile
from loadtest.visitor import Visitor
from services.local import data
from services.pb import inventory_pb2, product_pb2, shipping_pb2

SERVICES = ("product", "inventory", "shipping")
_TIMEOUT_SECONDS = 20.0
_MAX_PRODUCTS = 8
_MAX_WEIGHT_GRAMS = 5000

_Reply = TypeVar("_Reply", bound=Message)


@dataclass(frozen=True, slots=True)
class RpcAddresses:
    """Where the services take gRPC, as ``HOST:PORT`` by service."""

    by_service: Mapping[str, str]

    @classmethod
    def parse(cls, text: str) -> RpcAddresses:
        """Returns the addresses of a text such as ``product=127.0.0.1:9001,…``.

        :raises BadFile: one is missing, or the text is something else.
        """
        parts = [part.strip().partition("=") for part in text.split(",")]
        found = {name: address for name, _, address in parts}
        missing = [name for name in SERVICES if not found.get(name)]
        if missing or len(found) > len(SERVICES):
            wanted = ",".join(f"{name}=HOST:PORT" for name in SERVICES)
            raise BadFile(f"--grpc {text}: write it as {wanted}.")
        return cls(found)

    @classmethod
    def of_shop(cls, folder: Path) -> RpcAddresses:
        """Returns the addresses of a shop that runs on this machine.

        :raises BadFile: there is none with its data in the folder.
        """
        shop = data.read_state(folder)
        if shop is None:
            raise BadFile(
                f"RpcCaller needs the shop's gRPC ports, and in {folder} there is no shop that "
                "runs: name them with --grpc, or the shop's data with --shop-data."
            )
        ports = {name: shop.of_service(name)[0].grpc_port for name in SERVICES}
        return cls({name: f"127.0.0.1:{port}" for name, port in ports.items()})


class RpcClient:
    """A client of three services, for one user. It makes one call at a time, and checks the reply.

    :param count: counts a call, as locust counts requests.
    """

    def __init__(
        self, addresses: RpcAddresses, visitor: Visitor, count: Callable[..., None]
    ) -> None:
        self._visitor = visitor
        self._count = count
        self._channels = {
            name: grpc.insecure_channel(address) for name, address in addresses.by_service.items()
        }
        self._prices_cents: dict[str, int] = {}

    def close(self) -> None:
        """Closes the connections."""
        for channel in self._channels.values():
            channel.close()

    def get_products(self) -> None:
        """Gets some products, whose prices are those of the public API."""
        ids = self._some_products()

        def check(reply: product_pb2.GetProductsResponse) -> None:
            found = {each.product_id: each.price.cents for each in reply.products}
            assert found == {each: self._prices_cents[each] for each in ids}, "other products"

        self._call(
            "product",
            "meshmart.product.v1.ProductService/GetProducts",
            product_pb2.GetProductsRequest(product_ids=ids),
            product_pb2.GetProductsResponse,
            check,
        )

    def get_stock(self) -> None:
        """Gets the stock of some products, in the order of the request."""
        ids = self._some_products()

        def check(reply: inventory_pb2.GetStockResponse) -> None:
            assert [each.product_id for each in reply.stock] == list(ids), "other products"
            assert all(each.available >= 0 for each in reply.stock), "less than nothing in stock"

        self._call(
            "inventory",
            "meshmart.inventory.v1.InventoryService/GetStock",
            inventory_pb2.GetStockRequest(product_ids=ids),
            inventory_pb2.GetStockResponse,
            check,
        )

    def get_quotes(self) -> None:
        """Gets the prices of shipping, the cheapest first."""

        def check(reply: shipping_pb2.GetQuotesResponse) -> None:
            cents = [each.price.cents for each in reply.quotes]
            assert cents, "there are no quotes"
            assert cents == sorted(cents), "the cheapest quote is not the first"

        request = shipping_pb2.GetQuotesRequest(
            country=random.choice(ADDRESSES).country,
            weight_grams=random.randint(1, _MAX_WEIGHT_GRAMS),
        )
        self._call(
            "shipping",
            "meshmart.shipping.v1.ShippingService/GetQuotes",
            request,
            shipping_pb2.GetQuotesResponse,
            check,
        )

    def _some_products(self) -> Sequence[str]:
        if not self._prices_cents:
            self._prices_cents = {each.id: each.price_cents for each in self._visitor.products()}
        number = random.randint(1, min(_MAX_PRODUCTS, len(self._prices_cents)))
        return random.sample(sorted(self._prices_cents), k=number)

    def _call(
        self,
        service: str,
        rpc: str,
        request: Message,
        reply_type: type[_Reply],
        check: Callable[[_Reply], None],
    ) -> None:
        """Makes a call and counts it.

        :raises RescheduleTask: it has failed, which ends the journey.
        """
        call = cast("Any", self._channels[service]).unary_unary(
            f"/{rpc}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=reply_type.FromString,
        )
        began_at, began = time.time(), time.perf_counter()
        fault: Exception | None = None
        reply: _Reply | None = None
        try:
            reply = call(request, timeout=_TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            status: Any = error
            fault = CatchResponseError(f"{status.code().name}: {status.details()}")
        milliseconds = (time.perf_counter() - began) * 1000
        try:
            if reply is not None:
                check(reply)
        except AssertionError as error:
            fault = CatchResponseError(str(error))
        self._count(
            request_type="gRPC",
            name=f"rpc: {rpc.rpartition('.')[2]}",
            start_time=began_at,
            response_time=milliseconds,
            response_length=0,
            exception=fault,
            context={},
        )
        if fault is not None:
            raise RescheduleTask from fault
