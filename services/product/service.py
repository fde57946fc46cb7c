"""What the catalogue answers: pages, single products, prices and pictures."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from services.common.errors import ShopError
from services.common.fields import check_product_count
from services.common.limits import MAX_PRODUCT_IDS
from services.common.observing.logs import get_logger
from services.product.files import Catalogue, Picture
from services.product.model import (
    Category,
    Edition,
    Product,
    Sort,
    UnknownProduct,
    badges,
    newest_of,
    sustainability,
)
from services.product.search import SearchIndex, behind, cursor_behind, cursor_key
from services.product.stock import StockLookup
from services.product.store import ProductStore

# An offer changes with its stock. A thousand take about a megabyte.
_KEPT_OFFERS = 1024

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Offer:
    """A product as it is shown. Equal only to itself: there is one of a product and its figures.

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
    """Some offers, and where the next ones are.

    :ivar suggestion: the query that was answered, when it is not the one that was asked: nothing
        had all words of that one, and this one differs by typing errors.
    :ivar arrivals: the newest products, when they were asked for.
    """

    offers: list[Offer]
    next_cursor: str | None
    suggestion: str | None = None
    arrivals: list[Offer] | None = None


@dataclass(frozen=True, slots=True)
class Search:
    """What somebody is looking for. Without `sort`, the edition decides."""

    query: str = ""
    category: str | None = None
    sort: Sort | None = None
    min_price_cents: int | None = None
    max_price_cents: int | None = None
    in_stock: bool = False

    def takes_price(self, price_cents: int) -> bool:
        """Whether a price is within the limits, which are inclusive."""
        return (self.min_price_cents is None or price_cents >= self.min_price_cents) and (
            self.max_price_cents is None or price_cents <= self.max_price_cents
        )


class ProductService:
    """The catalogue, in memory. What only another version of the service knows is in the store."""

    def __init__(
        self, store: ProductStore, catalogue: Catalogue, stock: StockLookup, edition: Edition
    ) -> None:
        self._store = store
        self._stock = stock
        self._edition = edition
        self._known = {product.id: product for product in catalogue.products}
        self._offer = lru_cache(_KEPT_OFFERS)(self._made_offer)
        self._index = SearchIndex(catalogue.products, catalogue.categories)
        self._pictures = catalogue.pictures
        self._newest = newest_of(catalogue.products)
        counts = Counter(product.category for product in catalogue.products)
        self._categories = [(category, counts[category.id]) for category in catalogue.categories]

    async def search(
        self, search: Search, *, limit: int, cursor: str | None, arrivals: int = 0
    ) -> OfferPage:
        """One page of what fits, with one look at the stock for all of it.

        :param arrivals: how many of the newest products to add, whatever fits.

        With `in_stock`, what is known to be sold out is left out. What inventory does not answer
        for stays: a catalogue without figures is better than none.

        :raises InvalidCursor: the cursor is of another search.
        """
        sort = search.sort or self._edition.default_sort(search.query)
        found = self._index.find(search.query, search.category, sort)
        key = cursor_key(search.query, search.category, sort)
        rest = behind(found.products, key, cursor)
        fitting = (product for product in rest if search.takes_price(product.price_cents))
        newest = self._index.find("", None, Sort.NEWEST).products[:arrivals]
        if search.in_stock:
            candidates = list(fitting)
            available = await self._available([*candidates, *newest])
            shown = [product for product in candidates if available.get(product.id) != 0]
        else:
            shown = list(islice(fitting, limit + 1))  # one more tells whether there is a next page
            available = await self._available([*shown[:limit], *newest])
        return OfferPage(
            self._offers(shown[:limit], available),
            cursor_behind(shown[limit - 1], key) if len(shown) > limit else None,
            found.suggestion,
            self._offers(newest, available) if arrivals else None,
        )

    async def offers(self, product_id: str, *, related: int = 0) -> list[Offer]:
        """One product, and behind it the best rated others of its department.

        :param related: how many of these at most.
        :raises UnknownProduct: there is none with this id.
        """
        [product] = await self.products([product_id])
        department = self._index.find("", product.category, Sort.RATING).products
        others = islice((other for other in department if other.id != product_id), related)
        shown = [product, *others]
        return self._offers(shown, await self._available(shown))

    async def products(self, product_ids: Sequence[str]) -> list[Product]:
        """These products, in the order asked for.

        :raises UnknownProduct: naming the first that there is not.
        :raises ShopError: INVALID, for more than MAX_PRODUCT_IDS.
        """
        check_product_count(product_ids)
        elsewhere = [product_id for product_id in product_ids if product_id not in self._known]
        found = await self._store.get_many(elsewhere) if elsewhere else {}
        for product_id in elsewhere:
            if product_id not in found:
                raise UnknownProduct(product_id)
        return [self._known.get(product_id) or found[product_id] for product_id in product_ids]

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

    def _offers(self, products: Sequence[Product], available: Mapping[str, int]) -> list[Offer]:
        return [self._offer(product, available.get(product.id)) for product in products]

    async def _available(self, products: Iterable[Product]) -> Mapping[str, int]:
        """What is available; empty when inventory is out, since a catalogue without figures is
        better than none.
        """
        product_ids = list(dict.fromkeys(product.id for product in products))
        if not product_ids:
            return {}
        parts = [
            product_ids[n : n + MAX_PRODUCT_IDS]
            for n in range(0, len(product_ids), MAX_PRODUCT_IDS)
        ]
        try:
            answers = await asyncio.gather(*(self._stock.available(part) for part in parts))
            return {name: count for answer in answers for name, count in answer.items()}
        except ShopError as error:
            log.warning("stock.unknown", kind=error.kind.value, reason=error.detail)
            return {}

    def _made_offer(self, product: Product, available: int | None) -> Offer:
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
