"""Shops for the tests: one that they share and leave in order, and ones of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import aiohttp
import pytest
import yaml

from services.inventory.seed import read_stock_file
from services.inventory.settings import InventorySettings
from tests.testkit.books import Books, open_books
from tests.testkit.contract import Contract
from tests.testkit.customer import Client, Customer
from tests.testkit.shop import Shop

SCARCE, SCARCE_STOCK = "chef-knife", 50


async def _check_books(shop: Shop) -> None:
    async with open_books(shop) as books:
        await books.settled()


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Generator[Shop]:
    """The shop of all tests that only use it. Its carrier does not move. At the end its books must
    be in order, whatever the tests did.
    """
    with Shop(tmp_path_factory.mktemp("shop")) as shop:
        yield shop
        asyncio.run(_check_books(shop))


@pytest.fixture(scope="session")
def contract(shop: Shop) -> Contract:
    """What the services of the shared shop say they answer."""
    return asyncio.run(Contract.read(shop))


@pytest.fixture(scope="session")
def replicated_shop(tmp_path_factory: pytest.TempPathFactory) -> Generator[Shop]:
    """A shop with two processes each of `order` and `inventory`, and little of one product."""
    folder = tmp_path_factory.mktemp("replicated")
    stock = {**read_stock_file(InventorySettings().stock_file), SCARCE: SCARCE_STOCK}
    stock_file = folder / "stock.yaml"
    stock_file.write_text(yaml.safe_dump(stock), encoding="utf-8")
    with Shop(
        folder,
        "--replicas",
        "order=2,inventory=2",
        environment={"STOCK_FILE": str(stock_file)},
    ) as shop:
        yield shop


class LaunchShop(Protocol):
    """Starts a shop that a test may break, and does not wait for it."""

    def __call__(
        self,
        *arguments: str,
        name: str = "shop",
        data: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Shop: ...


@pytest.fixture
def launch_shop(tmp_path: Path) -> Generator[LaunchShop]:
    """Starts shops of the test's own, each in its own folder unless it is given one, and stops
    them.
    """
    with ExitStack() as stack:

        def launch(
            *arguments: str,
            name: str = "shop",
            data: Path | None = None,
            environment: Mapping[str, str] | None = None,
        ) -> Shop:
            shop = Shop(tmp_path / name, *arguments, data=data, environment=environment)
            shop.launch()
            stack.callback(shop.stop)
            return shop

        yield launch


@pytest.fixture
async def http() -> AsyncGenerator[aiohttp.ClientSession]:
    """HTTP connections of the test, as many as it wants."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session


@pytest.fixture
def client(http: aiohttp.ClientSession, shop: Shop) -> Client:
    """Somebody without an account at the shared shop."""
    return Client(http, shop.url)


@pytest.fixture
async def customer(client: Client) -> Customer:
    """A new customer of the shared shop."""
    return await Customer.register(client)


@pytest.fixture
async def books(shop: Shop) -> AsyncGenerator[Books]:
    """The books of the shared shop."""
    async with open_books(shop) as books:
        yield books
