"""The catalogue over gRPC: prices and weights for who sells and ships."""

from __future__ import annotations

from typing import Any

import grpc.aio

from services.pb import product_pb2 as pb
from services.pb import product_pb2_grpc
from services.product.service import ProductService


class ProductRpc(product_pb2_grpc.ProductServiceServicer):
    """Serves `ProductService`; failures are raised as ShopError, which the server translates."""

    def __init__(self, service: ProductService) -> None:
        self._service = service

    async def GetProducts(
        self, request: pb.GetProductsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetProductsResponse:
        products = await self._service.products(request.product_ids)
        return pb.GetProductsResponse(
            products=[
                pb.Product(
                    product_id=product.id,
                    name=product.name,
                    price=product.price.to_message(),
                    weight_grams=product.weight_grams,
                )
                for product in products
            ]
        )
