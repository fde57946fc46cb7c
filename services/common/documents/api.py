"""The interface of a document store, which SQLite and MongoDB implement, and its three errors.

It has only operations that a single document can do atomically, so correctness never depends on a
transaction over several documents. Services use the typed view,
:class:`~services.common.documents.Documents`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from services.common.documents.values import Body, OrderValue, Scalar, lookup
from services.common.errors import ConfigurationError, Kind, ShopError

if TYPE_CHECKING:
    from services.common.documents.increment import Increment

# Names and index paths become part of SQL text and of MongoDB field names: without escaping.
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_INDEX_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Index:
    """One way in which a collection can be searched.

    Paths are dotted (``"address.country"``) and lead through objects.

    A document is in the index only while each of the index's paths leads to a value: missing and
    null leave it out (a sparse index). An index without paths holds every document, sorted by id.

    A path holds values of one type, in all documents: SQLite and MongoDB agree on the order within
    strings (by code point) and within numbers, not between types. To sort by time, store a number:
    ISO strings with and without a fraction do not sort by time.

    :param equal: paths that a search gives values for, all of them.
    :param order: the path that results are sorted by, and that ``at_least`` and ``below`` limit;
        ties go by id. Without it, results are sorted by id.
    :param unique: refuse a second document with the same values at ``equal``.
    """

    name: str
    equal: tuple[str, ...] = ()
    order: str | None = None
    unique: bool = False

    def __post_init__(self) -> None:
        _check(_NAME, self.name, "index name")
        for path in self.paths:
            _check(_INDEX_PATH, path, "index path")
        if len(set(self.paths)) < len(self.paths):
            raise ValueError(f"index {self.name}: a path is named twice")
        if self.unique and (not self.equal or self.order is not None):
            raise ValueError(f"unique index {self.name}: it has paths in `equal`, and only there")

    @property
    def paths(self) -> tuple[str, ...]:
        """All paths of the index: ``equal``, then ``order``."""
        return self.equal if self.order is None else (*self.equal, self.order)


@dataclass(frozen=True, slots=True)
class Collection:
    """A named set of documents and the indexes that it is searched by."""

    name: str
    indexes: tuple[Index, ...] = ()

    def __post_init__(self) -> None:
        _check(_NAME, self.name, "collection name")
        if len({index.name for index in self.indexes}) < len(self.indexes):
            raise ValueError(f"collection {self.name}: an index name is used twice")

    def index(self, name: str) -> Index:
        """The declared index of that name.

        :raises ValueError: there is none.
        """
        for index in self.indexes:
            if index.name == name:
                return index
        raise ValueError(f"collection {self.name} declares no index {name!r}")


@dataclass(frozen=True, slots=True)
class Position:
    """A place in an index: a document's id, and its value at the ``order`` path if there is one."""

    order: OrderValue | None
    id: str


@dataclass(frozen=True, slots=True)
class Query:
    """A checked search: the values fit the index.

    :param at_least: lower bound at ``order``, inclusive.
    :param below: upper bound, exclusive.
    :param after: continue behind this position.
    """

    index: Index
    equal: tuple[Scalar, ...]
    at_least: OrderValue | None
    below: OrderValue | None
    descending: bool
    limit: int
    after: Position | None

    def __post_init__(self) -> None:
        name = self.index.name
        if len(self.equal) != len(self.index.equal):
            raise ValueError(
                f"index {name} needs {len(self.index.equal)} equal values, not {len(self.equal)}"
            )
        if self.index.order is None and not (self.at_least is None and self.below is None):
            raise ValueError(f"index {name} has no order to limit by `at_least` or `below`")


@dataclass(frozen=True, slots=True)
class Record:
    """A document as it is stored. ``revision`` is 1 at first and grows by one with each write."""

    id: str
    revision: int
    body: Body


