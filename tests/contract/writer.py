"""A process of its own that writes to a store, for tests that kill it, or what it writes to.

``buy URL DATABASE BUYER``   takes one from the stock until nothing is left; prints how many it got.
``write URL DATABASE``       writes entries for ever; prints each state once it is acknowledged.
"""

from __future__ import annotations

import asyncio
import sys
from itertools import count

from pydantic import BaseModel

from services.common.documents import (
    Collection,
    Documents,
    Index,
    StoreUnavailable,
    open_store,
)

THINGS = Collection("things", indexes=(Index("ranked", order="rank"),))
ENTRIES = Collection(
    "entries", indexes=(Index("marked", equal=("first",)), Index("by", order="state"))
)

# The states of an entry: inserted, replaced, incremented, deleted.
GONE = 4
REFUSED = "refused"

_FILLING = "x" * 3000


class Thing(BaseModel):
    id: str
    rank: int = 0
    filling: str = ""
    stock: int = 0
    holds: dict[str, int] = {}


class Entry(BaseModel):
    """Every write changes both ends."""

    id: str
    state: int
    first: str
    filling: str
    last: str


def entry_in(state: int, entry_id: str) -> Entry:
    """The one state that an entry may be in."""
    mark = f"state {state}"
    return Entry(id=entry_id, state=state, first=mark, filling=_FILLING, last=mark)


def dies(entry_id: str) -> bool:
    """Whether the entry's writer deletes it in the end: every other one of each writer's."""
    return int(entry_id.rpartition("-")[2]) % 2 == 0


async def buy(url: str, database: str, buyer: str) -> None:
    store = open_store(url, database)
    things = await Documents.open(store, THINGS, Thing)

    async def one_after_another(customer: str) -> int:
        for number in count():
            hold = f"holds.{customer}-{number}"
            bought = await things.increment(
                "product", {"stock": -1, hold: 1}, at_least={"stock": 0}, absent=[hold]
            )
            if bought is None:
                return number
        raise AssertionError

    numbers = await asyncio.gather(*(one_after_another(f"{buyer}-{n}") for n in range(4)))
    _say(f"{sum(numbers)}")
    await store.close()


async def write(url: str, database: str) -> None:
    entries = await Documents.open(open_store(url, database), ENTRIES, Entry)

    async def one_after_another(writer: int) -> None:
        for number in count():
            try:
                await _live(entries, f"{writer}-{number}")
            except StoreUnavailable:
                _say(REFUSED)

    await asyncio.gather(*(one_after_another(writer) for writer in range(4)))


async def _live(entries: Documents[Entry], entry_id: str) -> None:
    stored = await entries.insert(entry_in(1, entry_id))
    _say(f"{entry_id} 1")
    await entries.replace(stored, entry_in(2, entry_id))
    _say(f"{entry_id} 2")
    put = entry_in(3, entry_id).model_dump(include={"first", "last"})
    last = await entries.increment(entry_id, {"state": 1}, put=put)
    assert last is not None
    _say(f"{entry_id} 3")
    if dies(entry_id):
        await entries.delete(last)
        _say(f"{entry_id} {GONE}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    task, *arguments = sys.argv[1:]
    asyncio.run({"buy": buy, "write": write}[task](*arguments))
