"""Shops for the tests: one that they share and leave in order, and ones of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import pytest

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
    with Shop(
        tmp_path_factory.mktemp("replicated"),
        *("--replicas", "order=2,inventory=2"),
        stock={SCARCE: SCARCE_STOCK},
    ) as shop:
        yield shop


class OpenShop:
    """Starts shops of one test's own, each in a folder of its name."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack

    def __call__(
        self,
        *arguments: str,
        name: str = "shop",
        data: Path | None = None,
        environment: Mapping[str, str] | None = None,
        own_environment: Mapping[str, Mapping[str, str]] | None = None,
        stock: Mapping[str, int] | None = None,
        waits: bool = True,
    ) -> Shop:
        """Starts a shop that the test may break.

        :param waits: until it is open. One that is to end instead is not waited for.
        """
        shop = Shop(
            self._folder / name,
            *arguments,
            data=data,
            environment=environment,
            own_environment=own_environment,
            stock=stock,
        )
        shop.launch()
        self._stack.callback(shop.stop)
        if waits:
            shop.wait_open()
        return shop


@pytest.fixture
def open_shop(tmp_path: Path) -> Generator[OpenShop]:
    """Starts shops of the test's own, and stops them."""
    with ExitStack() as stack:
        yield OpenShop(tmp_path, stack)


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
