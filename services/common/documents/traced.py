"""A document store that makes a span of each operation, within the request's trace."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer, get_current_span

from services.common.documents.api import (
    AlreadyExists,
    Collection,
    DocumentStore,
    Query,
    Record,
    RevisionConflict,
)
from services.common.documents.increment import Increment
from services.common.documents.values import Body
from services.common.errors import ShopError

T = TypeVar("T")

# What the store says of a document, which is no failure of the database.
_ANSWERS = (AlreadyExists, RevisionConflict)


class _Dialect(NamedTuple):
    """What a kind of database is called, and what it calls the store's operations.

    :ivar operations: the database's own word by the method's name.
    """

    system: str
    operations: Mapping[str, str]


# https://opentelemetry.io/docs/specs/semconv/db/sql/
_SQLITE = _Dialect(
    "sqlite",
    {
        "insert": "INSERT",
        "get_many": "SELECT",
        "find": "SELECT",
        "replace": "UPDATE",
        "increment": "UPDATE",
        "delete": "DELETE",
    },
)
# https://opentelemetry.io/docs/specs/semconv/db/mongodb/
_MONGODB = _Dialect(
    "mongodb",
    {
        "insert": "insert",
        "get_many": "find",
        "find": "find",
        "replace": "update",
        "increment": "findAndModify",
        "delete": "delete",
    },
)


class TracedStore:
    """A :class:`DocumentStore` in front of another one. Each operation is a client span by
    OpenTelemetry's conventions (https://opentelemetry.io/docs/specs/semconv/db/database-spans/),
    within a span that is kept; without one it costs the look for it. Never with an id or a value:
    those are people's.

    :param url: where the store is, see :func:`.open_store`.
    :param database: its name there.
    """

    def __init__(self, store: DocumentStore, tracer: Tracer, *, url: str, database: str) -> None:
        self._store = store
        self._tracer = tracer
        self._dialect = _SQLITE if url.startswith("sqlite:") else _MONGODB
        self._database = database

    async def prepare(self, collection: Collection) -> None:
        """See :meth:`DocumentStore.prepare`."""
        await self._store.prepare(collection)

    async def insert(self, collection: Collection, document_id: str, body: Body) -> None:
        """See :meth:`DocumentStore.insert`."""
        work = partial(self._store.insert, collection, document_id, body)
        await self._traced("insert", collection, work)

    async def get_many(self, collection: Collection, ids: Sequence[str]) -> list[Record]:
        """See :meth:`DocumentStore.get_many`."""
        work = partial(self._store.get_many, collection, ids)
        return await self._traced("get_many", collection, work)

    async def find(self, collection: Collection, query: Query) -> list[Record]:
        """See :meth:`DocumentStore.find`."""
        return await self._traced("find", collection, partial(self._store.find, collection, query))

    async def replace(
        self, collection: Collection, document_id: str, revision: int, body: Body
    ) -> None:
        """See :meth:`DocumentStore.replace`."""
        work = partial(self._store.replace, collection, document_id, revision, body)
        await self._traced("replace", collection, work)

    async def increment(
        self, collection: Collection, document_id: str, increment: Increment
    ) -> Record | None:
        """See :meth:`DocumentStore.increment`."""
        work = partial(self._store.increment, collection, document_id, increment)
        return await self._traced("increment", collection, work)

    async def delete(self, collection: Collection, document_id: str, revision: int) -> None:
        """See :meth:`DocumentStore.delete`."""
        work = partial(self._store.delete, collection, document_id, revision)
        await self._traced("delete", collection, work)

    async def ping(self) -> None:
        """See :meth:`DocumentStore.ping`."""
        await self._store.ping()

    async def close(self) -> None:
        """See :meth:`DocumentStore.close`."""
        await self._store.close()

    async def _traced(
        self, method: str, collection: Collection, work: Callable[[], Awaitable[T]]
    ) -> T:
        if not get_current_span().is_recording():
            return await work()
        operation = self._dialect.operations[method]
        with self._tracer.start_as_current_span(
            f"{operation} {collection.name}",
            kind=SpanKind.CLIENT,
            attributes={
                "db.system.name": self._dialect.system,
                "db.namespace": self._database,
                "db.collection.name": collection.name,
                "db.operation.name": operation,
            },
            record_exception=False,  # its text may hold a value
            set_status_on_exception=False,
        ) as span:
            try:
                return await work()
            except _ANSWERS:
                raise
            except Exception as error:
                kind = error.code if isinstance(error, ShopError) else type(error).__name__
                span.set_attribute("error.type", kind)
                span.set_status(Status(StatusCode.ERROR))
                raise
