"""A search as one SELECT, which begins at its position in the index and ends at its limit."""

# ruff: noqa: S608  the names in the SQL are those that Collection and Index have checked

from __future__ import annotations

from collections.abc import Sequence

from services.common.documents.api import Collection, Query
from services.common.documents.sqlite_schema import index_name, table, value_at
from services.common.documents.values import Scalar


def select(collection: Collection, query: Query) -> tuple[str, Sequence[Scalar]]:
    """The statement, whose rows are (id, revision, body), and its parameters."""
    index = query.index
    source = table(collection)
    if index.paths:
        # Makes a plan that would read the whole table an error instead of a surprise.
        source += f' INDEXED BY "{index_name(collection, index)}"'
    # As the index says it, so that SQLite sees that it may use the index.
    conditions = [f"{value_at(path)} IS NOT NULL" for path in index.paths]
    conditions += [f"{value_at(path)} = ?" for path in index.equal]
    order = None if index.order is None else value_at(index.order)
    limits, parameters = _limits(order, query)
    conditions += limits
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    direction = "DESC" if query.descending else "ASC"
    keys = ["id"] if order is None else [order, "id"]
    ordering = ", ".join(f"{key} {direction}" for key in keys)
    sql = f"SELECT id, revision, body FROM {source} {where} ORDER BY {ordering} LIMIT ?"
    return sql, [*query.equal, *parameters, query.limit]


def _limits(order: str | None, query: Query) -> tuple[list[str], list[Scalar]]:
    """The conditions of the order's bounds and of the cursor, and their parameters."""
    after = query.after
    beyond = "<" if query.descending else ">"
    if order is None:
        return ([], []) if after is None else ([f"id {beyond} ?"], [after.id])
    # A unary plus keeps a bound out of the index's use: the cursor is the better place to begin.
    plus = "" if after is None else "+"
    conditions: list[str] = []
    parameters: list[Scalar] = []
    if query.at_least is not None:
        conditions.append(f"{plus}{order} >= ?")
        parameters.append(query.at_least)
    if query.below is not None:
        conditions.append(f"{plus}{order} < ?")
        parameters.append(query.below)
    if after is not None and after.order is not None:
        conditions += [f"{order} {beyond}= ?", f"({order}, id) {beyond} (?, ?)"]
        parameters += [after.order, after.order, after.id]
    return conditions, parameters
