"""Searches the catalogue in memory: what fits a query, in which order, and where a page ends."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from services.common.errors import InvalidCursor
from services.product.model import (
    MAX_WORD_LENGTH,
    Category,
    Product,
    Sort,
    query_words,
    word_forms,
    words,
)

# Shorter words have too many neighbours: "pan" is one letter away from "pen". Of three letters, two
# may be swapped.
MIN_CORRECTED_LENGTH = 4
MIN_SWAPPED_LENGTH = 3

# How much a query's word counts by where it occurs; a whole word counts more than a begun one.
_NAME, _NAME_BEGUN, _TAG, _TAG_BEGUN, _ELSEWHERE = 5, 4, 3, 2, 1

_ASCENDING = frozenset({Sort.NAME, Sort.PRICE})


@dataclass(frozen=True, slots=True)
class Found:
    """All products that fit, in their order.

    :ivar suggestion: the corrected query that they fit; None when it is the query itself.
    """

    products: Sequence[Product]
    suggestion: str | None = None


class _Entry:
    """A product with its words, by where they occur.

    :ivar words: all of them, cut as those of queries are.
    """

    def __init__(self, product: Product, category: str) -> None:
        self.product = product
        texts = (product.name, product.brand, *product.tags, category, product.blurb)
        self.words = frozenset(form[:MAX_WORD_LENGTH] for form in _all_forms(" ".join(texts)))
        self._name = _forms(product.name)
        self._tags = _forms(" ".join((product.brand, *product.tags)))

    def fits(self, asked: Sequence[str]) -> bool:
        """Whether it has all words; the last one may be only begun, as it is while somebody is
        typing.
        """
        *whole, last = asked
        return self.words.issuperset(whole) and _has_begun(self.words, last)

    def score(self, asked: Sequence[str]) -> int:
        """How well a product that has all words fits them."""
        return sum(self._word_score(word) for word in asked)

    def _word_score(self, word: str) -> int:
        for forms, whole, begun in (
            (self._name, _NAME, _NAME_BEGUN),
            (self._tags, _TAG, _TAG_BEGUN),
        ):
            if word in forms:
                return whole
            if any(form.startswith(word) for form in forms):
                return begun
        return _ELSEWHERE


class SearchIndex:
    """The products, ready to be searched."""

    def __init__(self, products: Iterable[Product], categories: Iterable[Category]) -> None:
        names = {category.id: category.name for category in categories}
        self._entries = [_Entry(product, names[product.category]) for product in products]
        self._in_order = {sort: _sorted(self._entries, sort) for sort in Sort}
        # What a page without a query shows: all products, and those of each department.
        self._listed: defaultdict[tuple[str | None, Sort], list[Product]] = defaultdict(list)
        for sort, entries in self._in_order.items():
            for entry in entries:
                self._listed[None, sort].append(entry.product)
                self._listed[entry.product.category, sort].append(entry.product)
        # How often each word occurs; the words of names count most, then those really written.
        self._vocabulary: Counter[str] = Counter()
        for entry in self._entries:
            product = entry.product
            self._vocabulary.update(dict.fromkeys(words(product.name), 100))
            rest = " ".join((product.brand, *product.tags, product.blurb))
            self._vocabulary.update(dict.fromkeys(words(rest), 10))
            self._vocabulary.update(_forms(f"{product.name} {rest}"))

    def find(self, query: str, category_id: str | None, sort: Sort) -> Found:
        """All products that fit a query; those of the corrected one when nothing fits it."""
        exact = self._fitting(query, category_id, sort)
        if exact:
            return Found(exact)
        corrected = self._corrected(query)
        if corrected is None:
            return Found([])
        products = self._fitting(corrected, category_id, sort)
        return Found(products, corrected) if products else Found([])

    def _fitting(self, query: str, category_id: str | None, sort: Sort) -> Sequence[Product]:
        asked = query_words(query)
        if not asked:
            return () if query.strip() else self._listed.get((category_id, sort), ())
        entries = [
            entry
            for entry in self._in_order[sort]
            if (category_id is None or category_id == entry.product.category) and entry.fits(asked)
        ]
        if sort is Sort.RELEVANCE:
            entries.sort(key=lambda entry: -entry.score(asked))
        return [entry.product for entry in entries]

    def _corrected(self, query: str) -> str | None:
        """The query with a known word in place of each unknown one; None when there is none."""
        *whole, last = list(words(query)) or [""]
        corrected = [self._known(word) for word in whole]
        is_begun = any(_has_begun(entry.words, last) for entry in self._entries)
        corrected.append(last if is_begun else self._known(last))
        if None in corrected:
            return None
        text = " ".join(word for word in corrected if word is not None)
        return text if text != " ".join((*whole, last)) else None

    def _known(self, word: str) -> str | None:
        if word in self._vocabulary:
            return word
        if len(word) < MIN_SWAPPED_LENGTH:
            return None
        near = (
            known
            for known in self._vocabulary
            if is_one_edit_away(word, known)
            and (len(word) >= MIN_CORRECTED_LENGTH or sorted(word) == sorted(known))
        )
        return min(
            near,
            key=lambda known: (known[0] != word[0], -self._vocabulary[known], known),
            default=None,
        )


def is_one_edit_away(word: str, other: str) -> bool:
    """Whether one letter too many, too few or wrong, or two swapped, make one word the other."""
    if abs(len(word) - len(other)) > 1 or word == other:
        return False
    start = 0
    while start < min(len(word), len(other)) and word[start] == other[start]:
        start += 1
    rest, other_rest = word[start:], other[start:]
    return (
        rest[1:] == other_rest
        or rest == other_rest[1:]
        or rest[1:] == other_rest[1:]
        or (rest[:2] == other_rest[1::-1] and rest[2:] == other_rest[2:])
    )


# --- Pages ----------------------------------------------------------------------------------------
# A cursor names the search that it belongs to and the last product that was shown. Filters by price
# and stock only leave products out, so the next page begins in the right place even when the stock
# has changed.


def cursor_key(query: str, category_id: str | None, sort: Sort) -> str:
    """What tells one search from another."""
    text = "\0".join((" ".join(words(query)), category_id or "", sort))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def cursor_behind(product: Product, key: str) -> str:
    """The cursor that continues behind a product."""
    return base64.urlsafe_b64encode(f"{key}:{product.id}".encode()).decode().rstrip("=")


def behind(products: Sequence[Product], key: str, cursor: str | None) -> Sequence[Product]:
    """The products behind a cursor, or all of them without one.

    :raises InvalidCursor: it is none, or belongs to another search.
    """
    if cursor is None:
        return products
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        text = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except ValueError as error:
        raise InvalidCursor from error
    cursor_of, _, last = text.partition(":")
    for position, product in enumerate(products):
        if cursor_of == key and product.id == last:
            return products[position + 1 :]
    raise InvalidCursor


def _sorted(entries: Iterable[_Entry], sort: Sort) -> list[_Entry]:
    """The entries in an order; in that of relevance, as if all fitted equally well."""
    # Products that are equal in what they are sorted by keep this order.
    by_id = sorted(entries, key=lambda entry: entry.product.id, reverse=sort not in _ASCENDING)
    return sorted(by_id, key=lambda entry: _sort_key(entry.product, sort))


def _sort_key(product: Product, sort: Sort) -> float | str:
    match sort:
        case Sort.RELEVANCE:
            return -product.popularity
        case Sort.RATING:
            return -product.rating
        case Sort.NEWEST:
            return -date.fromisoformat(product.added).toordinal()
        case Sort.NAME:
            return product.name_key
        case Sort.PRICE:
            return product.price_cents
        case Sort.PRICE_DESCENDING:
            return -product.price_cents


def _has_begun(words: frozenset[str], word: str) -> bool:
    return word in words or any(known.startswith(word) for known in words)


def _forms(text: str) -> frozenset[str]:
    return frozenset(_all_forms(text))


def _all_forms(text: str) -> Iterator[str]:
    for word in words(text):
        yield from word_forms(word)
