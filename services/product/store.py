"""Every read and write of the product documents."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from services.common.documents import (
    AlreadyExists,
    Collection,
    Documents,
    RevisionConflict,
    Stored,
)
from services.product.model import Product

# Without an index: searches run in memory.
PRODUCTS = Collection("products")


class ProductStore:
    """The catalogue as documents."""

    def __init__(self, documents: Documents[Product]) -> None:
        self._documents = documents

    async def load(self, products: Iterable[Product]) -> int:
        """Inserts the products that are missing and replaces those that differ; returns how many
        were written.

        Several processes may do so at once. It deletes nothing: the other edition of the service
        may know more products.
        """
        wanted = {product.id: product for product in products}
        stored = await self._documents.get_many(wanted)
        written = await asyncio.gather(
            *(self._load_one(product, stored.get(product.id)) for product in wanted.values())
        )
        return sum(written)

    async def _load_one(self, product: Product, stored: Stored[Product] | None) -> bool:
        while stored is None or stored.value != product:
            try:
                if stored is None:
                    await self._documents.insert(product)
                else:
                    await self._documents.replace(stored, product)
            except (AlreadyExists, RevisionConflict):
                stored = await self._documents.get(product.id)  # another process was faster
            else:
                return True
        return False

    async def get_many(self, product_ids: Iterable[str]) -> dict[str, Product]:
        """Those of the products that there are."""
        found = await self._documents.get_many(product_ids)
        return {product_id: stored.value for product_id, stored in found.items()}
