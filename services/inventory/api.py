"""Inventory over HTTP: what can be had now."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from services.common.dependency_injection import provided
from services.common.errors import Kind
from services.common.protocols.problem import documented
from services.inventory.model import UnstockedProduct
from services.inventory.service import InventoryService


class Availability(BaseModel):
    """How many of a product can be ordered now."""

    product_id: str = Field(examples=["stovetop-kettle"])
    available: int = Field(ge=0, examples=[86])


_InventoryService = Annotated[InventoryService, provided(InventoryService)]

router = APIRouter(prefix="/api/inventory", tags=["inventory"])


@router.get(
    "/{product_id}",
    operation_id="get_availability",
    summary="How many of a product can be ordered now",
    responses=documented(Kind.NOT_FOUND),
)
async def get_availability(
    product_id: Annotated[str, Path(max_length=64, examples=["stovetop-kettle"])],
    service: _InventoryService,
) -> Availability:
    available = await service.available([product_id])
    if product_id not in available:
        raise UnstockedProduct(product_id)
    return Availability(product_id=product_id, available=available[product_id])
