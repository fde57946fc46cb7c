"""The shop with a catalogue that is many times as large.

``python -m tests.bench.growth.grown TIMES …`` is otherwise ``python -m services …``. The copies of
a product have ids and names of their own, and share its picture.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from unittest.mock import patch

from services.__main__ import main
from services.product.files import Catalogue, read_catalogue
from services.product.model import Product, fold

# Words that no product has, so that each copy differs for a search as well.
_ENDINGS = ("amber", "basalt", "cedar", "dune", "ember", "fern", "glacier", "harbour", "indigo")


def grown_catalogue(times: int) -> Catalogue:
    """Returns the catalogue with each product a number of times."""
    catalogue = read_catalogue()
    products = tuple(copy for product in catalogue.products for copy in _copies(product, times))
    pictures = {
        copy.id: catalogue.pictures[product.id]
        for product in catalogue.products
        for copy in _copies(product, times)
    }
    return Catalogue(catalogue.categories, products, pictures)


def _copies(product: Product, times: int) -> Iterator[Product]:
    yield product
    for number in range(1, times):
        name = f"{product.name} {_ENDINGS[number % len(_ENDINGS)]} {number}"
        yield product.model_copy(
            update={"id": f"{product.id}-{number}", "name": name, "name_key": fold(name)}
        )


if __name__ == "__main__":
    grown = partial(grown_catalogue, int(sys.argv.pop(1)))
    patch("services.product.main.read_catalogue", grown).start()
    sys.exit(main())
