"""Inventory over gRPC."""

from __future__ import annotations

from typing import Any

import grpc.aio

from services.common.fields import checked_order_id
from services.inventory.model import merge_lines
from services.inventory.service import InventoryService
from services.pb import inventory_pb2 as pb
from services.pb import inventory_pb2_grpc


class InventoryRpc(inventory_pb2_grpc.InventoryServiceServicer):
    """Serves `InventoryService`; failures are raised as ShopError, which the server translates."""

    def __init__(self, service: InventoryService) -> None:
        self._service = service

    async def GetStock(
        self, request: pb.GetStockRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetStockResponse:
        available = await self._service.available(request.product_ids)
        return pb.GetStockResponse(
            stock=[
                pb.Stock(product_id=product_id, available=available.get(product_id, 0))
                for product_id in request.product_ids
            ]
        )

    async def Reserve(
        self, request: pb.ReserveRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ReserveResponse:
        lines = merge_lines((line.product_id, line.quantity) for line in request.lines)
        await self._service.reserve(checked_order_id(request.order_id), lines)
        return pb.ReserveResponse()

    async def Commit(
        self, request: pb.CommitRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.CommitResponse:
        await self._service.commit(checked_order_id(request.order_id))
        return pb.CommitResponse()

    async def Release(
        self, request: pb.ReleaseRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ReleaseResponse:
        await self._service.release(checked_order_id(request.order_id))
        return pb.ReleaseResponse()
