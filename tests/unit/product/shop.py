"""A small catalogue in files, and a service over it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from fastapi import FastAPI

from services.common.dependency_injection import provide
from services.common.documents import Documents, SqliteStore
from services.common.errors import Kind, ShopError
from services.common.serving.http_server import make_app
from services.common.settings import ProcessSettings
from services.product import api
from services.product.files import read_catalogue
from services.product.model import Edition, Product
from services.product.service import ProductService
from services.product.store import PRODUCTS, ProductStore

CATEGORIES = [
    {"id": "kitchen", "name": "Kitchen", "blurb": "For cooks."},
    {"id": "home", "name": "Home & Living", "blurb": "For dwellers.", "hue": {"shadow": "#000"}},
]


def entry(product_id: str, **changes: Any) -> dict[str, Any]:
    """A product as the files have it."""
    return {
        "id": product_id,
        "name": product_id.replace("-", " ").title(),
        "category": "kitchen",
        "price_cents": 1000,
        "weight_grams": 500,
        "blurb": "A thing of use.",
        "description": "It is of use, and that is all there is to say.",
        "brand": "Hearth",
        "tags": ["useful"],
        "rating": 4.0,
        "reviews": 10,
        "added": date(2025, 1, 1),
        "details": {"Material": "Steel", "Made in": "Japan"},
    } | changes


ENTRIES = [
    entry("crema-set", name="Crème Brûlée Set", price_cents=2900, rating=4.5, reviews=400),
    entry("oak-board", name="Oak Board", price_cents=4900, rating=4.9, reviews=5),
    entry(
        "mugs",
        name="Stoneware Mugs",
        tags=["cup", "tea"],
        price_cents=3200,
        added=date(2025, 6, 1),
    ),
    entry(
        "blanket",
        name="Wool Blanket",
        category="home",
        price_cents=7900,
        weight_grams=1400,
        rating=4.5,
        reviews=80,
        added=date(2025, 9, 1),
        blurb="Warm as oak embers.",
        details={"Material": "Organic wool", "Made in": "Norway"},
    ),
    entry(
        "lamp",
        name="Reading Lamp",
        category="home",
        price_cents=4900,
        rating=3.5,
        added=date(2024, 2, 1),
        details={"Material": "ABS plastic", "Size": 30},
    ),
]


def write_catalogue(directory: Path, entries: Sequence[Mapping[str, Any]] = ENTRIES) -> Path:
    """Writes the files of a catalogue."""
    (directory / "pictures").mkdir(parents=True, exist_ok=True)
    (directory / "categories.yaml").write_text(yaml.safe_dump(CATEGORIES), encoding="utf-8")
    for category in CATEGORIES:
        own = [dict(one) for one in entries if one["category"] == category["id"]]
        text = yaml.safe_dump(own, allow_unicode=True)
        (directory / f"{category['id']}.yaml").write_text(text, encoding="utf-8")
    for one in entries:
        svg = f'<svg xmlns="http://www.w3.org/2000/svg"><title>{one["id"]}</title></svg>'
        (directory / "pictures" / f"{one['id']}.svg").write_text(svg, encoding="utf-8")
    return directory


class FakeStock:
    """An inventory that knows some products, and can be out."""

    def __init__(self) -> None:
        self.figures = {"crema-set": 3, "oak-board": 0, "mugs": 200}
        self.out = False
        self.asked: list[list[str]] = []

    async def available(self, product_ids: Sequence[str]) -> dict[str, int]:
        self.asked.append(list(product_ids))
        if self.out:
            raise ShopError(Kind.UNAVAILABLE, "inventory-unavailable", "inventory is out.")
        return {product_id: self.figures.get(product_id, 0) for product_id in product_ids}


class ServedCatalogue:
    """The service with what stands around it, and its app."""

    def __init__(self, service: ProductService, stock: FakeStock, version: str) -> None:
        self.service = service
        self.stock = stock
        self.app = _app(service, version)


@asynccontextmanager
async def open_shop(
    directory: Path, *, version: str = "v1", entries: Sequence[Mapping[str, Any]] = ENTRIES
) -> AsyncGenerator[ServedCatalogue]:
    """A shop with a catalogue of its own, in a directory of its own."""
    catalogue = read_catalogue(write_catalogue(directory / "catalogue", entries))
    database = SqliteStore(directory / "product.db", synchronous="NORMAL")
    try:
        store = ProductStore(await Documents[Product].open(database, PRODUCTS, Product))
        await store.load(catalogue.products)
        stock = FakeStock()
        service = ProductService(store, catalogue, stock, Edition.of_version(version))
        yield ServedCatalogue(service, stock, version)
    finally:
        await database.close()


def _app(service: ProductService, version: str) -> FastAPI:
    app = make_app(
        title="product-service",
        description="",
        settings=ProcessSettings(version=version),
    )
    app.include_router(api.router)
    provide(app, service)
    return app
