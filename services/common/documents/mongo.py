"""The document store on MongoDB, through PyMongo's asynchronous client.

A document is ``{_id, revision, body}``. Writes are acknowledged by a majority, in their journals.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias, TypeVar

import pymongo
from bson.errors import BSONError
from pymongo import ASCENDING, DESCENDING, AsyncMongoClient, IndexModel, ReturnDocument
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import ConfigurationError as InvalidUrl
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from services.common.documents.api import (
    AlreadyExists,
    Collection,
    Index,
    Query,
    Record,
    RevisionConflict,
    StoreUnavailable,
    UserRefused,
)
from services.common.documents.increment import Increment
from services.common.documents.values import Body
from services.common.errors import ConfigurationError

Fields: TypeAlias = dict[str, Any]
T = TypeVar("T")

_SCALAR: Final = {"$type": ["string", "number", "bool"]}

# https://www.mongodb.com/docs/manual/reference/error-codes/
_CHANGE_DOES_NOT_FIT = frozenset({2, 14, 28})  # BadValue (overflow), TypeMismatch, PathNotViable
_USER_REFUSED = frozenset({13, 18})  # Unauthorized, AuthenticationFailed


class MongoStore:
    """A :class:`DocumentStore` in one MongoDB database.

    :param url: may name a user, who needs the role ``readWrite`` on the database and no more.
    :param timeout_seconds: the most that one operation takes, including the search for a server,
        the majority's acknowledgement and the driver's own retries.
    """

    def __init__(self, url: str, database: str, *, timeout_seconds: float = 5.0) -> None:
        self._timeout_seconds = timeout_seconds
        timeout_ms = int(timeout_seconds * 1000)
        try:
            self._client: AsyncMongoClient[Fields] = AsyncMongoClient(
                url,
                appname=f"meshmart-{database}",
                timeoutMS=timeout_ms,
                serverSelectionTimeoutMS=timeout_ms,
                retryWrites=True,
            )
        except (InvalidUrl, ValueError) as error:
            raise ConfigurationError(f"DATABASE_URL is not usable: {error}.") from error
        self._database = self._client.get_database(
            database,
            write_concern=WriteConcern("majority", j=True),
            read_concern=ReadConcern("majority"),  # nothing that a failover could take back
        )
        self._running: set[asyncio.Task[Any]] = set()

    async def prepare(self, collection: Collection) -> None:
        """See :meth:`DocumentStore.prepare`."""
        # The index on _id is always there. To ask for it costs nothing, and tells of a collection
        # without others too whether the user may use it.
        models = {"_id_": IndexModel([("_id", ASCENDING)], name="_id_")} | {
            model.document["name"]: model
            for index in collection.indexes
            for model in _index_models(index)
        }
        async with self._call(collection) as documents:
            try:
                await self._finish(documents.create_indexes(list(models.values())))
            except DuplicateKeyError as error:
                raise ConfigurationError(
                    f"A unique index of {collection.name} cannot be made: "
                    "stored documents have equal values in it."
                ) from error
            except OperationFailure as error:
                if error.code not in _USER_REFUSED:
                    raise
                raise UserRefused(
                    "MongoDB refuses the user in DATABASE_URL the database "
                    f"{self._database.name} ({(error.details or {}).get('errmsg')}): "
                    "correct the URL, or make the users with `python -m services.mongo_users`."
                ) from error

    async def insert(self, collection: Collection, document_id: str, body: Body) -> None:
        """See :meth:`DocumentStore.insert`."""
        async with self._call(collection) as documents:
            try:
                fields = {"_id": document_id, "revision": 1, "body": body}
                await self._finish(documents.insert_one(fields))
            except DuplicateKeyError as error:
                # MongoDB names either when both are taken.
                if await self._finish(documents.find_one({"_id": document_id})) is None:
                    raise
                raise AlreadyExists(collection.name, "id") from error

    async def get_many(self, collection: Collection, ids: Sequence[str]) -> list[Record]:
        """See :meth:`DocumentStore.get_many`."""
        async with self._call(collection) as documents:
            found = await self._finish(documents.find({"_id": {"$in": list(ids)}}).to_list())
        return [_record(fields) for fields in found]

    async def find(self, collection: Collection, query: Query) -> list[Record]:
        """See :meth:`DocumentStore.find`."""
        direction = DESCENDING if query.descending else ASCENDING
        order = [(_field(path), direction) for path in _optional(query.index.order)]
        async with self._call(collection) as documents:
            cursor = documents.find(_filter(query)).sort([*order, ("_id", direction)])
            found = await self._finish(cursor.limit(query.limit).to_list())
        return [_record(fields) for fields in found]

    async def replace(
        self, collection: Collection, document_id: str, revision: int, body: Body
    ) -> None:
        """See :meth:`DocumentStore.replace`."""
        change = {"$set": {"body": body}, "$inc": {"revision": 1}}
        async with self._call(collection) as documents:
            state = {"_id": document_id, "revision": revision}
            result = await self._finish(documents.update_one(state, change))
        if result.matched_count == 0:
            raise RevisionConflict(collection.name)

    async def increment(
        self, collection: Collection, document_id: str, increment: Increment
    ) -> Record | None:
        """See :meth:`DocumentStore.increment`."""
        async with self._call(collection) as documents:
            fields: Fields | None = await self._finish(
                documents.find_one_and_update(
                    {"_id": document_id, **_guards(increment)},
                    _change(increment),
                    return_document=ReturnDocument.AFTER,
                )
            )
        return None if fields is None else _record(fields)

    async def delete(self, collection: Collection, document_id: str, revision: int) -> None:
        """See :meth:`DocumentStore.delete`."""
        async with self._call(collection) as documents:
            state = {"_id": document_id, "revision": revision}
            result = await self._finish(documents.delete_one(state))
        if result.deleted_count == 0:
            raise RevisionConflict(collection.name)

    async def ping(self) -> None:
        """See :meth:`DocumentStore.ping`."""
        try:
            await self._finish(self._client.admin.command("ping"))
        except PyMongoError as error:
            raise StoreUnavailable from error

    async def close(self) -> None:
        """See :meth:`DocumentStore.close`."""
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._client.close()

    async def _finish(self, operation: Coroutine[Any, Any, T]) -> T:
        """The operation's result. It runs to its end also when the caller is cancelled: PyMongo
        would give up the connection, and every impatient client would cost a new one.
        """
        task = asyncio.create_task(operation)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # else asyncio complains of it when its caller was cancelled

    @asynccontextmanager
    async def _call(self, collection: Collection) -> AsyncGenerator[AsyncCollection[Fields]]:
        """The one place where PyMongo's errors become the store's, within one time-out for all."""
        try:
            with pymongo.timeout(self._timeout_seconds):
                yield self._database.get_collection(collection.name)
        except DuplicateKeyError as error:
            raise AlreadyExists(collection.name, _violated_index(collection, error)) from error
        except OperationFailure as error:
            if error.code in _CHANGE_DOES_NOT_FIT:
                raise ValueError(f"the change does not fit the document: {error}") from error
            raise StoreUnavailable from error
        except PyMongoError as error:
            raise StoreUnavailable from error
        except BSONError as error:  # a document over MongoDB's 16 MiB
            raise ValueError(f"MongoDB cannot hold the document: {error}") from error


def _field(path: str) -> str:
    return f"body.{path}"


def _optional(path: str | None) -> list[str]:
    return [] if path is None else [path]


def _record(fields: Mapping[str, Any]) -> Record:
    return Record(fields["_id"], fields["revision"], fields["body"])


def _filter(query: Query) -> Fields:
    """The search's conditions: what the index begins with at the top, the rest in ``$and``."""
    index = query.index
    conditions: Fields = {
        _field(path): value for path, value in zip(index.equal, query.equal, strict=True)
    }
    further: list[Fields] = []
    after = query.after
    beyond = "$lt" if query.descending else "$gt"
    if index.order is None:
        if after is not None:
            conditions["_id"] = {beyond: after.id}
    else:
        order = _field(index.order)
        limits = {"$gte": query.at_least, "$lt": query.below}
        limits = {operator: limit for operator, limit in limits.items() if limit is not None}
        if after is not None:
            # The cursor is where the index is entered; within its order value, ids decide.
            further += [{order: {operator: limit}} for operator, limit in limits.items()]
            further.append({"$or": [{order: {beyond: after.order}}, {"_id": {beyond: after.id}}]})
            limits = {f"{beyond}e": after.order}
        conditions[order] = _range(limits)
    return {**conditions, "$and": further} if further else conditions


