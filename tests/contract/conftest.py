"""The databases that a contract is tried on."""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import pytest
from pymongo import AsyncMongoClient

from services.common.documents import DocumentStore, open_store

MONGODB_URL = "MESHMART_TEST_MONGODB_URL"


class Database:
    """An empty database, which is gone after the test.

    :param url: where it is, as in ``DATABASE_URL``.
    """

    def __init__(self, url: str, closing: AsyncExitStack) -> None:
        self.url = url
        self.name = f"contract_{uuid4().hex}"
        self._closing = closing

    def store(self) -> DocumentStore:
        """One more store on it, as another process would have."""
        store = open_store(self.url, self.name)
        self._closing.push_async_callback(store.close)
        return store


@pytest.fixture
def mongodb_url() -> str:
    """A server for the test's use. On CI a skip is a failure (see tests/conftest.py)."""
    url = os.environ.get(MONGODB_URL)
    if not url:
        pytest.skip(f"set {MONGODB_URL} to the URL of a MongoDB server to try the contract on it")
    return url


@pytest.fixture(params=["sqlite", "mongodb"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    async with AsyncExitStack() as closing:
        if request.param == "sqlite":
            yield Database(f"sqlite:///{tmp_path}", closing)
            return
        url: str = request.getfixturevalue("mongodb_url")
        client: AsyncMongoClient[dict[str, object]] = AsyncMongoClient(url)
        closing.push_async_callback(client.close)
        database = Database(url, closing)
        closing.push_async_callback(client.drop_database, database.name)
        yield database
