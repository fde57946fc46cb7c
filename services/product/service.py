"""What the catalogue answers: pages, single products, prices and pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.common.errors import Kind, ShopError
from services.common.logs import get_logger
from services.product.files import Catalogue, Picture
from services.product.model import (
    MAX_IDS,
    Category,
    Edition,
    Product,
    Sort,
    UnknownProduct,
    badges,
    newest_of,
    query_terms,
    sustainability,
)
from services.product.store import ProductStore

log = get_logger(__name__)


class StockLookup(Protocol):
    """Who knows what is available; raises ShopError when that cannot be found out."""

    async def available(self, product_ids: Sequence[str]) -> dict[str, int]: ...


@dataclass(frozen=True, slots=True)
class Offer:
    """A product as it is shown.

    :ivar available: None when inventory does not say.
    :ivar badges: None in the first edition, as is `sustainability`.
    """

    product: Product
    blurb: str
    available: int | None
    badges: list[str] | None
    sustainability: str | None


@dataclass(frozen=True, slots=True)
class OfferPage:
    """Some offers, and where the next ones are."""

    offers: list[Offer]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Search:
    """What somebody is looking for. Without `sort`, the edition decides."""

    query: str = ""
    category: str | None = None
    sort: Sort | None = None
    min_price_cents: int | None = None
    max_price_cents: int | None = None


class ProductService:
    """The catalogue. Products come from the store; categories and pictures from the files."""

    def __init__(
        self, store: ProductStore, catalogue: Catalogue, stock: StockLookup, edition: Edition
    ) -> None:
        self._store = store
        self._stock = stock
        self._edition = edition
        self._pictures = catalogue.pictures
        self._newest = newest_of(catalogue.products)
        counts = Counter(product.category for product in catalogue.products)
        self._categories = [(category, counts[category.id]) for category in catalogue.categories]

    async def search(self, search: Search, *, limit: int, cursor: str | None) -> OfferPage:
        """One page of what fits, with one look at the stock for all of it.

        :raises ShopError: INVALID, for price limits under another sort, or a cursor of another
            search.
        """
        sort = search.sort or self._edition.default_sort(search.query)
        by_price = sort in {Sort.PRICE, Sort.PRICE_DESCENDING}
        if not by_price and (search.min_price_cents, search.max_price_cents) != (None, None):
            raise ShopError(
                Kind.INVALID,
                "price-limits-need-price-sort",
                "Price limits need sort=price or sort=-price.",
            )
        terms = query_terms(search.query, search.category)
        if terms is None:
            return OfferPage([], None)
        page = await self._store.find(
            terms,
            sort,
            limit=limit,
            cursor=cursor,
            min_price_cents=search.min_price_cents,
            max_price_cents=search.max_price_cents,
        )
        return OfferPage(await self._offers(page.products), page.next_cursor)

    async def offer(self, product_id: str) -> Offer:
        """One product.

        :raises UnknownProduct: there is none with this id.
        """
        [offer] = await self._offers(await self.products([product_id]))
        return offer

    async def products(self, product_ids: Sequence[str]) -> list[Product]:
        """These products, in the order asked for.

        :raises UnknownProduct: naming the first that there is not.
        :raises ShopError: INVALID, for more than MAX_IDS.
        """
        if len(product_ids) > MAX_IDS:
            raise ShopError(
                Kind.INVALID, "too-many-products", f"Ask for at most {MAX_IDS} products at once."
            )
        found = await self._store.get_many(product_ids)
        for product_id in product_ids:
            if product_id not in found:
                raise UnknownProduct(product_id)
        return [found[product_id] for product_id in product_ids]

    def categories(self) -> list[tuple[Category, int]]:
        """The departments in the shop's order, each with the number of its products."""
        return self._categories

    def picture(self, product_id: str) -> Picture:
        """A product's picture.

        :raises UnknownProduct: there is none.
        """
        if product_id not in self._pictures:
            raise UnknownProduct(product_id)
        return self._pictures[product_id]

    async def _offers(self, products: Sequence[Product]) -> list[Offer]:
        available = await self._available([product.id for product in products])
        return [self._offer(product, available.get(product.id)) for product in products]

    async def _available(self, product_ids: Sequence[str]) -> dict[str, int]:
        """What is available; empty when inventory is out, since a catalogue without figures is
        better than none.
        """
        if not product_ids:
            return {}
        try:
            return await self._stock.available(product_ids)
        except ShopError as error:
            log.warning("stock.unknown", kind=error.kind.value, reason=error.detail)
            return {}

    def _offer(self, product: Product, available: int | None) -> Offer:
        if self._edition is Edition.FIRST:
            return Offer(product, product.blurb, available, None, None)
        origin = product.details.get("Made in")
        return Offer(
            product,
            f"{product.blurb} By {product.brand}" + (f", made in {origin}." if origin else "."),
            available,
            badges(product, newest=self._newest, available=available),
            sustainability(product),
        )
