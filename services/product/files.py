"""Reads the catalogue from its files: categories, products and their pictures."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from services.common.errors import ConfigurationError
from services.common.validation import first_wrong
from services.product.model import CatalogueEntry, Category, Product

CATALOGUE_PATH = Path(__file__).parent / "catalogue"

_CATEGORIES = TypeAdapter(list[Category])
_ENTRIES = TypeAdapter(list[CatalogueEntry])

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Picture:
    """A product's picture, as SVG. `etag` changes with its content."""

    svg: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All that the files say; pictures by product id."""

    categories: tuple[Category, ...]
    products: tuple[Product, ...]
    pictures: dict[str, Picture]


def read_catalogue(directory: Path = CATALOGUE_PATH) -> Catalogue:
    """The catalogue in a directory: ``categories.yaml``, ``<category>.yaml`` and
    ``pictures/<product>.svg``.

    :raises ConfigurationError: naming the file and what is wrong with it.
    """
    categories = _read(directory / "categories.yaml", _CATEGORIES)
    products: list[Product] = []
    for category in categories:
        path = directory / f"{category.id}.yaml"
        for entry in _read(path, _ENTRIES):
            if entry.category != category.id:
                raise ConfigurationError(f"{path}: {entry.id} says it is in {entry.category!r}.")
            products.append(Product.of(entry))
    ids = [category.id for category in categories] + [product.id for product in products]
    for used, times in Counter(ids).items():
        if times > 1:
            raise ConfigurationError(f"{directory}: the id {used} is used {times} times.")
    pictures = {
        product.id: _read_picture(directory / "pictures" / f"{product.id}.svg")
        for product in products
    }
    return Catalogue(tuple(categories), tuple(products), pictures)


def _read(path: Path, shape: TypeAdapter[T]) -> T:
    try:
        return shape.validate_python(yaml.load(_content(path), Loader=yaml.CSafeLoader))
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigurationError(f"{path} is not valid YAML: {reason}.") from error
    except ValidationError as error:
        wrong = first_wrong(error)
        raise ConfigurationError(
            f"{path} is wrong at {wrong.place('the top')}: {wrong.reason}."
        ) from error


def _read_picture(path: Path) -> Picture:
    svg = _content(path)
    return Picture(svg, f'"{hashlib.sha256(svg).hexdigest()[:20]}"')


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from error
