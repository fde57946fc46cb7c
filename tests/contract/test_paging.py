"""What going from page to page gives while documents come, change and go."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from services.common.documents import Documents, Stored
from tests.contract.conftest import Database
from tests.contract.items import ITEMS, Item, Lease, insert_all


@dataclass(frozen=True, slots=True)
class IndexSearch:
    """A search, and how to say the same of a document in Python.

    :param order: the value that it is sorted by; documents without one are not found.
    """

    arguments: Mapping[str, Any]
    order: Callable[[Item], float | None] = lambda _: 0
    matches: Callable[[Item], bool] = lambda _: True

    def place(self, item: Item) -> tuple[float, str] | None:
        """Where the item stands among the results; None when it is not one of them."""
        order = self.order(item)
        return None if order is None or not self.matches(item) else (order, item.id)


SEARCHES = {
    "all": IndexSearch({}),
    "of_owner": IndexSearch({"equal": ["ada"]}, matches=lambda item: item.owner == "ada"),
    "by_owner": IndexSearch(
        {"equal": ["ada"]}, lambda item: item.rank, lambda item: item.owner == "ada"
    ),
    "due": IndexSearch({}, lambda item: item.lease.until if item.lease else None),
    "of_owner_with_text": IndexSearch(
        {"equal": ["ada", "t"]}, matches=lambda item: item.owner == "ada" and item.text == "t"
    ),
}

each_search = pytest.mark.parametrize("index", SEARCHES)
both_directions = pytest.mark.parametrize("descending", [False, True])


def any_item(chance: random.Random, item_id: str) -> Item:
    """Values repeat, so that pages also end between documents with the same one."""
    return Item(
        id=item_id,
        owner=chance.choice(["ada", "ada", "ada", "bob"]),
        rank=chance.choice([None, *range(6)]),
        text=chance.choice(["t", "t", "t", "u", None]),
        lease=chance.choice([None, Lease(), *(Lease(until=n) for n in range(6))]),
    )


@each_search
@both_directions
async def test_page_holds_what_is_beyond_the_last_one(
    items: Documents[Item], index: str, descending: bool
) -> None:
    """Each page is the first of what is there when it is asked for, beyond the last one's end."""
    chance = random.Random(f"{index} {descending}")
    search = SEARCHES[index]
    values = [any_item(chance, f"{n:03}") for n in range(50)]
    await insert_all(items, values)
    there = {item.id: Stored(item, 1) for item in values}

    async def delete(item_id: str) -> None:
        await items.delete(there.pop(item_id))

    async def change_something() -> None:
        item = any_item(chance, chance.choice([*there, f"{chance.randrange(50):03}+"]))
        if item.id not in there:
            there[item.id] = await items.insert(item)
        elif chance.random() < 0.4:
            await delete(item.id)
        else:
            there[item.id] = await items.replace(there[item.id], item)

    end: tuple[float, str] | None = None
    cursor: str | None = None
    while True:
        page = await items.find(
            index, **search.arguments, limit=4, descending=descending, cursor=cursor
        )
        places = {
            place: stored for stored in there.values() if (place := search.place(stored.value))
        }
        ahead = sorted(
            place for place in places if end is None or (place < end if descending else place > end)
        )
        ahead = ahead[::-1] if descending else ahead
        assert page.items == [places[place] for place in ahead[:4]]
        cursor = page.next_cursor
        assert (cursor is None) == (len(ahead) <= 4)
        if cursor is None:
            return
        end = ahead[3]
        await delete(page.items[-1].value.id)  # a cursor needs nobody standing at its place
        for _ in range(5):
            await change_something()


@each_search
@both_directions
async def test_what_keeps_its_place_is_met_once(
    database: Database, index: str, descending: bool
) -> None:
    """Readers go through all pages, again and again, while writers change all the rest."""
    reading, writing = [await Documents.open(database.store(), ITEMS, Item) for _ in range(2)]
    lease = Lease(until=3)
    staying = [Item(id=f"{n:02}", rank=3, text="t", lease=lease) for n in range(0, 60, 3)]
    await insert_all(writing, staying)
    finished = asyncio.Event()

    async def keep_changing(seed: int) -> None:
        """One document comes, moves and goes, between the others; another changes in place."""
        chance = random.Random(seed)
        while not finished.is_set():
            item = Item(id=f"{chance.randrange(60):02}-{seed}", rank=3, text="t", lease=lease)
            stored = await writing.insert(item)
            moved = any_item(chance, item.id)
            await writing.delete(await writing.replace(stored, moved))
            await writing.increment(chance.choice(staying).id, {"stock": 1})

    async def read_through() -> list[str]:
        ids: list[str] = []
        cursor: str | None = None
        while True:
            page = await reading.find(
                index,
                **SEARCHES[index].arguments,
                limit=4,
                descending=descending,
                cursor=cursor,
            )
            ids += [stored.value.id for stored in page.items]
            cursor = page.next_cursor
            if cursor is None:
                return ids

    writers = [asyncio.create_task(keep_changing(seed)) for seed in range(4)]
    try:
        expected = sorted((item.id for item in staying), reverse=descending)
        for _ in range(2):
            for ids in await asyncio.gather(*(read_through() for _ in range(3))):
                assert [item_id for item_id in ids if "-" not in item_id] == expected
    finally:
        finished.set()
        await asyncio.gather(*writers)


@both_directions
@pytest.mark.parametrize("index", ["of_owner", "by_owner"])
async def test_a_search_goes_on_behind_any_of_its_results(
    items: Documents[Item], index: str, descending: bool
) -> None:
    await insert_all(items, [Item(id=f"item_{n}", rank=n % 3) for n in range(7)])
    everything = await items.find(index, equal=["ada"], descending=descending)
    cursor = items.cursor_behind(index, everything.items[2], descending=descending)
    rest = await items.find(index, equal=["ada"], descending=descending, cursor=cursor)
    assert rest.items == everything.items[3:]
