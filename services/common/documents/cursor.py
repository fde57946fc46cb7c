"""Cursors: the end of a page, as an opaque string. A forged one only begins the search elsewhere.

The position is the last document's own (order value, id), not a count. So documents that are
added, deleted or moved neither shift nor repeat the following pages (keyset paging).
"""

from __future__ import annotations

import base64
import json

from services.common.documents.api import Index, Position
from services.common.documents.values import Json, check_json
from services.common.errors import InvalidCursor


def encode(index: Index, position: Position, *, descending: bool) -> str:
    """The cursor that continues behind a position."""
    parts = [index.name, descending, position.order, position.id]
    text = json.dumps(parts, separators=(",", ":"), ensure_ascii=False)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(index: Index, cursor: str, *, descending: bool) -> Position:
    """The position in a cursor.

    :raises InvalidCursor: it is none, or belongs to another search.
    """
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        parts: Json = json.loads(text)
        check_json(parts)
    except (ValueError, RecursionError) as error:
        raise InvalidCursor from error
    match parts:
        case [index.name, bool(direction), None, str(id)] if index.order is None:
            position = Position(None, id)
        case [index.name, bool(direction), str() | int() | float() as order, str(id)] if (
            index.order is not None
        ):
            position = Position(order, id)
        case _:
            raise InvalidCursor
    if direction != descending or isinstance(position.order, bool):
        raise InvalidCursor
    return position
