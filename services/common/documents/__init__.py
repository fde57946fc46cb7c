"""One small document store with two implementations: SQLite on one machine, MongoDB in a cluster.

A service declares its collections (:class:`Collection`, :class:`Index`) and works on
:class:`Documents`, the typed view.
"""

from services.common.documents.api import (
    AlreadyExists,
    Collection,
    DocumentStore,
    Index,
    Page,
    RevisionConflict,
    Stored,
    StoreUnavailable,
    UserRefused,
)
from services.common.documents.document import Document
from services.common.documents.opening import open_store
from services.common.documents.outbox import Event, Outbox, OutboxChanges
from services.common.documents.sqlite import SqliteStore
from services.common.documents.traced import TracedStore
from services.common.documents.typed import DocumentModel, Documents, Updated
from services.common.documents.values import Json, OrderValue, Scalar

__all__ = [
    "AlreadyExists",
    "Collection",
    "Document",
    "DocumentModel",
    "DocumentStore",
    "Documents",
    "Event",
    "Index",
    "Json",
    "OrderValue",
    "Outbox",
    "OutboxChanges",
    "Page",
    "RevisionConflict",
    "Scalar",
    "SqliteStore",
    "StoreUnavailable",
    "Stored",
    "TracedStore",
    "Updated",
    "UserRefused",
    "open_store",
]
