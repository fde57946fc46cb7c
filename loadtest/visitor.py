"""A visitor who looks around, by pages and by the catalogue's API."""

from __future__ import annotations

import html
import random
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence

from loadtest.answers import Categories, Category, Product, ProductDetails, ProductPage
from loadtest.shop import Shop

_SORTS = ("newest", "price", "-price", "rating", "name")
_MAX_PAGES = 3
_LIST_LIMIT = 5
_SEARCH_LIMIT = 60

_PRODUCT_LINK = re.compile(r'href="/products/([a-z0-9-]+)"')
_NEXT_LINK = re.compile(r'<a [^>]*rel="next"[^>]* href="([^"]+)"')
_HEADING = re.compile(r"<h1[^>]*>(.*?)</h1>", re.DOTALL)
PRICE = re.compile(r'class="price">([^<]+)<')
_PICTURE = re.compile(r'src="(/pictures/[^"]+)"')

_WORD = re.compile(r"[^\W\d_]{3,}")
# Where a singular and its plural differ, and how much of a word the search compares at least.
_ENDING = re.compile(r"(?:ies|es|s|y)$")
_COMPARED_LENGTH = 10


class Visitor:
    """A visitor without an account.

    :param think: returns when the person goes on.
    """

    def __init__(self, shop: Shop, think: Callable[[], None]) -> None:
        self._shop = shop
        self._think = think

    def open_home(self) -> None:
        """Opens the home page, which shows something to buy."""
        with self._shop.page("/", step="pages: home") as page:
            assert _product_ids(page), "the home page shows no products"

    def leaf_through_pages(self) -> Sequence[str]:
        """Loads more of the catalogue a few times. Each page has all products of the page before,
        and more, and none twice.

        :return: the ids of all products that were loaded.
        """
        path: str | None = f"/products?sort={random.choice(_SORTS)}"
        ids: list[str] = []
        for number in range(random.randint(1, _MAX_PAGES)):
            if path is None:
                break
            if number:
                self._think()
            with self._shop.page(path, step="pages: catalogue") as page:
                before, ids = ids, _product_ids(page)
                assert len(ids) > len(before), "a page of the catalogue has nothing more"
                assert ids[: len(before)] == before, "a page has not what was loaded before"
                assert len(set(ids)) == len(ids), "a page of the catalogue has a product twice"
            following = _NEXT_LINK.search(page)
            path = html.unescape(following[1]) if following else None
        return ids

    def look_at_product(self) -> None:
        """Opens a product of the catalogue and its picture; page and API agree."""
        product_id = random.choice(self.leaf_through_pages())
        self._think()
        with self._shop.page(f"/products/{product_id}", step="pages: product") as page:
            name, price, picture = (first(part, page) for part in (_HEADING, PRICE, _PICTURE))
        with self._shop.get(picture, step="pages: picture") as answer:
            assert answer.media_type == "image/svg+xml", f"a picture is {answer.media_type}"
            assert answer.text.rstrip().endswith("</svg>"), "a picture breaks off"
        with self._shop.get(f"/api/products/{product_id}", step="catalogue: product") as answer:
            product = answer.read(ProductDetails)
            assert product.name == name, "a product has another name on its page"
            cents = int(re.sub(r"\D", "", price))
            assert product.price_cents == cents, "a product has another price on its page"

    def list_department(self) -> None:
        """Lists all products of a department, page by page and by price."""
        category = random.choice(self.categories())
        products: list[Product] = []
        cursor: str | None = ""
        while cursor is not None:
            with self._shop.get(
                "/api/products",
                step="catalogue: department",
                query={"category": category.id, "sort": "price", "limit": _LIST_LIMIT}
                | ({"cursor": cursor} if cursor else {}),
            ) as answer:
                page = answer.read(ProductPage)
                products += page.items
                cursor = page.next_cursor
                assert len(page.items) <= _LIST_LIMIT, "a page is longer than asked for"
                _check_department(category, products, is_all=cursor is None)

    def search(self) -> None:
        """Searches for a word of a product's name; every product that is found has that word."""
        wanted = random.choice(self.products())
        word = random.choice(_WORD.findall(_folded(wanted.name)))
        self._think()
        with self._shop.get(
            "/api/products", step="catalogue: search", query={"q": word, "limit": _SEARCH_LIMIT}
        ) as answer:
            found = answer.read(ProductPage)
            ids = {product.id for product in found.items}
            assert wanted.id in ids or found.next_cursor, f"{word!r} does not find {wanted.id}"
        departments = {category.id: category.name for category in self.categories()}
        for product in found.items:
            texts = (product.name, product.brand, product.blurb, departments[product.category])
            if not _has_word(word, texts):
                self._find_among_tags(word, product.id)
        with self._shop.page("/products", step="pages: search", query={"q": word}) as page:
            shown = set(_product_ids(page))
            assert shown, f"the page for {word!r} is empty"
            assert shown <= ids or found.next_cursor, f"the page for {word!r} shows something else"

    def categories(self) -> Sequence[Category]:
        """Returns the departments."""
        with self._shop.get("/api/categories", step="catalogue: departments") as answer:
            return answer.read(Categories).items

    def products(self) -> Sequence[Product]:
        """Returns products of a department, which is drawn at random."""
        category = random.choice(self.categories())
        with self._shop.get(
            "/api/products",
            step="catalogue: list",
            query={"category": category.id, "sort": random.choice(_SORTS)},
        ) as answer:
            products = answer.read(ProductPage).items
            assert products, "a department is empty"
            return products

    def product(self, product_id: str) -> ProductDetails:
        """Returns one product with all details."""
        with self._shop.get(f"/api/products/{product_id}", step="catalogue: product") as answer:
            product = answer.read(ProductDetails)
            assert product.id == product_id, "another product than was asked for"
            return product

    def _find_among_tags(self, word: str, product_id: str) -> None:
        """Looks for the word among the tags, which lists do not show."""
        with self._shop.get(f"/api/products/{product_id}", step="catalogue: product") as answer:
            tags = answer.read(ProductDetails).tags
            assert _has_word(word, tags), f"{product_id} is found by {word!r} and has it nowhere"


def _check_department(category: Category, products: Sequence[Product], *, is_all: bool) -> None:
    """Checks what has been read so far of a department's list by price."""
    prices = [product.price_cents for product in products]
    assert prices == sorted(prices), "a list by price is in another order"
    assert {product.category for product in products} <= {category.id}, "of another department"
    count = len({product.id for product in products})
    assert count == len(products), "a list has a product twice"
    assert not is_all or count == category.count, f"{count} of {category.count} in {category.id}"


def _product_ids(page: str) -> list[str]:
    return list(dict.fromkeys(_PRODUCT_LINK.findall(page)))


def first(pattern: re.Pattern[str], page: str, *, is_text: bool = True) -> str:
    """Returns what the first group of a pattern matches first.

    :param is_text: whether it is text, and not HTML.
    :raises AssertionError: the page has nothing that matches.
    """
    found = pattern.search(page)
    assert found, f"a page has no {pattern.pattern}"
    return html.unescape(found[1]).strip() if is_text else found[1]


def _has_word(word: str, texts: Iterable[str]) -> bool:
    """Returns whether the word occurs, in the singular or in the plural."""
    return _ENDING.sub("", word)[:_COMPARED_LENGTH] in _folded(" ".join(texts))


def _folded(text: str) -> str:
    """Returns a text in lower case without accents, as the search compares it."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(character for character in decomposed if not unicodedata.combining(character))
