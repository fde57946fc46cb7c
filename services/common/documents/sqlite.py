"""The document store on SQLite: one file, which several processes may use at the same time."""

# ruff: noqa: S608  the names in the SQL are those that Collection and Index have checked

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import orjson

from services.common.documents.api import (
    AlreadyExists,
    Collection,
    Query,
    Record,
    RevisionConflict,
)
from services.common.documents.increment import Increment
from services.common.documents.sqlite_find import select
from services.common.documents.sqlite_schema import index_name, is_prepared, prepare, table
from services.common.documents.sqlite_thread import ConnectionThread
from services.common.documents.values import Body


class SqliteStore:
    """A :class:`DocumentStore` in one SQLite file in WAL mode.

    The file and its folder are made at the first use. One thread writes and one reads, so that
    reads never wait for a flush to disk.

    :param synchronous: ``FULL`` survives a power cut; ``NORMAL`` may lose the last moments then,
        but nothing when a process dies.
    :param busy_timeout_seconds: how long to wait for other processes' writes before giving up.
    """

    def __init__(
        self,
        path: Path,
        *,
        synchronous: Literal["FULL", "NORMAL"] = "FULL",
        busy_timeout_seconds: float = 5.0,
    ) -> None:
        self._path = path
        self._synchronous = synchronous
        self._busy_timeout_seconds = busy_timeout_seconds
        name = path.stem
        self._writer = ConnectionThread(f"sqlite-write-{name}", self._connect, "BEGIN IMMEDIATE")
        self._reader = ConnectionThread(f"sqlite-read-{name}", self._connect, "BEGIN")

    async def prepare(self, collection: Collection) -> None:
        """See :meth:`DocumentStore.prepare`."""
        if not await self._reader.run(lambda connection: is_prepared(connection, collection)):
            await self._writer.run(lambda connection: prepare(connection, collection))

    async def insert(self, collection: Collection, document_id: str, body: Body) -> None:
        """See :meth:`DocumentStore.insert`."""
        text = _dump(body)

        def work(connection: sqlite3.Connection) -> None:
            try:
                sql = f"INSERT INTO {table(collection)} VALUES (?, 1, ?)"
                connection.execute(sql, (document_id, text))
            except sqlite3.IntegrityError as error:
                # SQLite names either when both are taken.
                taken = _get(connection, collection, document_id) is not None
                index = "id" if taken else _violated_index(collection, error)
                raise AlreadyExists(collection.name, index) from error

        await self._writer.run(work)

    async def get_many(self, collection: Collection, ids: Sequence[str]) -> list[Record]:
        """See :meth:`DocumentStore.get_many`."""

        def work(connection: sqlite3.Connection) -> list[Record]:
            records = (_get(connection, collection, document_id) for document_id in ids)
            return [record for record in records if record is not None]

        return await self._reader.run(work)

    async def find(self, collection: Collection, query: Query) -> list[Record]:
        """See :meth:`DocumentStore.find`."""
        sql, parameters = select(collection, query)

        def work(connection: sqlite3.Connection) -> list[Record]:
            return [_record(row) for row in connection.execute(sql, parameters).fetchall()]

        return await self._reader.run(work)

    async def replace(
        self, collection: Collection, document_id: str, revision: int, body: Body
    ) -> None:
        """See :meth:`DocumentStore.replace`."""
        text = _dump(body)

        def work(connection: sqlite3.Connection) -> None:
            if not _update(connection, collection, document_id, revision, text):
                raise RevisionConflict(collection.name)

        await self._writer.run(work)

    async def increment(
        self, collection: Collection, document_id: str, increment: Increment
    ) -> Record | None:
        """See :meth:`DocumentStore.increment`."""

        def work(connection: sqlite3.Connection) -> Record | None:
            # Reading first is atomic all the same: the transaction holds the one write lock.
            record = _get(connection, collection, document_id)
            if record is None or not increment.holds(record.body):
                return None
            increment.apply(record.body)
            _update(connection, collection, document_id, record.revision, _dump(record.body))
            return Record(document_id, record.revision + 1, record.body)

        return await self._writer.run(work)

    async def delete(self, collection: Collection, document_id: str, revision: int) -> None:
        """See :meth:`DocumentStore.delete`."""

        def work(connection: sqlite3.Connection) -> None:
            sql = f"DELETE FROM {table(collection)} WHERE id = ? AND revision = ?"
            if connection.execute(sql, (document_id, revision)).rowcount == 0:
                raise RevisionConflict(collection.name)

        await self._writer.run(work)

    async def ping(self) -> None:
        """See :meth:`DocumentStore.ping`."""
        sql = "SELECT 1 FROM sqlite_schema"
        await self._reader.run(lambda connection: connection.execute(sql).fetchone())

    async def close(self) -> None:
        """See :meth:`DocumentStore.close`."""
        await self._reader.close()
        await self._writer.close()

    def _connect(self) -> sqlite3.Connection:
        # For this user only: the file may hold people's addresses and password hashes.
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        timeout_seconds = self._busy_timeout_seconds
        connection = sqlite3.connect(self._path, timeout=timeout_seconds, isolation_level=None)
        try:
            _use_wal(connection, timeout_seconds)
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        except sqlite3.Error:
            connection.close()
            raise
        return connection


def _use_wal(connection: sqlite3.Connection, timeout_seconds: float) -> None:
    """Turns on WAL, waiting for others that do the same: the busy time-out does not cover this."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _get(connection: sqlite3.Connection, collection: Collection, document_id: str) -> Record | None:
    sql = f"SELECT id, revision, body FROM {table(collection)} WHERE id = ?"
    row: tuple[str, int, str] | None = connection.execute(sql, (document_id,)).fetchone()
    return None if row is None else _record(row)


def _update(
    connection: sqlite3.Connection,
    collection: Collection,
    document_id: str,
    revision: int,
    text: str,
) -> bool:
    change = "SET revision = revision + 1, body = ? WHERE id = ? AND revision = ?"
    sql = f"UPDATE {table(collection)} {change}"
    try:
        return connection.execute(sql, (text, document_id, revision)).rowcount == 1
    except sqlite3.IntegrityError as error:
        raise AlreadyExists(collection.name, _violated_index(collection, error)) from error


def _violated_index(collection: Collection, error: sqlite3.IntegrityError) -> str:
    """The declared name, from ``UNIQUE constraint failed: index 'NAME'``."""
    for index in collection.indexes:
        if f"'{index_name(collection, index)}'" in str(error):
            return index.name
    return "id"


def _record(row: tuple[str, int, str]) -> Record:
    document_id, revision, text = row
    return Record(document_id, revision, orjson.loads(text))


def _dump(body: Body) -> str:
    return orjson.dumps(body).decode()