@dataclass(frozen=True, slots=True)
class Stored(Generic[T]):
    """A value and its revision. Hand it back to replace or delete that very state."""

    value: T
    revision: int


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some results, and the cursor that continues behind them; ``None`` at the end."""

    items: list[Stored[T]]
    next_cursor: str | None


class AlreadyExists(ShopError):
    """Another document has the same id, or the same values in a unique index.

    :ivar index: the unique index's name, or ``"id"`` (which goes first when both are taken).
    """

    def __init__(self, collection: str, index: str) -> None:
        super().__init__(
            Kind.CONFLICT,
            "already-exists",
            f"There is already one in {collection} with the same {index}.",
        )
        self.index = index


class RevisionConflict(ShopError):
    """Somebody else changed or deleted the document since it was read: read it and decide again."""

    def __init__(self, collection: str) -> None:
        super().__init__(
            Kind.CONFLICT,
            "revision-conflict",
            f"Somebody else has just changed the same one in {collection}.",
        )


class UserRefused(ConfigurationError):
    """The database refuses its user, who may be wrong, or not made yet."""


class StoreUnavailable(ShopError):
    """The database did not answer in time, or cannot be used; ``__cause__`` has the reason.

    Whether a write took place is then unknown: repeat it only if that changes nothing, for example
    because an increment is guarded by ``absent`` and ``put`` of a key of its own.
    """

    def __init__(self) -> None:
        super().__init__(
            Kind.UNAVAILABLE,
            "store-unavailable",
            "The database cannot be reached just now.",
            retry_after_seconds=1.0,
        )


class DocumentStore(Protocol):
    """One database. What a method did is durable when it returns.

    Every method may raise :class:`StoreUnavailable`. A cancelled write may have taken place, as one
    that ended in :class:`StoreUnavailable` may; the store stays usable. Each process prepares its
    collections before their first use. Arguments are checked already.
    """

    async def prepare(self, collection: Collection) -> None:
        """Creates what is missing of the collection and its indexes, by any number of processes.

        An index that is not declared any more, or otherwise, stays until somebody drops it: another
        version of the service may be using it.

        :raises UserRefused: the user in the database's URL may not use it.
        :raises ConfigurationError: documents that are stored already are not unique as a new index
            demands; or the database refuses the user in its URL.
        """
        ...

    async def insert(self, collection: Collection, document_id: str, body: Body) -> None:
        """Stores a new document at revision 1. Ids of deleted documents should not be used again.

        :raises AlreadyExists: its id or its values in a unique index are taken.
        """
        ...

    async def get_many(self, collection: Collection, ids: Sequence[str]) -> list[Record]:
        """The documents among these ids that exist, in no particular order."""
        ...

    async def find(self, collection: Collection, query: Query) -> list[Record]:
        """The first ``query.limit`` documents that match, in the order of the index."""
        ...

    async def replace(
        self, collection: Collection, document_id: str, revision: int, body: Body
    ) -> None:
        """Compare-and-set: puts the body in the place of that revision.

        :raises RevisionConflict: the document has another revision, or is gone.
        :raises AlreadyExists: its new values in a unique index are taken.
        """
        ...

    async def increment(
        self, collection: Collection, document_id: str, increment: Increment
    ) -> Record | None:
        """Makes the change in one step, if its guards hold.

        :returns: the new state; ``None`` when a guard does not hold or there is no such document.
        :raises AlreadyExists: its new values in a unique index are taken.
        :raises ValueError: the change does not fit the document, such as a counter that is not an
            integer.
        """
        ...

    async def delete(self, collection: Collection, document_id: str, revision: int) -> None:
        """Compare-and-set delete.

        :raises RevisionConflict: the document has another revision, or is gone.
        """
        ...

    async def ping(self) -> None:
        """Returns when the database answers."""
        ...

    async def close(self) -> None:
        """Lets go of the database. Later calls raise :class:`StoreUnavailable`."""
        ...


def position(index: Index, record: Record) -> Position:
    """Where a document stands in an index that it is in."""
    order = None if index.order is None else lookup(record.body, index.order)
    if order is not None and not isinstance(order, str | int | float):
        raise ValueError(f"index {index.name}: a document holds no scalar at {index.order}")
    return Position(order, record.id)


def _check(pattern: re.Pattern[str], text: str, what: str) -> None:
    if pattern.fullmatch(text) is None:
        raise ValueError(f"{what} {text!r} does not match {pattern.pattern}")
