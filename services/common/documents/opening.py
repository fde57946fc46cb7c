"""Opens the store that a URL names."""

from __future__ import annotations

import re
from pathlib import Path

from services.common.documents.api import DocumentStore
from services.common.documents.sqlite import SqliteStore
from services.common.errors import ConfigurationError

_DATABASE = re.compile(r"[a-z][a-z0-9_-]{0,62}")


def open_store(url: str, database: str) -> DocumentStore:
    """The store behind a URL. Nothing is connected until its first use.

    :param url: ``sqlite:///DIRECTORY`` (relative; with a fourth slash absolute) or ``mongodb://…``.
    :param database: the name of the database in it: a file ``DATABASE.db`` in the directory, or
        MongoDB's database.
    :raises ConfigurationError: no such kind of URL, or not usable as one.
    """
    if _DATABASE.fullmatch(database) is None:
        raise ValueError(f"database name {database!r} does not match {_DATABASE.pattern}")
    if url.startswith("sqlite:///") and (directory := url.removeprefix("sqlite:///")):
        return SqliteStore(Path(directory) / f"{database}.db")
    if url.startswith(("mongodb://", "mongodb+srv://")):
        # Here, because PyMongo would cost each process on one machine memory for nothing.
        from services.common.documents.mongo import MongoStore  # noqa: PLC0415

        return MongoStore(url, database)
    raise ConfigurationError("DATABASE_URL must be sqlite:///DIRECTORY or mongodb://HOST:PORT.")
