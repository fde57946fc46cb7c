"""Shops of several sizes: many products, many orders, many replicas."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from services.common.topology import load_topology
from services.inventory.model import Stock
from services.inventory.store import STOCK
from services.order.model import ORDERS
from services.product.model import Product, Sort
from services.product.search import cursor_behind, cursor_key
from services.product.store import PRODUCTS
from tests.bench.floor.plan import GATEWAY
from tests.bench.growth.bulk import insert_all, orders_like, stored_orders
from tests.bench.growth.grown import grown_catalogue
from tests.bench.journeys import (
    LIST_PATH,
    PreparedRequest,
    ShopJourney,
    order_request,
    page_request,
)
from tests.bench.rounds import MeasuredSide
from tests.bench.shops import IN_STOCK, measured_shop
from tests.bench.sides import side_of
from tests.endurance.measure import footprints
from tests.testkit.customer import Client, Customer
from tests.testkit.shop import Shop
from tests.testkit.waiting import eventually

_MIB = 2**20
_PAGE = 100


@dataclass(frozen=True, slots=True)
class GrownShop:
    """A running shop of a size."""

    side: MeasuredSide
    shop: Shop

    def memory_mib(self) -> Mapping[str, float]:
        """Returns the PSS of its processes now, by instance."""
        return {name: found.pss_bytes / _MIB for name, found in footprints(self.shop).items()}


@contextlib.asynccontextmanager
async def with_products(folder: Path, count: int) -> AsyncGenerator[GrownShop]:
    """Runs a shop with about this number of products: a multiple of those of the catalogue."""
    times = count // len(grown_catalogue(1).products)
    products = (await asyncio.to_thread(grown_catalogue, times)).products
    program = ("-m", "tests.bench.growth.grown", f"{times}")
    stock = {product.id: IN_STOCK for product in products}
    shop = measured_shop(folder, program=program, stock=stock)
    await asyncio.to_thread(_store_products, shop.data, products)
    async with shop:
        customer = await _customer(shop)
        journeys = (
            *_browsing(products),
            _journey("order", "check out", order_request(customer, products[0].id)),
        )
        yield _grown(f"{len(products):,}", shop, journeys)


def _store_products(data: Path, products: Sequence[Product]) -> None:
    """Stores at once what the shop would store one by one at its start."""
    data.mkdir(parents=True)
    insert_all(data / "product.db", PRODUCTS, products)
    stock = (Stock(id=product.id, available=IN_STOCK) for product in products)
    insert_all(data / "inventory.db", STOCK, stock)


def _browsing(products: Sequence[Product]) -> Iterable[ShopJourney]:
    by_name = sorted(products, key=lambda product: (product.name_key, product.id))
    middle = cursor_behind(by_name[len(by_name) // 2], cursor_key("", None, Sort.NAME))
    yield _journey("home", "home page", page_request("/"))
    yield _journey("product", "product page", page_request(f"/products/{products[-1].id}"))
    yield _journey("list", "first page of the list", page_request(LIST_PATH))
    deep = page_request(f"{LIST_PATH}&sort=name&cursor={middle}")
    yield _journey("deep", "page in the middle of the list", deep)
    yield _journey("search", "search for two words", page_request(f"{LIST_PATH}&q=oak+board"))


@contextlib.asynccontextmanager
async def with_orders(folder: Path, count: int) -> AsyncGenerator[GrownShop]:
    """Runs a shop with one order that was just placed and a number of older ones, a hundredth of
    them the same customer's.
    """
    product = grown_catalogue(1).products[0].id
    shop = measured_shop(folder)
    store = shop.data / "order.db"
    async with shop, aiohttp.ClientSession() as session:
        customer = await Customer.register(Client(session, shop.url))
        await customer.bought({product: 1})

        async def is_told() -> bool:
            return all(order.open_since_ms is None for order in stored_orders(store))

        await eventually(is_told, "the customer is told")
    (order,) = stored_orders(store)
    await asyncio.to_thread(insert_all, store, ORDERS, orders_like(order, count))
    async with shop, aiohttp.ClientSession() as session:
        cursor = await _middle(customer, Client(session, shop.url))
        own = page_request("/api/orders?limit=20", customer)
        deep = page_request(f"/api/orders?limit=20&cursor={cursor}", customer) if cursor else own
        journeys = (
            _journey("list", "first page of the customer's orders", own),
            _journey("deep", "page in the middle of them", deep),
            _journey("one", "one order", page_request(f"/api/orders/{order.id}", customer)),
            _journey("order", "check out", order_request(customer, product)),
        )
        yield _grown(f"{count:,}", shop, journeys)


async def _middle(customer: Customer, client: Client) -> str:
    """Returns the cursor in the middle of the customer's orders; empty where one page has all."""
    cursors: list[str] = []
    query: dict[str, Any] = {"limit": _PAGE}
    headers = {"authorization": f"Bearer {customer.token}"}
    while True:
        answer = await client.send("GET", "/api/orders", query=query, headers=headers)
        assert answer.status == 200, answer
        cursor = answer.body["next_cursor"]
        if cursor is None:
            return cursors[len(cursors) // 2] if cursors else ""
        cursors.append(cursor)
        query["cursor"] = cursor


@contextlib.asynccontextmanager
async def with_replicas(folder: Path, count: int) -> AsyncGenerator[GrownShop]:
    """Runs a shop with a number of processes of each service but the frontend."""
    services = [name for name in load_topology().services if name != GATEWAY]
    replicas = ",".join(f"{name}={count}" for name in services)
    product = grown_catalogue(1).products[0].id
    async with measured_shop(folder, "--replicas", replicas) as shop:
        journeys = (
            _journey("home", "home page", page_request("/")),
            _journey("list", "first page of the list", page_request(LIST_PATH)),
            _journey("order", "check out", order_request(await _customer(shop), product)),
        )
        yield _grown(f"{count}", shop, journeys)


async def _customer(shop: Shop) -> Customer:
    async with aiohttp.ClientSession() as session:
        return await Customer.register(Client(session, shop.url))


def _journey(name: str, about: str, request: PreparedRequest) -> ShopJourney:
    return ShopJourney(name, about, (request,))


def _grown(name: str, shop: Shop, journeys: Iterable[ShopJourney]) -> GrownShop:
    return GrownShop(side_of(name, shop, journeys), shop)
