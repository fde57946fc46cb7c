"""The databases that a contract is tried on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from pymongo import AsyncMongoClient

from services.common.documents import Documents, DocumentStore, open_store
from services.common.documents.mongo import MongoStore
from services.mongo_users import Client, make_user
from tests.contract.items import ITEMS, Item
from tests.testkit.full_disk import full_disk
from tests.testkit.mongodb import MongoServer, mongodb_executable

# Within it, the process of that id cannot write to the database.
Outage = Callable[[int], AbstractAsyncContextManager[None]]


class Database:
    """An empty database, which is gone after the test.

    :param url: where it is, as in ``DATABASE_URL``. On MongoDB it has the rights that a service
        has: to this database and no other.
    :param outage: lets it fail for a while.
    """

    def __init__(self, url: str, name: str, outage: Outage, closing: AsyncExitStack) -> None:
        self.url = url
        self.name = name
        self.outage = outage
        self._closing = closing

    def store(self, *, timeout_seconds: float | None = None) -> DocumentStore:
        """One more store on it, as another process would have.

        :param timeout_seconds: the most that one operation takes, where there is such a limit.
        """
        if timeout_seconds is not None and self.url.startswith("mongodb:"):
            store: DocumentStore = MongoStore(self.url, self.name, timeout_seconds=timeout_seconds)
        else:
            store = open_store(self.url, self.name)
        self._closing.push_async_callback(store.close)
        return store


@pytest.fixture(scope="session")
def mongodb(tmp_path_factory: pytest.TempPathFactory) -> Generator[MongoServer]:
    """The server of all tests; one that kills it starts it again."""
    with MongoServer(mongodb_executable(), tmp_path_factory.mktemp("mongodb")) as server:
        yield server


@pytest.fixture(params=["sqlite", "mongodb"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Database]:
    async with AsyncExitStack() as closing:
        if request.param == "sqlite":
            yield Database(f"sqlite:///{tmp_path}", "contract", _full_disk, closing)
            return
        server: MongoServer = request.getfixturevalue("mongodb")
        name = f"contract_{uuid4().hex}"

        @asynccontextmanager
        async def dead_server(_: int) -> AsyncGenerator[None]:
            server.kill()
            try:
                yield
            finally:
                await asyncio.to_thread(server.start)

        async with _root(server) as root:
            await make_user(root, name, "secret")
        yield Database(server.url_of(name, "secret"), name, dead_server, closing)
        await closing.aclose()
        async with _root(server) as root:
            await root.drop_database(name)


@pytest.fixture
async def items(database: Database) -> Documents[Item]:
    return await Documents.open(database.store(), ITEMS, Item)


def _root(server: MongoServer) -> Client:
    return AsyncMongoClient(server.url)


@asynccontextmanager
async def _full_disk(pid: int) -> AsyncGenerator[None]:
    with full_disk(pid):
        yield
