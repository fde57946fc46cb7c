"""The document store on MongoDB when MongoDB, or the network, is not as it should be."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager

import pytest
from pydantic import BaseModel
from yarl import URL

from services.common.documents import (
    Collection,
    Documents,
    DocumentStore,
    Index,
    Stored,
    StoreUnavailable,
    open_store,
)
from services.common.documents.mongo import MongoStore
from services.common.errors import ConfigurationError, Kind
from tests.contract.conftest import Database
from tests.testkit.mongodb import MongoServer, mongodb_executable
from tests.testkit.waiting import eventually

THINGS = Collection("things", indexes=(Index("all"), Index("by_stock", order="stock")))

TIMEOUT_SECONDS = 2.0


class MongoThing(BaseModel):
    id: str
    stock: int = 0


async def check_unavailable(store: DocumentStore, *, within_seconds: float = 10.0) -> None:
    """Asserts that each operation says so in time, all of them at once."""
    things = Documents(store, THINGS, MongoThing)
    stored = Stored(MongoThing(id="a"), 1)
    operations: list[Callable[[], Awaitable[object]]] = [
        store.ping,
        lambda: store.prepare(THINGS),
        lambda: things.get("a"),
        lambda: things.get_many(["a", "b"]),
        lambda: things.find("all"),
        lambda: things.find("by_stock", at_least=1),
        lambda: things.insert(MongoThing(id="a")),
        lambda: things.replace(stored, MongoThing(id="a", stock=1)),
        lambda: things.increment("a", {"stock": 1}),
        lambda: things.delete(stored),
    ]
    started = time.monotonic()
    results = await asyncio.gather(
        *(operation() for operation in operations), return_exceptions=True
    )
    assert time.monotonic() - started < within_seconds
    for result in results:
        assert isinstance(result, StoreUnavailable)
        assert result.kind is Kind.UNAVAILABLE
        assert result.__cause__ is not None


@asynccontextmanager
async def impatient_store(url: str, database: str) -> AsyncGenerator[MongoStore]:
    store = MongoStore(url, database, timeout_seconds=TIMEOUT_SECONDS)
    try:
        yield store
    finally:
        await store.close()


# Outages


async def test_no_server_is_unavailable_in_time() -> None:
    with socket.socket() as taken:  # bound, but not listening: every connection is refused
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        async with impatient_store(f"mongodb://127.0.0.1:{port}", "things") as store:
            await check_unavailable(store)


async def test_silent_server_is_unavailable_in_time() -> None:
    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # to the end: it hangs up when the client does
        writer.close()

    server = await asyncio.start_server(silence, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    async with impatient_store(f"mongodb://127.0.0.1:{port}", "things") as store:
        await check_unavailable(store)
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("database", ["mongodb"], indirect=True)
@pytest.mark.parametrize("how", ["hangs", "dies"])
async def test_store_recovers_with_its_server(
    database: Database, mongodb: MongoServer, how: str
) -> None:
    """Also connections that were open before, and without a new store."""
    before = await Documents.open(database.store(), THINGS, MongoThing)
    await before.insert(MongoThing(id="before"))
    async with impatient_store(database.url, database.name) as store:
        things = Documents(store, THINGS, MongoThing)
        assert await eventually(lambda: whether_available(store), "the store is connected")
        if how == "hangs":
            mongodb.pause()
            try:
                await check_unavailable(store)
            finally:
                mongodb.resume()
        else:
            async with database.outage(0):
                await check_unavailable(store)
        await eventually(lambda: whether_available(store), "the store is available again")
        again = await things.insert(MongoThing(id="again"))
        assert await before.get_many(["before", "again"]) == {
            "before": Stored(MongoThing(id="before"), 1),
            "again": again,
        }


async def whether_available(store: DocumentStore) -> bool:
    try:
        await store.ping()
    except StoreUnavailable:
        return False
    return True


# Connections that break in mid-write


class Breaker:
    """Between a store and its server; breaks the connection of the next command of a kind.

    :ivar port: where it listens.
    :ivar broken: how often it has done so.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._command: bytes | None = None
        self._delivers = False
        self._serving: set[asyncio.Task[None] | None] = set()
        self.port = 0
        self.broken = 0

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[Breaker]:
        """Until everybody has hung up."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        yield self
        server.close()
        await asyncio.gather(*(task for task in self._serving if task is not None))

    def break_next(self, command: str, *, delivers: bool) -> None:
        """Loses a command, or its reply.

        :param delivers: the server gets the command, and only its reply is lost.
        """
        self._command, self._delivers = b"\x02" + command.encode() + b"\0", delivers

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        self._serving.add(asyncio.current_task())
        server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        breaks = False

        async def pass_on() -> None:
            nonlocal breaks
            with contextlib.suppress(ConnectionError):
                while data := await client.read(65536):  # PyMongo writes a command at once
                    if self._command is not None and self._command in data:
                        self._command = None
                        self.broken += 1
                        if not self._delivers:
                            return
                        breaks = True
                    to_server.write(_same_time_left(data))

        async def pass_back() -> None:
            with contextlib.suppress(ConnectionError):
                while (data := await server.read(65536)) and not breaks:
                    to_client.write(data)

        pumps = {asyncio.create_task(pass_on()), asyncio.create_task(pass_back())}
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        to_client.close()
        to_server.close()
        await asyncio.gather(*pumps)


def _same_time_left(data: bytes) -> bytes:
    """MongoDB knows a repeated write by its session and transaction number. The stand-in compares
    all else too, and would run one twice that, as it should, says that less time is left.
    """
    return re.sub(rb"(?s)(\x10maxTimeMS\0)....", lambda field: field[1] + b"\xff\xff\0\0", data)


@pytest.fixture(scope="module")
def replica_set(tmp_path_factory: pytest.TempPathFactory) -> Generator[MongoServer]:
    """One member is enough for retryable writes, which a server that stands alone does not know."""
    folder = tmp_path_factory.mktemp("replica-set")
    with MongoServer(mongodb_executable(), folder, "--replSet", "shop") as server:
        yield server


async def insert(things: Documents[MongoThing], _: Stored[MongoThing]) -> None:
    await things.insert(MongoThing(id="b"))


async def replace(things: Documents[MongoThing], stored: Stored[MongoThing]) -> None:
    await things.replace(stored, MongoThing(id="a", stock=1))


async def increment(things: Documents[MongoThing], _: Stored[MongoThing]) -> None:
    assert await things.increment("a", {"stock": 1}) is not None


async def delete(things: Documents[MongoThing], stored: Stored[MongoThing]) -> None:
    await things.delete(stored)


Write = Callable[[Documents[MongoThing], Stored[MongoThing]], Awaitable[None]]
WRITES: dict[str, tuple[Write, dict[str, Stored[MongoThing]]]] = {
    "insert": (insert, {"a": Stored(MongoThing(id="a"), 1), "b": Stored(MongoThing(id="b"), 1)}),
    "update": (replace, {"a": Stored(MongoThing(id="a", stock=1), 2)}),
    "findAndModify": (increment, {"a": Stored(MongoThing(id="a", stock=1), 2)}),
    "delete": (delete, {}),
}

each_write = pytest.mark.parametrize("command", WRITES)
reply_or_command_is_lost = pytest.mark.parametrize("delivers", [True, False])


@asynccontextmanager
async def broken_write(
    server: MongoServer, command: str, *, delivers: bool
) -> AsyncGenerator[tuple[Documents[MongoThing], Stored[MongoThing]]]:
    """Things whose next such command will break, and the one thing among them."""
    async with Breaker(server.port).listening() as breaker:
        # Directly: a replica set would tell its member's own address, and be reached there.
        url = URL(server.url).with_port(breaker.port) / "" % {"directConnection": "true"}
        store = open_store(str(url), f"broken_{command.lower()}_{delivers}".lower())
        try:
            things = await Documents.open(store, THINGS, MongoThing)
            stored = await things.insert(MongoThing(id="a"))
            breaker.break_next(command, delivers=delivers)
            yield things, stored
            assert breaker.broken == 1
        finally:
            await store.close()


@each_write
@reply_or_command_is_lost
async def test_write_whose_connection_breaks_happens_once(
    replica_set: MongoServer, command: str, delivers: bool
) -> None:
    """The driver repeats it, and the server knows it again."""
    write, after = WRITES[command]
    async with broken_write(replica_set, command, delivers=delivers) as (things, stored):
        await write(things, stored)
        assert await things.get_many(["a", "b"]) == after


@each_write
@reply_or_command_is_lost
async def test_without_a_replica_set_the_outcome_is_unknown(
    mongodb: MongoServer, command: str, delivers: bool
) -> None:
    """Nobody repeats it but the caller, who must make sure that this changes nothing."""
    write, after = WRITES[command]
    async with broken_write(mongodb, command, delivers=delivers) as (things, stored):
        with pytest.raises(StoreUnavailable):
            await write(things, stored)
        assert await things.get_many(["a", "b"]) == (after if delivers else {"a": stored})


# The start


@pytest.mark.parametrize(
    "url", ["mongodb://", "mongodb://host:port", "mongodb://host:99999", "postgres://h/", ""]
)
def test_unusable_url_stops_the_start(url: str) -> None:
    with pytest.raises(ConfigurationError, match="DATABASE_URL"):
        open_store(url, "things")
