"""The document store on MongoDB when MongoDB is not as it should be."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable

import pytest
from pydantic import BaseModel

from services.common.documents import (
    Collection,
    Documents,
    DocumentStore,
    StoreUnavailable,
    open_store,
)
from services.common.documents.mongo import MongoStore
from services.common.errors import ConfigurationError, Kind

THINGS = Collection("things")


class Thing(BaseModel):
    id: str


async def unavailable(store: DocumentStore, *, within_seconds: float) -> None:
    """Asserts that each kind of operation says so in time."""
    things = Documents(store, THINGS, Thing)
    operations: list[Callable[[], Awaitable[object]]] = [
        store.ping,
        lambda: things.get("a"),
        lambda: things.insert(Thing(id="a")),
        lambda: things.increment("a", {"n": 1}),
    ]
    for operation in operations:
        started = time.monotonic()
        with pytest.raises(StoreUnavailable) as caught:
            await operation()
        assert caught.value.kind is Kind.UNAVAILABLE
        assert caught.value.__cause__ is not None
        assert time.monotonic() - started < within_seconds


async def test_no_server_is_unavailable_in_time() -> None:
    with socket.socket() as taken:  # bound, but not listening: every connection is refused
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        store = MongoStore(f"mongodb://127.0.0.1:{port}", "things", timeout_seconds=0.3)
        try:
            await unavailable(store, within_seconds=2)
        finally:
            await store.close()


async def test_silent_server_is_unavailable_in_time() -> None:
    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # to the end: it hangs up when the client does
        writer.close()

    server = await asyncio.start_server(silence, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    store = MongoStore(f"mongodb://127.0.0.1:{port}", "things", timeout_seconds=0.3)
    try:
        await unavailable(store, within_seconds=2)
    finally:
        await store.close()
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize(
    "url", ["mongodb://", "mongodb://host:port", "mongodb://host:99999", "postgres://h/", ""]
)
def test_unusable_url_stops_the_start(url: str) -> None:
    with pytest.raises(ConfigurationError, match="DATABASE_URL"):
        open_store(url, "things")
