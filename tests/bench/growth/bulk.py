"""Fills a store of a stopped shop as the shop itself would, but in one transaction."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

import orjson

from services.common.documents import Collection, DocumentModel
from services.common.documents.sqlite_schema import prepare, table
from services.order.model import ORDERS, Order, order_id_for

_MILLISECONDS_APART = 1000
_OWN_SHARE = 100


def insert_all(file: Path, collection: Collection, values: Iterable[DocumentModel]) -> None:
    """Inserts documents; their ids must be new."""
    sql = f"INSERT INTO {table(collection)} VALUES (?, 1, ?)"  # noqa: S608  a checked name
    rows = (
        (value.id, orjson.dumps(value.model_dump(mode="json", round_trip=True)).decode())
        for value in values
    )
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("BEGIN IMMEDIATE")
        prepare(connection, collection)
        connection.executemany(sql, rows)
        connection.execute("COMMIT")


def stored_orders(file: Path) -> list[Order]:
    """Returns all orders of a store, which may be in use."""
    sql = f"SELECT body FROM {table(ORDERS)}"  # noqa: S608  a checked name
    with contextlib.closing(sqlite3.connect(file)) as connection:
        rows: list[tuple[str]] = connection.execute(sql).fetchall()
    return [Order.model_validate_json(body) for (body,) in rows]


def orders_like(order: Order, count: int) -> Iterator[Order]:
    """Yields older copies of an order that is settled and whose customer is told. One in a hundred
    is the same customer's; the other customers have about a hundred each.
    """
    customers = max(1, count // _OWN_SHARE)
    for number in range(count):
        is_own = number % _OWN_SHARE == 0
        user_id = order.user_id if is_own else f"{order.user_id}-{number % customers}"
        yield order.model_copy(
            update={
                "id": order_id_for(user_id, f"bulk-{number}"),
                "user_id": user_id,
                "created_ms": order.created_ms - (number + 1) * _MILLISECONDS_APART,
            }
        )
