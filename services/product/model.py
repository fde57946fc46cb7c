"""Products: the document, what one can search them by, and what the second edition of the service
says about them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from datetime import date
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from services.common.errors import Kind, ShopError
from services.common.fields import MAX_SLUG_LENGTH, Slug
from services.common.money import Money

MAX_QUERY_WORDS = 8
MAX_WORD_LENGTH = (
    12  # of what is compared: longer words are cut to it, in products and queries alike
)
MIN_WORD_LENGTH = 2

MAX_PRICE_CENTS = 10_000_000

_Line = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]


class _CatalogueValue(BaseModel):
    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=True)


class Category(_CatalogueValue):
    """A department of the shop."""

    id: Slug
    name: _Line
    blurb: _Line


class CatalogueEntry(_CatalogueValue):
    """A product as the catalogue's files describe it."""

    model_config = ConfigDict(extra="forbid")

    id: Slug
    name: _Line
    category: Slug
    price_cents: int = Field(ge=1, le=MAX_PRICE_CENTS, strict=True)
    weight_grams: int = Field(ge=1, le=100_000, strict=True)
    blurb: _Line
    description: str = Field(min_length=1, max_length=4000)
    brand: _Line
    tags: tuple[_Line, ...]
    rating: float = Field(ge=1, le=5)
    reviews: int = Field(ge=0)
    added: date
    details: dict[str, str]


class Product(_CatalogueValue):
    """A product as it is stored: an entry of the catalogue, with what it is found and sorted by."""

    id: str
    name: str
    category: str
    price_cents: int
    weight_grams: int
    blurb: str
    description: str
    brand: str
    tags: tuple[str, ...]
    rating: float
    reviews: int
    added: str = Field(description="ISO 8601 date.")
    details: dict[str, str]
    name_key: str
    popularity: int

    def __hash__(self) -> int:
        """By the id, since `details` has no hash."""
        return hash(self.id)

    @property
    def price(self) -> Money:
        """What one costs."""
        return Money(self.price_cents)

    @classmethod
    def of(cls, entry: CatalogueEntry) -> Product:
        """The document for an entry of the catalogue."""
        return cls(
            **entry.model_dump(exclude={"added"}),
            added=entry.added.isoformat(),
            name_key=fold(entry.name),
            popularity=_popularity(entry.rating, entry.reviews),
        )


class Sort(StrEnum):
    """What a page of products may be sorted by."""

    RELEVANCE = "relevance"
    RATING = "rating"
    NEWEST = "newest"
    NAME = "name"
    PRICE = "price"
    PRICE_DESCENDING = "-price"


class UnknownProduct(ShopError):
    """There is no such product."""

    def __init__(self, product_id: str) -> None:
        super().__init__(
            Kind.NOT_FOUND,
            "unknown-product",
            "There is no such product.",
            fields={"product_id": product_id[:MAX_SLUG_LENGTH]},
        )


# --- Search ---------------------------------------------------------------------------------------

_WORD = re.compile(r"[0-9]+[.,][0-9]+|[^\W_]+")


def query_words(query: str) -> list[str]:
    """The words of a query that are looked for, as they are compared."""
    return [word[:MAX_WORD_LENGTH] for word in words(query)][:MAX_QUERY_WORDS]


def word_forms(word: str) -> tuple[str, ...]:
    """A word, its singular and its plural."""
    one = singular(word)
    return word, one, plural(one)


def fold(text: str) -> str:
    """Lower case without accents: ``Crème Brûlée`` becomes ``creme brulee``."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(character for character in decomposed if not unicodedata.combining(character))


def words(text: str) -> Iterator[str]:
    """The words of a text; a number with decimals is one word: ``1.8`` and ``1,8`` are the same."""
    found = (word.replace(",", ".") for word in _WORD.findall(fold(text)))
    return (word for word in found if len(word) >= MIN_WORD_LENGTH)


def singular(word: str) -> str:
    """A plural's singular; near enough for a search, as `plural` is."""
    if len(word) <= MIN_WORD_LENGTH or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return f"{word[:-3]}y"
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    return word[:-1]


def plural(word: str) -> str:
    if word.endswith("y") and not word.endswith(("ay", "ey", "oy", "uy")):
        return f"{word[:-1]}ies"
    return f"{word}es" if word.endswith(("s", "x", "ch", "sh")) else f"{word}s"


def _popularity(rating: float, reviews: int) -> int:
    """The rating, drawn towards the middle while there are few reviews, so that one happy customer
    does not lead.
    """
    doubt, middle = 40, 4.0
    return round(10_000 * (doubt * middle + reviews * rating) / (doubt + reviews))


# --- The second edition ---------------------------------------------------------------------------


class Edition(StrEnum):
    """Which of its two looks the service has. The second one is what a canary release shows."""

    FIRST = "v1"
    SECOND = "v2"

    @classmethod
    def of_version(cls, version: str) -> Edition:
        """The edition of a version: ``v2`` and its minor versions are the second."""
        return cls.SECOND if version.partition(".")[0] == cls.SECOND else cls.FIRST

    def default_sort(self, query: str) -> Sort:
        """What comes first when nobody says: the second edition opens with what is new."""
        if self is Edition.SECOND and not query.strip():
            return Sort.NEWEST
        return Sort.RELEVANCE


BESTSELLER_REVIEWS = 300
NEW_DAYS = 90
FEW_LEFT = 10

_RENEWABLE = re.compile(
    r"\b(bamboo|beech|birch|ash|oak|walnut|maple|wood(en)?|cork|linen|cotton|wool|felt|jute|rattan|hemp"
    r"|paper|seagrass|recycled|organic|stoneware|terracotta|glass)\b"
)
_SYNTHETIC = re.compile(
    r"\b(plastics?|nylon|polyester|acrylic|abs|pvc|polypropylene|silicone|polycarbonate|eva)\b"
)
_NEARBY = re.compile(
    r"\b(austria|belgium|czechia|denmark|estonia|finland|france|germany|ireland|italy|latvia|lithuania"
    r"|netherlands|norway|poland|portugal|slovenia|spain|sweden|switzerland)\b"
)


def badges(product: Product, *, newest: date, available: int | None) -> list[str]:
    """What stands out about a product.

    :param newest: when the catalogue's latest product was added; "New" is measured from there, so
        that a shop whose catalogue rests does not run out of new things.
    :param available: None when that is not known.
    """
    found: list[str] = []
    if product.reviews >= BESTSELLER_REVIEWS:
        found.append("Bestseller")
    if (newest - date.fromisoformat(product.added)).days < NEW_DAYS:
        found.append("New")
    if available is not None and 0 < available <= FEW_LEFT:
        found.append("Few left")
    return found


def sustainability(product: Product) -> str:
    """A label from A (best) to E, by a rule that fits on it: renewable or recycled, no synthetics,
    made nearby, light.
    """
    said = fold("; ".join(product.details.values()))
    points = (
        2 * bool(_RENEWABLE.search(said))
        - 2 * bool(_SYNTHETIC.search(said))
        + bool(_NEARBY.search(said))
        + (product.weight_grams < 1000)
        - (product.weight_grams > 5000)
    )
    return "EDDCBA"[max(0, min(points + 1, 5))]


def newest_of(products: Iterable[Product]) -> date:
    """When the latest of the products was added."""
    return max((date.fromisoformat(product.added) for product in products), default=date.min)
