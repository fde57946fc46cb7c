"""Whom product calls: inventory, for what is available."""

from __future__ import annotations

from collections.abc import Sequence

from services.common.calls.grpc_client import GrpcEdge
from services.pb import inventory_pb2 as pb


class StockClient:
    """Calls inventory."""

    def __init__(self, edge: GrpcEdge) -> None:
        self._get_stock = edge.rpc(
            "meshmart.inventory.v1.InventoryService/GetStock",
            pb.GetStockRequest,
            pb.GetStockResponse,
        )

    async def available(self, product_ids: Sequence[str]) -> dict[str, int]:
        """How many of each product can be ordered now; ShopError when inventory does not say."""
        answer = await self._get_stock(pb.GetStockRequest(product_ids=product_ids))
        return {stock.product_id: stock.available for stock in answer.stock}
