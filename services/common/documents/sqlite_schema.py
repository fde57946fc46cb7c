"""The tables and indexes of a collection in SQLite.

A collection is a table of JSON texts. An index is an expression index over ``json_extract``, so
SQLite maintains it in the statement that writes.
"""

from __future__ import annotations

import sqlite3

from services.common.documents.api import Collection, Index
from services.common.errors import ConfigurationError


def table(collection: Collection) -> str:
    """The quoted name of a collection's table."""
    return f'"{collection.name}"'


def index_name(collection: Collection, index: Index) -> str:
    """The name (not quoted) of an expression index.

    It says what is indexed, and nothing else: what has the name is what is needed.
    """
    unique = ["unique"] if index.unique else []
    order = [] if index.order is None else [f"by {index.order}"]
    return f"{collection.name}: {', '.join([*unique, *index.equal, *order])}"


def value_at(path: str) -> str:
    """The SQL expression for the scalar at a path of a body; NULL when it is missing or null."""
    keys = "".join(f'."{key}"' for key in path.split("."))
    return f"json_extract(body, '${keys}')"


def is_prepared(connection: sqlite3.Connection, collection: Collection) -> bool:
    """Whether everything is there already: a mere look, without the write lock."""
    needed = {index_name(collection, index) for index in collection.indexes if index.paths}
    return {collection.name, *needed} <= _existing(connection)


def prepare(connection: sqlite3.Connection, collection: Collection) -> None:
    """Creates what is missing; repeating it changes nothing.

    :raises ConfigurationError: stored documents are not unique as a new index demands.
    """
    existing = _existing(connection)
    if collection.name not in existing:
        columns = "id TEXT PRIMARY KEY NOT NULL, revision INTEGER NOT NULL, body TEXT NOT NULL"
        connection.execute(f"CREATE TABLE {table(collection)} ({columns})")
    missing = {
        name: index
        for index in collection.indexes
        if index.paths and (name := index_name(collection, index)) not in existing
    }
    for index in missing.values():
        _create_index(connection, collection, index)


def _create_index(connection: sqlite3.Connection, collection: Collection, index: Index) -> None:
    values = [value_at(path) for path in index.paths]
    columns = ", ".join(values if index.unique else [*values, "id"])
    present = " AND ".join(f"{value} IS NOT NULL" for value in values)
    unique = "UNIQUE " if index.unique else ""
    try:
        connection.execute(
            f'CREATE {unique}INDEX "{index_name(collection, index)}" ON {table(collection)} '
            f"({columns}) WHERE {present}"
        )
    except sqlite3.IntegrityError as error:
        raise ConfigurationError(
            f"The unique index {index.name} of {collection.name} cannot be made: "
            "stored documents have equal values in it."
        ) from error


def _existing(connection: sqlite3.Connection) -> set[str]:
    rows: list[tuple[str]] = connection.execute("SELECT name FROM sqlite_schema").fetchall()
    return {name for (name,) in rows}
