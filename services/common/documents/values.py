"""JSON values that both stores can hold, and the dotted paths into them.

A value that only one of the stores could hold is refused: integers beyond 64 bits (those within
are exact, also above 2**53), NaN and infinities, lone surrogates, and keys that mean something to
MongoDB (with ``.``, or beginning with ``$``).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TypeAlias

Scalar: TypeAlias = str | int | float | bool
OrderValue: TypeAlias = str | int | float
Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Body: TypeAlias = "dict[str, Json]"

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1

# MongoDB nests to 100 levels; SQLite and Python's own recursion would allow more.
_MAX_DEPTH = 64


def check_json(value: Json, depth: int = 0) -> None:
    """Returns when both stores can hold the value and return it unchanged.

    :raises ValueError: they cannot.
    """
    if depth > _MAX_DEPTH:
        raise ValueError(f"the value is nested more than {_MAX_DEPTH} levels deep")
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is not a JSON number")
    elif isinstance(value, int):
        check_int64(value)
    elif isinstance(value, list):
        for element in value:
            check_json(element, depth + 1)
    elif isinstance(value, dict):
        for key, element in value.items():
            check_key(key)
            check_json(element, depth + 1)


def check_int64(value: int) -> int:
    """The same integer.

    :raises ValueError: it does not fit into 64 bits.
    """
    if not INT64_MIN <= value <= INT64_MAX:
        raise ValueError("an integer is outside 64 bits")
    return value


@lru_cache(maxsize=1024)  # most keys are names of fields
def check_key(key: str) -> None:
    """Returns when the string can be a key of an object, and so one segment of a path.

    :raises ValueError: it cannot.
    """
    if not key or key.startswith("$") or "." in key or "\0" in key:
        raise ValueError(f"the key {key!r} is empty, begins with $ or contains . or NUL")
    _check_text(key)


def segments(path: str) -> tuple[str, ...]:
    """The keys that a dotted path names.

    :raises ValueError: one of them cannot be a key.
    """
    keys = tuple(path.split("."))
    for key in keys:
        check_key(key)
    return keys


def lookup(body: Body, path: str, missing: Json = None) -> Json:
    """The value at a path; ``missing`` when there is none."""
    value: Json = body
    for key in path.split("."):
        if not isinstance(value, dict) or key not in value:
            return missing
        value = value[key]
    return value


def assign(body: Body, path: str, value: Json) -> None:
    """Puts a value at a path, making objects on the way.

    :raises ValueError: something on the way is there and is no object.
    """
    *way, last = path.split(".")
    for key in way:
        below = body.setdefault(key, {})
        if not isinstance(below, dict):
            raise ValueError(f"{path}: there is no object at {key}")
        body = below
    body[last] = value


def discard(body: Body, path: str) -> None:
    """Removes what is at a path, if anything."""
    *way, last = path.split(".")
    for key in way:
        below = body.get(key)
        if not isinstance(below, dict):
            return
        body = below
    body.pop(last, None)


def _check_text(text: str) -> None:
    if not text.isascii():
        text.encode()  # a lone surrogate raises UnicodeEncodeError, which is a ValueError
