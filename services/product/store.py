"""Every read and write of the product documents."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from services.common.documents import (
    AlreadyExists,
    Collection,
    Documents,
    Index,
    RevisionConflict,
    Stored,
)
from services.product.model import Product, Sort

PRODUCTS = Collection(
    "products",
    indexes=(
        Index("by_popularity", each="terms", order="popularity"),
        Index("by_rating", each="terms", order="rating"),
        Index("by_added", each="terms", order="added"),
        Index("by_name", each="terms", order="name_key"),
        Index("by_price", each="terms", order="price_cents"),
    ),
)


@dataclass(frozen=True, slots=True)
class _Order:
    index: str
    descending: bool


_ORDERS: Mapping[Sort, _Order] = {
    Sort.RELEVANCE: _Order("by_popularity", descending=True),
    Sort.RATING: _Order("by_rating", descending=True),
    Sort.NEWEST: _Order("by_added", descending=True),
    Sort.NAME: _Order("by_name", descending=False),
    Sort.PRICE: _Order("by_price", descending=False),
    Sort.PRICE_DESCENDING: _Order("by_price", descending=True),
}


@dataclass(frozen=True, slots=True)
class ProductPage:
    """Some products, and where the next ones are."""

    products: list[Product]
    next_cursor: str | None


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

    async def find(
        self,
        terms: Sequence[str],
        sort: Sort,
        *,
        limit: int,
        cursor: str | None,
        min_price_cents: int | None = None,
        max_price_cents: int | None = None,
    ) -> ProductPage:
        """One page of the products that have all terms. The price limits are for the sorts by
        price.

        :raises ShopError: INVALID, for a cursor that this search has not given.
        """
        order = _ORDERS[sort]
        page = await self._documents.find(
            order.index,
            contains=terms,
            at_least=min_price_cents,
            below=None if max_price_cents is None else max_price_cents + 1,
            descending=order.descending,
            limit=limit,
            cursor=cursor,
        )
        return ProductPage([stored.value for stored in page.items], page.next_cursor)

    async def get_many(self, product_ids: Iterable[str]) -> dict[str, Product]:
        """Those of the products that there are."""
        found = await self._documents.get_many(product_ids)
        return {product_id: stored.value for product_id, stored in found.items()}
