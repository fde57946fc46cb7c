"""A search as one SELECT, which starts at its place in the index and ends at its limit."""

# ruff: noqa: S608  the names in the SQL are those that Collection and Index have checked

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.common.documents.api import Collection, Query
from services.common.documents.sqlite_schema import equal_column, index_name, table, value_at
from services.common.documents.values import Scalar


@dataclass(slots=True)
class _Select:
    """A SELECT in the making: where it looks, and how the index's values are called there."""

    source: str
    document_id: str
    equal: list[str]
    order: str | None
    conditions: list[str] = field(default_factory=list[str])
    parameters: list[Scalar] = field(default_factory=list[Scalar])

    def where(self, condition: str, *parameters: Scalar) -> None:
        self.conditions.append(condition)
        self.parameters.extend(parameters)


def select(collection: Collection, query: Query) -> tuple[str, Sequence[Scalar]]:
    """The statement, whose rows are (id, revision, body), and its parameters."""
    build = _by_value if query.index.each is None else _by_element
    made = build(collection, query)
    for expression, value in zip(made.equal, query.equal, strict=True):
        made.where(f"{expression} = ?", value)
    _limit_order(made, query)
    direction = "DESC" if query.descending else "ASC"
    order = [made.document_id] if made.order is None else [made.order, made.document_id]
    ordering = ", ".join(f"{expression} {direction}" for expression in order)
    where = f"WHERE {' AND '.join(made.conditions)}" if made.conditions else ""
    sql = (
        f"SELECT document.id, revision, document.body FROM {made.source} {where} "
        f"ORDER BY {ordering} LIMIT ?"
    )
    return sql, [*made.parameters, query.limit]


def _by_value(collection: Collection, query: Query) -> _Select:
    """On an expression index."""
    index = query.index
    source = f"{table(collection)} AS document"
    if index.paths:
        # Makes a plan that would read the whole table an error instead of a surprise.
        source += f' INDEXED BY "{index_name(collection, index)}"'
    made = _Select(
        source,
        document_id="document.id",
        equal=[value_at(path, "document.body") for path in index.equal],
        order=None if index.order is None else value_at(index.order, "document.body"),
    )
    for path in index.scalar_paths:
        # As the index says it, so that SQLite sees that it may use the index.
        made.where(f"{value_at(path, 'document.body')} IS NOT NULL")
    return made


def _by_element(collection: Collection, query: Query) -> _Select:
    """On the side table of an index with ``each``: read at one string, probed for the others."""
    index = query.index
    side = f'"{index_name(collection, index)}"'
    made = _Select(
        # CROSS JOIN keeps SQLite from beginning with the other table.
        f"{side} AS entry CROSS JOIN {table(collection)} AS document ON document.id = entry.id",
        document_id="entry.id",
        equal=[f"entry.{equal_column(number)}" for number in range(len(index.equal))],
        order=None if index.order is None else "entry.ordered",
    )
    first, *others = query.contains
    made.where("entry.element = ?", first)
    columns = [equal_column(number) for number in range(len(index.equal))]
    columns += ["id"] if index.order is None else ["ordered", "id"]
    same = " AND ".join(f"other.{column} = entry.{column}" for column in columns)
    for other in others:
        made.where(
            f"EXISTS (SELECT 1 FROM {side} AS other WHERE other.element = ? AND {same})", other
        )
    return made


def _limit_order(made: _Select, query: Query) -> None:
    after = query.after
    beyond = "<" if query.descending else ">"
    if made.order is None:
        if after is not None:
            made.where(f"{made.document_id} {beyond} ?", after.id)
        return
    # A unary plus keeps a bound out of the index's use: the cursor is the better place to begin.
    plus = "" if after is None else "+"
    if query.at_least is not None:
        made.where(f"{plus}{made.order} >= ?", query.at_least)
    if query.below is not None:
        made.where(f"{plus}{made.order} < ?", query.below)
    if after is not None and after.order is not None:
        made.where(f"{made.order} {beyond}= ?", after.order)
        made.where(f"({made.order}, {made.document_id}) {beyond} (?, ?)", after.order, after.id)