def _range(limits: Fields) -> Fields:
    """All strings and numbers within the limits, which leaves out missing and null. A comparison
    finds values of its own type only; that type's lowest value is said, too, since servers exist
    that would walk through all that an index holds before it.
    """
    if not limits:
        return _SCALAR
    if limits.keys() & {"$gte", "$gt"}:
        return limits
    (upper,) = limits.values()
    return {"$gte": "" if isinstance(upper, str) else -math.inf, **limits}


def _guards(increment: Increment) -> Fields:
    guards: dict[str, Fields] = {}
    for path in increment.at_least:
        threshold = increment.threshold(path)
        # A missing counter counts as zero; unlike $gte, its negation holds for missing ones.
        enough: Fields = {"$gte": threshold} if threshold > 0 else {"$not": {"$lt": threshold}}
        guards.setdefault(_field(path), {}).update(enough)
    for path in increment.present:
        guards.setdefault(_field(path), {})["$ne"] = None
    for path in increment.absent:
        guards.setdefault(_field(path), {})["$eq"] = None  # null or missing
    return guards


def _change(increment: Increment) -> Fields:
    counters = {_field(path): amount for path, amount in increment.by.items()}
    change: Fields = {"$inc": {"revision": 1, **counters}}
    if increment.put:
        change["$set"] = {_field(path): value for path, value in increment.put.items()}
    if increment.remove:
        change["$unset"] = {_field(path): "" for path in increment.remove}
    return change


def _index_models(index: Index) -> list[IndexModel]:
    """What to create. Without names: PyMongo makes them out of the keys, so what has one fits."""
    if not index.paths:
        return []  # the index on _id serves it
    keys = [(_field(path), ASCENDING) for path in index.paths]
    models = [IndexModel([*keys, ("_id", ASCENDING)])]
    if index.unique:
        # One more, only to refuse: it must be partial, or all missing values would be equal, and a
        # partial index does not serve searches that leave its condition unsaid.
        partial = {_field(path): _SCALAR for path in index.equal}
        models.append(IndexModel(keys, unique=True, partialFilterExpression=partial))
    return models


def _violated_index(collection: Collection, error: DuplicateKeyError) -> str:
    pattern: Mapping[str, Any] = (error.details or {}).get("keyPattern", {})
    for index in collection.indexes:
        if index.unique and set(pattern) == {_field(path) for path in index.equal}:
            return index.name
    return "id"
