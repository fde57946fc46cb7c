"""The typed view of a collection: pydantic models in, pydantic models out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar

from services.common.documents import cursor as cursors
from services.common.documents.api import (
    AlreadyExists,
    Collection,
    DocumentStore,
    Page,
    Query,
    Record,
    RevisionConflict,
    Stored,
    position,
)
from services.common.documents.increment import Increment
from services.common.documents.values import (
    Body,
    Json,
    OrderValue,
    Scalar,
    assign,
    check_json,
    lookup,
)


class DocumentModel(Protocol):
    """A pydantic ``BaseModel`` with an ``id: str``."""

    @property
    def id(self) -> str: ...

    def model_dump(self, *, mode: str, round_trip: bool) -> dict[str, Any]: ...

    @classmethod
    def model_validate(cls, obj: Any) -> Self: ...


M = TypeVar("M", bound=DocumentModel)
Opened = TypeVar("Opened", bound=DocumentModel)

_PAGE = 200


@dataclass(frozen=True, slots=True)
class Updated(Generic[M]):
    """What an update found or made.

    :ivar is_written: whether it changed the document; else that was as it should be already.
    """

    stored: Stored[M]
    is_written: bool


class Documents(Generic[M]):
    """One collection of a store, as values of one model.

    Every method may raise :class:`StoreUnavailable`. ``ValueError`` means a mistake in the program:
    an index that is not declared, values that do not fit it, or a value that the stores cannot hold
    (see :mod:`.values`).
    """

    def __init__(self, store: DocumentStore, collection: Collection, model: type[M]) -> None:
        self._store = store
        self._collection = collection
        self._model = model

    @staticmethod
    async def open(
        store: DocumentStore, collection: Collection, model: type[Opened]
    ) -> Documents[Opened]:
        """Prepares the collection (see :meth:`DocumentStore.prepare`) and returns its view."""
        await store.prepare(collection)
        return Documents(store, collection, model)

    async def insert(self, value: M) -> Stored[M]:
        """Stores a new document.

        :raises AlreadyExists: its id or its values in a unique index are taken.
        """
        await self._store.insert(self._collection, value.id, self._body(value))
        return Stored(value, 1)

    async def add(self, value: M) -> Stored[M] | None:
        """Stores a new document; None when its id or its values in a unique index are taken."""
        try:
            return await self.insert(value)
        except AlreadyExists:
            return None

    async def get(self, document_id: str) -> Stored[M] | None:
        """The document with that id."""
        return (await self.get_many([document_id])).get(document_id)

    async def get_many(self, ids: Iterable[str]) -> dict[str, Stored[M]]:
        """Those documents that exist, by id."""
        wanted = list(dict.fromkeys(ids))
        records = await self._store.get_many(self._collection, wanted) if wanted else []
        return {record.id: self._stored(record) for record in records}

    async def find(
        self,
        index: str,
        *,
        equal: Sequence[Scalar] = (),
        at_least: OrderValue | None = None,
        below: OrderValue | None = None,
        descending: bool = False,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[M]:
        """One page of the documents that match, in the order of the index.

        Each page is a new search, from the place where the one before ended. So going from page to
        page returns each document once that exists and keeps its place all the while; one that
        comes meanwhile, if its place is still ahead; and one that moves once, twice or never,
        depending on where it stands at which time.

        :param equal: one value for each of the index's ``equal`` paths.
        :param at_least: lower bound of the order value, inclusive.
        :param below: upper bound of the order value, exclusive.
        :param cursor: the ``next_cursor`` of the page before, of a search with the same arguments.
        :raises InvalidCursor: the cursor is malformed or of another search.
        """
        declared = self._collection.index(index)
        if limit < 1:
            raise ValueError("limit must be at least 1")
        check_json([*equal, at_least, below])
        after = None if cursor is None else cursors.decode(declared, cursor, descending=descending)
        # One more than asked for tells whether there is a next page.
        query = Query(declared, tuple(equal), at_least, below, descending, limit + 1, after)
        records = await self._store.find(self._collection, query)
        next_cursor = None
        if len(records) > limit:
            del records[limit:]
            next_cursor = cursors.encode(
                declared, position(declared, records[-1]), descending=descending
            )
        return Page([self._stored(record) for record in records], next_cursor)

    async def each(
        self,
        index: str,
        *,
        equal: Sequence[Scalar] = (),
        at_least: OrderValue | None = None,
        below: OrderValue | None = None,
    ) -> AsyncGenerator[Stored[M]]:
        """All documents that match, page by page; see :meth:`find`."""
        cursor: str | None = None
        while True:
            page = await self.find(
                index, equal=equal, at_least=at_least, below=below, limit=_PAGE, cursor=cursor
            )
            for stored in page.items:
                yield stored
            cursor = page.next_cursor
            if cursor is None:
                return

    async def due(
        self, index: str, now_ms: int, limit: int, *, longest_pause_ms: int | None = None
    ) -> list[Stored[M]]:
        """The documents whose time has come, longest overdue first.

        :param index: ordered by the time in Unix milliseconds.
        :param limit: how many of them, and of those whose time is too far ahead.
        :param longest_pause_ms: a time further ahead than this was written by a wrong clock, or is
            read by one: it has come, too.
        """
        due = (await self.find(index, below=now_ms + 1, limit=limit)).items
        if longest_pause_ms is None:
            return due
        too_far_ms = now_ms + longest_pause_ms + 1
        return due + (await self.find(index, at_least=too_far_ms, limit=limit)).items

    def cursor_behind(self, index: str, stored: Stored[M], *, descending: bool = False) -> str:
        """The cursor that continues a search behind one of its results, for whoever has taken only
        some of them.
        """
        declared = self._collection.index(index)
        record = Record(stored.value.id, stored.revision, self._body(stored.value))
        return cursors.encode(declared, position(declared, record), descending=descending)

    async def replace(self, stored: Stored[M], value: M) -> Stored[M]:
        """Compare-and-set: puts ``value`` in the place of the very state that ``stored`` is.

        :raises RevisionConflict: the document was changed or deleted meanwhile.
        :raises AlreadyExists: its new values in a unique index are taken.
        """
        if value.id != stored.value.id:
            raise ValueError("the id of a document never changes")
        await self._store.replace(self._collection, value.id, stored.revision, self._body(value))
        return Stored(value, stored.revision + 1)

    async def update(self, document_id: str, change: Callable[[M], M]) -> Updated[M] | None:
        """Changes a document as it is now: a compare-and-set, made again after each conflict. The
        deadline of the request bounds how often.

        :param change: pure, since it may be called more than once. What it raises ends the update,
            and what equals its argument is not written.
        :returns: None when there is no such document.
        :raises AlreadyExists: its new values in a unique index are taken.
        """
        while (stored := await self.get(document_id)) is not None:
            changed = change(stored.value)
            if changed == stored.value:
                return Updated(stored, is_written=False)
            try:
                return Updated(await self.replace(stored, changed), is_written=True)
            except RevisionConflict:
                continue
        return None

    async def upsert(self, document_id: str, make: Callable[[M | None], M]) -> Updated[M]:
        """As :meth:`update`, for a document that may not be there yet.

        :param make: gets None then, and makes the first state.
        """
        while True:
            updated = await self.update(document_id, make)
            if updated is not None:
                return updated
            try:
                return Updated(await self.insert(make(None)), is_written=True)
            except AlreadyExists as error:
                if error.index != "id":
                    raise

    async def increment(
        self,
        document_id: str,
        by: Mapping[str, int],
        *,
        at_least: Mapping[str, int] | None = None,
        present: Iterable[str] = (),
        absent: Iterable[str] = (),
        put: Mapping[str, Json] | None = None,
        remove: Iterable[str] = (),
    ) -> Stored[M] | None:
        """Changes a document in one atomic step, if all guards hold; see :class:`Increment`.

        :returns: the new state; ``None`` when a guard does not hold or there is no such document.
        :raises AlreadyExists: its new values in a unique index are taken.
        """
        change = Increment(
            by, at_least or {}, tuple(present), tuple(absent), put or {}, tuple(remove)
        )
        for path, new in change.put.items():
            affected: Body = {}
            assign(affected, path, new)
            self._check_indexed(affected)
        record = await self._store.increment(self._collection, document_id, change)
        return None if record is None else self._stored(record)

    async def delete(self, stored: Stored[M]) -> None:
        """Deletes the very state that ``stored`` is.

        :raises RevisionConflict: the document was changed or deleted meanwhile.
        """
        await self._store.delete(self._collection, stored.value.id, stored.revision)

    async def remove(
        self, document_id: str, is_unwanted: Callable[[M], bool] = lambda _: True
    ) -> None:
        """Deletes a document, whatever anybody else does to it, if it is there and unwanted."""
        while (stored := await self.get(document_id)) is not None and is_unwanted(stored.value):
            with suppress(RevisionConflict):
                await self.delete(stored)
                return

    def _body(self, value: M) -> Body:
        # round_trip: computed fields are left out, because validating them back would refuse them.
        body: Body = value.model_dump(mode="json", round_trip=True)
        check_json(body)
        self._check_indexed(body)
        return body

    def _check_indexed(self, body: Body) -> None:
        """SQLite's JSON functions end a string at NUL: different ones could meet in an index."""
        for index in self._collection.indexes:
            for path in index.paths:
                value = lookup(body, path)
                if isinstance(value, str) and "\0" in value:
                    raise ValueError(f"{path} is indexed and contains NUL")

    def _stored(self, record: Record) -> Stored[M]:
        return Stored(self._model.model_validate(record.body), record.revision)
