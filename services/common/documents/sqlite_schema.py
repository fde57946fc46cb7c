"""How a collection lies in SQLite.

A collection is a table of JSON texts. An index is an expression index over ``json_extract``; one
with ``each`` is a side table with a row per element, which triggers keep. So SQLite maintains every
index itself, in the statement that writes.
"""

# ruff: noqa: S608  the names in the SQL are those that Collection and Index have checked

from __future__ import annotations

import sqlite3

from services.common.documents.api import Collection, Index
from services.common.errors import ConfigurationError


def table(collection: Collection) -> str:
    """The quoted name of a collection's table."""
    return f'"{collection.name}"'


def index_name(collection: Collection, index: Index) -> str:
    """The name (not quoted) of an expression index, or of the side table instead of it.

    It says what is indexed, and nothing else: what has the name is what is needed.
    """
    unique = ["unique"] if index.unique else []
    each = [] if index.each is None else [f"each {index.each}"]
    order = [] if index.order is None else [f"by {index.order}"]
    return f"{collection.name}: {', '.join([*unique, *index.equal, *each, *order])}"


def value_at(path: str, body: str = "body") -> str:
    """The SQL expression for the scalar at a path of a body; NULL when it is missing or null."""
    return f"json_extract({body}, {_json_path(path)})"


def equal_column(number: int) -> str:
    """The column of a side table that holds the value at ``equal[number]``."""
    return f"equal_{number}"


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
        create = _create_index if index.each is None else _create_side_table
        create(connection, collection, index)


def _create_index(connection: sqlite3.Connection, collection: Collection, index: Index) -> None:
    values = [value_at(path) for path in index.scalar_paths]
    columns = ", ".join(values if index.unique else [*values, "id"])
    unique = "UNIQUE " if index.unique else ""
    try:
        connection.execute(
            f'CREATE {unique}INDEX "{index_name(collection, index)}" ON {table(collection)} '
            f"({columns}) WHERE {' AND '.join(map(_is_not_null, values))}"
        )
    except sqlite3.IntegrityError as error:
        raise ConfigurationError(
            f"The unique index {index.name} of {collection.name} cannot be made: "
            "stored documents have equal values in it."
        ) from error


def _create_side_table(
    connection: sqlite3.Connection, collection: Collection, index: Index
) -> None:
    name = index_name(collection, index)
    columns = ", ".join(_side_columns(index))
    connection.execute(f'CREATE TABLE "{name}" ({columns}, PRIMARY KEY ({columns})) WITHOUT ROWID')
    connection.execute(
        f'INSERT INTO "{name}" {_entries(index, "document", f"{table(collection)} AS document, ")}'
    )
    add = f'INSERT INTO "{name}" {_entries(index, "NEW")};'
    drop = f'DELETE FROM "{name}" WHERE ({columns}) IN ({_entries(index, "OLD")});'
    # Most writes change no indexed value: they leave the side table alone.
    changed = " OR ".join(
        f"{value_at(path, 'OLD.body')} IS NOT {value_at(path, 'NEW.body')}" for path in index.paths
    )
    on = f"ON {table(collection)}"
    for trigger in (
        f'"{name}, on insert" AFTER INSERT {on} BEGIN {add} END',
        f'"{name}, on update" AFTER UPDATE {on} WHEN {changed} BEGIN {drop} {add} END',
        f'"{name}, on delete" AFTER DELETE {on} BEGIN {drop} END',
    ):
        connection.execute(f"CREATE TRIGGER {trigger}")


def _side_columns(index: Index) -> list[str]:
    """The columns of a side table, in the order that a search needs: what is equal first."""
    equal = [equal_column(number) for number in range(len(index.equal))]
    return [*equal, "element", *([] if index.order is None else ["ordered"]), "id"]


def _entries(index: Index, row: str, source: str = "") -> str:
    """The SELECT of a side table's rows for a document: each different element once.

    :param row: what the document's row is called.
    :param source: where that row comes from, with a comma behind it.
    """
    assert index.each is not None
    body = f"{row}.body"
    values = [value_at(path, body) for path in index.scalar_paths]
    equal, order = values[: len(index.equal)], values[len(index.equal) :]
    columns = ", ".join([*equal, "entry.value", *order, f"{row}.id"])
    elements = f"json_each({body}, {_json_path(index.each)}) AS entry"
    conditions = " AND ".join(["entry.type = 'text'", *map(_is_not_null, values)])
    return f"SELECT DISTINCT {columns} FROM {source}{elements} WHERE {conditions}"


def _is_not_null(value: str) -> str:
    return f"{value} IS NOT NULL"


def _json_path(path: str) -> str:
    keys = "".join(f'."{key}"' for key in path.split("."))
    return f"'${keys}'"


def _existing(connection: sqlite3.Connection) -> set[str]:
    rows: list[tuple[str]] = connection.execute("SELECT name FROM sqlite_schema").fetchall()
    return {name for (name,) in rows}
