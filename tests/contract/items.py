"""The documents that the contract is tried with."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from services.common.documents import Collection, Documents, Index, Stored

ITEMS = Collection(
    "items",
    indexes=(
        Index("all"),
        Index("by_email", equal=("email",), unique=True),
        Index("by_owner", equal=("owner",), order="rank"),
        Index("of_owner", equal=("owner",)),
        Index("due", order="lease.until"),
        Index("of_owner_with_text", equal=("owner", "text")),
        Index("by_text", order="text"),
    ),
)


class Lease(BaseModel):
    until: int | None = None


class Item(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    owner: str = "ada"
    rank: int | float | None = None
    email: str | None = None
    text: str | None = None
    lease: Lease | None = None
    stock: int = 0
    holds: dict[str, int] = {}
    note: str | None = None
    extra: dict[str, Any] = {}


async def insert_all(items: Documents[Item], values: Sequence[Item]) -> None:
    await asyncio.gather(*(items.insert(value) for value in values))


async def found(items: Documents[Item], index: str, page_size: int = 3, **search: Any) -> list[str]:
    """The ids that a search gives, over all its pages."""
    ids: list[str] = []
    cursor: str | None = None
    while True:
        page = await items.find(index, **search, limit=page_size, cursor=cursor)
        assert len(page.items) == page_size or page.next_cursor is None
        ids += [stored.value.id for stored in page.items]
        if page.next_cursor is None:
            return ids
        cursor = page.next_cursor


async def stored_item(items: Documents[Item], item_id: str) -> Stored[Item]:
    stored = await items.get(item_id)
    assert stored is not None
    return stored
