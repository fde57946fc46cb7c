"""What services may rely on in a document store, whichever it is.

The tests beside this one go on with that: races, paging, crashes.
"""

import asyncio
import base64
import json
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, computed_field

from services.common.documents import (
    AlreadyExists,
    Collection,
    Documents,
    Index,
    RevisionConflict,
    Stored,
    StoreUnavailable,
    Updated,
)
from services.common.documents.values import Json
from services.common.errors import ConfigurationError, Kind, ShopError
from tests.contract.conftest import Database
from tests.contract.items import ITEMS, Item, Lease, found, insert_all, stored_item

# One document


async def test_inserted_document_is_read_back(items: Documents[Item]) -> None:
    item = Item(id="a", owner="bob", rank=1.5, text="x", lease=Lease(until=3))
    assert await items.insert(item) == Stored(item, 1)
    assert await items.get("a") == Stored(item, 1)
    assert await items.get("b") is None


async def test_many_are_read_at_once_by_id(items: Documents[Item]) -> None:
    await insert_all(items, [Item(id=f"{number}", stock=number) for number in range(5)])
    assert await items.get_many([]) == {}
    several = await items.get_many(["3", "missing", "1", "3"])
    assert {key: stored.value.stock for key, stored in several.items()} == {"1": 1, "3": 3}


async def test_second_insert_of_an_id_is_refused(items: Documents[Item]) -> None:
    await items.insert(Item(id="a", stock=1, email="a@example.org"))
    with pytest.raises(AlreadyExists) as caught:
        await items.insert(Item(id="a", stock=2, email="a@example.org"))
    assert (caught.value.kind, caught.value.code) == (Kind.CONFLICT, "already-exists")
    assert caught.value.index == "id"
    assert (await stored_item(items, "a")).value.stock == 1


async def test_unique_index_refuses_a_second_document(items: Documents[Item]) -> None:
    await items.insert(Item(id="a", email="a@example.org"))
    await items.insert(Item(id="b", email="b@example.org"))
    await items.insert(Item(id="c"))
    await items.insert(Item(id="d"))  # missing values are not equal
    with pytest.raises(AlreadyExists) as caught:
        await items.insert(Item(id="e", email="a@example.org"))
    assert caught.value.index == "by_email"
    assert await items.get("e") is None

    b = await stored_item(items, "b")
    with pytest.raises(AlreadyExists):
        await items.replace(b, b.value.model_copy(update={"email": "a@example.org"}))
    with pytest.raises(AlreadyExists):
        await items.increment("b", {"stock": 1}, put={"email": "a@example.org"})
    assert await items.get("b") == b
    await items.delete(await stored_item(items, "a"))
    await items.insert(Item(id="e", email="a@example.org"))
    assert await found(items, "by_email", equal=["a@example.org"]) == ["e"]


async def test_adding_says_whether_there_was_one(items: Documents[Item]) -> None:
    item = Item(id="a", email="a@example.org")
    assert await items.add(item) == Stored(item, 1)
    assert await items.add(Item(id="a", stock=2)) is None
    assert await items.add(Item(id="b", email="a@example.org")) is None
    assert await items.get("a") == Stored(item, 1)


async def test_update_writes_only_what_differs(items: Documents[Item]) -> None:
    def of_bob(item: Item) -> Item:
        return Item(id=item.id, owner="bob")

    await items.insert(Item(id="a"))
    written = Updated(Stored(Item(id="a", owner="bob"), 2), is_written=True)
    assert await items.update("a", of_bob) == written
    assert await items.update("a", of_bob) == Updated(written.stored, is_written=False)
    assert await items.update("b", of_bob) is None


async def test_upsert_makes_what_is_missing(items: Documents[Item]) -> None:
    def kept_or_made(item: Item | None) -> Item:
        return item or Item(id="a", email="a@example.org")

    made = Stored(Item(id="a", email="a@example.org"), 1)
    assert await items.upsert("a", kept_or_made) == Updated(made, is_written=True)
    assert await items.upsert("a", kept_or_made) == Updated(made, is_written=False)
    with pytest.raises(AlreadyExists):
        await items.upsert("b", lambda _: Item(id="b", email="a@example.org"))


async def test_what_is_unwanted_is_removed(items: Documents[Item]) -> None:
    await items.insert(Item(id="a", owner="bob"))
    await items.remove("a", lambda item: item.owner == "ada")
    assert await items.get("a") is not None
    await items.remove("a", lambda item: item.owner == "bob")
    await items.remove("a")
    assert await items.get("a") is None


async def test_each_goes_on_to_the_last_page(items: Documents[Item]) -> None:
    await insert_all(items, [Item(id=f"{n:03}", rank=n % 300) for n in range(420)])
    ids = [stored.value.id async for stored in items.each("all")]
    assert ids == [f"{n:03}" for n in range(420)]
    some = items.each("by_owner", equal=["ada"], at_least=118, below=120)
    assert [stored.value.id async for stored in some] == ["118", "418", "119", "419"]


async def test_due_is_what_has_come_and_what_no_right_clock_has_written(
    items: Documents[Item],
) -> None:
    await insert_all(items, [Item(id=f"{n}", lease=Lease(until=n)) for n in (8, 9, 10, 11, 20, 21)])

    async def due(limit: int, longest_pause_ms: int | None = None) -> list[str]:
        found = await items.due("due", 10, limit, longest_pause_ms=longest_pause_ms)
        return [stored.value.id for stored in found]

    assert await due(9) == ["8", "9", "10"]
    assert await due(2) == ["8", "9"]
    assert await due(9, longest_pause_ms=10) == ["8", "9", "10", "21"]


async def test_replace_needs_the_latest_revision(items: Documents[Item]) -> None:
    first = await items.insert(Item(id="a", stock=1))
    second = await items.replace(first, Item(id="a", stock=2))
    assert second == Stored(Item(id="a", stock=2), 2) == await items.get("a")
    with pytest.raises(RevisionConflict) as caught:
        await items.replace(first, Item(id="a", stock=3))
    assert (caught.value.kind, caught.value.code) == (Kind.CONFLICT, "revision-conflict")
    assert await items.get("a") == second
    await items.delete(second)
    with pytest.raises(RevisionConflict):
        await items.replace(second, Item(id="a"))
    assert await items.get("a") is None
    with pytest.raises(ValueError, match="never changes"):
        await items.replace(second, Item(id="b"))


async def test_delete_needs_the_latest_revision(items: Documents[Item]) -> None:
    first = await items.insert(Item(id="a"))
    second = await items.replace(first, Item(id="a", stock=1))
    with pytest.raises(RevisionConflict):
        await items.delete(first)
    await items.delete(second)
    assert await items.get("a") is None
    with pytest.raises(RevisionConflict):
        await items.delete(second)


# The guarded increment


async def test_increment_changes_several_things_in_one_step(items: Documents[Item]) -> None:
    await items.insert(Item(id="a", stock=5, holds={"old": 1}, note="n"))
    after = await items.increment(
        "a", {"stock": -2, "holds.new": 2}, put={"extra": {"by": ["x"]}}, remove=["holds.old"]
    )
    expected = Item(id="a", stock=3, holds={"new": 2}, note="n", extra={"by": ["x"]})
    assert after == Stored(expected, 2) == await items.get("a")


async def test_increment_of_what_is_not_there_gives_none(items: Documents[Item]) -> None:
    assert await items.increment("a", {"stock": 1}) is None
    assert await items.get("a") is None


@pytest.mark.parametrize(
    ("by", "at_least", "holds"),
    [
        ({"stock": -5}, {"stock": 0}, True),  # the value after the increment counts
        ({"stock": -6}, {"stock": 0}, False),
        ({"stock": 1}, {"stock": 6}, True),
        ({"stock": 1}, {"stock": 7}, False),
        ({"note_count": 1}, {"stock": 5}, True),  # a counter that the increment leaves alone
        ({"note_count": 1}, {"stock": 6}, False),
        ({"holds.new": 2}, {"holds.new": 2}, True),  # a missing counter is zero
        ({"holds.new": 2}, {"holds.new": 3}, False),
        ({"holds.new": -1}, {"holds.new": 0}, False),
        ({"holds.new": -1}, {"holds.new": -1}, True),
        ({"stock": -1, "holds.old": -1}, {"stock": 0, "holds.old": 0}, True),
        ({"stock": -1, "holds.old": -2}, {"stock": 0, "holds.old": 0}, False),
    ],
)
async def test_at_least_guards_the_value_after_the_increment(
    database: Database, by: dict[str, int], at_least: dict[str, int], holds: bool
) -> None:
    class CountedItem(Item):
        note_count: int = 0

    items = await Documents.open(database.store(), ITEMS, CountedItem)
    before = await items.insert(CountedItem(id="a", stock=5, holds={"old": 1}))
    after = await items.increment("a", by, at_least=at_least)
    assert (after is not None) is holds
    assert await items.get("a") == (after or before)


@pytest.mark.parametrize(
    ("guards", "holds"),
    [
        ({"present": ["note"]}, True),
        ({"present": ["text"]}, False),  # null is missing
        ({"present": ["holds.old"]}, True),
        ({"present": ["holds.new"]}, False),
        ({"present": ["lease.until"]}, False),  # the way there is missing
        ({"present": ["note", "holds.new"]}, False),
        ({"absent": ["note"]}, False),
        ({"absent": ["text"]}, True),
        ({"absent": ["holds.old"]}, False),
        ({"absent": ["holds.new"]}, True),
        ({"absent": ["lease.until"]}, True),
        ({"absent": ["holds.new", "note"]}, False),
        ({"present": ["note"], "absent": ["note"]}, False),
        ({"present": ["stock"], "absent": ["text"], "at_least": {"stock": 6}}, True),
        ({"present": ["stock"], "absent": ["text"], "at_least": {"stock": 7}}, False),
    ],
)
async def test_present_and_absent_guard_the_increment(
    items: Documents[Item], guards: dict[str, Any], holds: bool
) -> None:
    before = await items.insert(Item(id="a", stock=5, holds={"old": 1}, note=""))
    after = await items.increment("a", {"stock": 1}, **guards)
    assert after == (Stored(before.value.model_copy(update={"stock": 6}), 2) if holds else None)
    assert await items.get("a") == (after or before)


async def test_increment_keeps_the_indexes_right(items: Documents[Item]) -> None:
    await items.insert(Item(id="a", rank=1, text="x", lease=Lease(until=5)))
    await items.increment("a", {"rank": 1}, put={"text": "z"}, remove=["lease"])
    assert await found(items, "by_owner", equal=["ada"], at_least=2) == ["a"]
    assert await found(items, "of_owner_with_text", equal=["ada", "x"]) == []
    assert await found(items, "by_text", at_least="z") == ["a"]
    assert await found(items, "due") == []


async def test_increment_that_does_not_fit_is_a_mistake(items: Documents[Item]) -> None:
    before = await items.insert(Item(id="a", note="n", stock=2**63 - 1, holds={"h": 1}))
    with pytest.raises(ValueError, match=r"integer|not fit"):
        await items.increment("a", {"note": 1})
    with pytest.raises(ValueError, match=r"integer|not fit"):
        await items.increment("a", {"rank": 1})  # null
    with pytest.raises(ValueError, match=r"64 bits|not fit"):
        await items.increment("a", {"stock": 1})
    with pytest.raises(ValueError, match=r"no object|not fit"):
        await items.increment("a", {}, put={"note.below": 1})
    with pytest.raises(ValueError, match="twice"):
        await items.increment("a", {"holds.h": 1}, put={"holds": {}})
    with pytest.raises(ValueError, match="never changes"):
        await items.increment("a", {}, put={"id": "b"})
    with pytest.raises(ValueError, match="key"):
        await items.increment("a", {"holds..h": 1})
    assert await items.get("a") == before


# Searching


async def test_search_is_by_equality_then_order_then_id(items: Documents[Item]) -> None:
    await insert_all(
        items,
        [
            Item(id="d", rank=2),
            Item(id="b", rank=10),
            Item(id="a", rank=10),
            Item(id="c", rank=-1.5),
            Item(id="e", rank=1, owner="bob"),
            Item(id="f"),  # no rank: not in the index
        ],
    )
    assert await found(items, "by_owner", equal=["ada"]) == ["c", "d", "a", "b"]
    down = await found(items, "by_owner", equal=["ada"], descending=True)
    assert down == ["b", "a", "d", "c"]
    assert await found(items, "by_owner", equal=["ada"], at_least=2) == ["d", "a", "b"]
    assert await found(items, "by_owner", equal=["ada"], below=10) == ["c", "d"]
    assert await found(items, "by_owner", equal=["ada"], at_least=-1.5, below=2) == ["c"]
    assert await found(items, "by_owner", equal=["nobody"]) == []
    assert await found(items, "of_owner", equal=["ada"]) == ["a", "b", "c", "d", "f"]
    assert await found(items, "all", descending=True) == ["f", "e", "d", "c", "b", "a"]


async def test_index_leaves_out_documents_without_its_values(items: Documents[Item]) -> None:
    await items.insert(Item(id="none"))
    await items.insert(Item(id="null", lease=Lease()))
    later = await items.insert(Item(id="later", lease=Lease(until=9)))
    await items.insert(Item(id="soon", lease=Lease(until=3)))
    assert await found(items, "due") == ["soon", "later"]
    assert await found(items, "due", below=9) == ["soon"]
    await items.replace(later, Item(id="later"))
    await items.increment("none", {}, put={"lease": {"until": 1}})
    assert await found(items, "due") == ["none", "soon"]


async def test_a_document_that_changes_moves_in_its_indexes(items: Documents[Item]) -> None:
    texts = {"a": "red", "b": "blue", "c": "red", "d": None}
    await insert_all(items, [Item(id=item_id, text=text) for item_id, text in texts.items()])
    await items.insert(Item(id="e", text="red", owner="bob"))
    red: dict[str, Any] = {"equal": ["ada", "red"], "page_size": 1}
    assert await found(items, "of_owner_with_text", **red) == ["a", "c"]
    await items.delete(await stored_item(items, "c"))
    a = await stored_item(items, "a")
    await items.replace(a, a.value.model_copy(update={"text": "green", "owner": "bob"}))
    assert await found(items, "of_owner_with_text", **red) == []
    assert await found(items, "of_owner_with_text", equal=["bob", "green"]) == ["a"]


async def test_strings_are_ordered_by_code_point(items: Documents[Item]) -> None:
    texts = [
        "",
        "A",
        "Z",
        "a",
        "a b",
        "ab",
        "ä",
        "\u00e9",
        "e\u0301",
        "\ufffd",
        "\U0001f600",
        "\U0001d538",
        "日本",
    ]
    await insert_all(items, [Item(id=f"{n}", text=text) for n, text in enumerate(texts)])
    expected = [f"{n}" for n, _ in sorted(enumerate(texts), key=lambda entry: entry[1])]
    assert await found(items, "by_text") == expected
    assert await found(items, "by_text", at_least="a", below="b") == ["3", "4", "5"]


async def test_any_search_gives_what_a_plain_filter_gives(items: Documents[Item]) -> None:
    chance = random.Random(7)
    values = [
        Item(
            id=f"{chance.random():.6f}",
            owner=chance.choice(["ada", "bob"]),
            rank=chance.choice([None, *range(12)]),
        )
        for _ in range(120)
    ]
    await insert_all(items, values)
    for _ in range(60):
        owner = chance.choice(["ada", "bob"])
        low, high = chance.choice([None, chance.randrange(12)]), chance.choice([None, 9])
        search: dict[str, Any] = {"at_least": low, "below": high}
        search |= {"descending": chance.choice([True, False])}
        expected = [
            (value.rank, value.id)
            for value in values
            if value.rank is not None
            and value.owner == owner
            and (low is None or value.rank >= low)
            and (high is None or value.rank < high)
        ]
        expected.sort(reverse=search["descending"])
        search |= {"equal": [owner], "page_size": chance.randrange(1, 9)}
        ids = await found(items, "by_owner", **search)
        assert ids == [item_id for _, item_id in expected], search


async def test_limit_is_the_size_of_a_page(items: Documents[Item]) -> None:
    await insert_all(items, [Item(id=f"{number}", rank=number) for number in range(4)])
    page = await items.find("by_owner", equal=["ada"], limit=4)
    assert (len(page.items), page.next_cursor) == (4, None)
    page = await items.find("by_owner", equal=["ada"], limit=3)
    assert len(page.items) == 3
    rest = await items.find("by_owner", equal=["ada"], limit=3, cursor=page.next_cursor)
    assert ([stored.value.id for stored in rest.items], rest.next_cursor) == (["3"], None)


def cursor_of(*parts: Json) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "not a cursor",
        "ünicode",
        "\ud800",
        "bm90IGpzb24",
        "A" * 10_000,
        base64.urlsafe_b64encode(b"[" * 100_000).decode(),
        base64.urlsafe_b64encode(b'["by_owner",false,NaN,"a"]').decode(),
        base64.urlsafe_b64encode(b'["by_owner",false,1e999,"a"]').decode(),
        base64.urlsafe_b64encode(b'["by_owner",false,1,"\\ud800"]').decode(),
        cursor_of("by_owner", False, 2**64, "a"),
        cursor_of("by_owner", False, True, "a"),
        cursor_of("by_owner", False, {"$gt": 0}, "a"),
        cursor_of("by_owner", False, None, "a"),
        cursor_of("by_owner", False, 1, 2),
        cursor_of("by_owner", False, 1),
        cursor_of("by_owner", True, 1, "a"),  # of a search in the other direction
        cursor_of("due", False, 1, "a"),  # of another search
    ],
)
async def test_malformed_cursor_is_invalid(items: Documents[Item], cursor: str) -> None:
    with pytest.raises(ShopError) as caught:
        await items.find("by_owner", equal=["ada"], cursor=cursor)
    assert (caught.value.kind, caught.value.code) == (Kind.INVALID, "invalid-cursor")


async def test_forged_cursor_does_not_widen_the_search(items: Documents[Item]) -> None:
    await insert_all(items, [Item(id=f"{number}", rank=number) for number in range(4)])
    await items.insert(Item(id="foreign", rank=2, owner="bob"))
    for order in (-100, "text", 1.5):
        cursor = cursor_of("by_owner", False, order, "")
        page = await items.find("by_owner", equal=["ada"], at_least=2, below=3, cursor=cursor)
        assert {stored.value.id for stored in page.items} <= {"2"}


@pytest.mark.parametrize(
    ("index", "search", "complaint"),
    [
        ("unheard_of", {}, "declares no index"),
        ("by_owner", {}, "needs 1 equal"),
        ("by_owner", {"equal": ["ada", "bob"]}, "needs 1 equal"),
        ("of_owner", {"equal": ["ada"], "at_least": 1}, "no order"),
        ("due", {"limit": 0}, "limit"),
        ("by_text", {"at_least": "\ud800"}, "surrogate"),
        ("due", {"below": 2**63}, "64 bits"),
    ],
)
async def test_search_that_does_not_fit_its_index_is_a_mistake(
    items: Documents[Item], index: str, search: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        await items.find(index, **search)


# Values


class Colour(StrEnum):
    RED = "red"


class Rich(BaseModel):
    model_config = ConfigDict(extra="forbid")

    id: str
    at: datetime
    colour: Colour
    pair: tuple[int, str]
    amount: int = Field(strict=True)
    anything: dict[str, Any]

    @computed_field
    @property
    def label(self) -> str:
        return f"{self.colour} {self.amount}"


async def test_values_come_back_as_they_were(database: Database) -> None:
    riches = await Documents.open(database.store(), Collection("riches"), Rich)
    anything: dict[str, Any] = {
        "text": "Zoë 日本 😀 \u202e <script>&\"'\\ \n\t\0 \x7f",
        "null": None,
        "true": True,
        "no": False,
        "zero": 0,
        "float": 1.0,
        "tenth": 0.1,
        "tiny": 5e-324,
        "2**53+1": 2**53 + 1,
        "largest": 2**63 - 1,
        "smallest": -(2**63),
        "list": [1, "a", None, [], {}, [[{"deep": [1.5]}]]],
        "key with spaces, ünïcode and 'quotes' \"": 1,
        "0": "digit",
    }
    rich = Rich(
        id="ü/😀 '\"%",
        at=datetime(2026, 11, 23, 22, 5, 1, 123456, tzinfo=UTC),
        colour=Colour.RED,
        pair=(1, "x"),
        amount=2**62,
        anything=anything,
    )
    await riches.insert(rich)
    stored = await riches.get(rich.id)
    assert stored is not None
    assert stored.value == rich
    assert type(stored.value.amount) is int
    assert json.dumps(stored.value.anything) == json.dumps(anything)  # order of keys and types too


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (2**63, "64 bits"),
        (-(2**63) - 1, "64 bits"),
        ("\ud800", "surrogate"),
        ({"a.b": 1}, "key"),
        ({"$set": 1}, "key"),
        ({"": 1}, "key"),
        ({"a\0": 1}, "key"),
    ],
)
async def test_values_that_not_both_stores_can_hold_are_refused(
    items: Documents[Item], value: Any, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        await items.insert(Item(id="a", extra={"below": [value]}))
    await items.insert(Item(id="b"))
    with pytest.raises(ValueError, match=complaint):
        await items.increment("b", {}, put={"extra.below": value})
    assert await items.get("a") is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
async def test_numbers_that_json_lacks_are_refused(items: Documents[Item], value: float) -> None:
    await items.insert(Item(id="a"))
    with pytest.raises(ValueError, match="not a JSON number"):
        await items.increment("a", {}, put={"rank": value})
    with pytest.raises(ValueError, match="not a JSON number"):
        await items.insert(Item(id="b", rank=value))


@pytest.mark.parametrize(("levels", "fits"), [(60, True), (70, False)])
async def test_nesting_is_bounded(items: Documents[Item], levels: int, fits: bool) -> None:
    deep: dict[str, Any] = {}
    for _ in range(levels):
        deep = {"below": deep}
    if fits:
        await items.insert(Item(id="a", extra=deep))
        assert (await stored_item(items, "a")).value.extra == deep
    else:
        with pytest.raises(ValueError, match="deep"):
            await items.insert(Item(id="a", extra=deep))


async def test_indexed_strings_contain_no_nul(items: Documents[Item]) -> None:
    with pytest.raises(ValueError, match="NUL"):
        await items.insert(Item(id="a", text="a\0b"))
    await items.insert(Item(id="a", text="a", note="a\0b"))
    with pytest.raises(ValueError, match="NUL"):
        await items.increment("a", {}, put={"lease": {"until": "a\0b"}})
    assert await found(items, "by_text", at_least="a\0b") == []
    assert await items.get_many(["a\0b", "a\0"]) == {}
    assert (await stored_item(items, "a")).value.note == "a\0b"


# The store as a whole


async def test_data_survives_reopening(database: Database) -> None:
    store = database.store()
    items = await Documents.open(store, ITEMS, Item)
    written = await items.insert(Item(id="a", rank=1, text="t"))
    await store.close()
    again = await Documents.open(database.store(), ITEMS, Item)
    assert await again.get("a") == written
    assert await found(again, "by_text") == ["a"]


async def test_closed_store_is_unavailable(database: Database) -> None:
    store = database.store()
    items = await Documents.open(store, ITEMS, Item)
    await store.close()
    await store.close()
    with pytest.raises(StoreUnavailable):
        await items.get("a")
    with pytest.raises(StoreUnavailable):
        await items.insert(Item(id="a"))
    with pytest.raises(StoreUnavailable):
        await store.ping()


async def test_collection_can_be_prepared_by_many_at_once(database: Database) -> None:
    """Each of eight stores twice, at once and then again."""
    stores = [database.store() for _ in range(8)]
    opened = await asyncio.gather(*(Documents.open(store, ITEMS, Item) for store in stores * 2))
    await asyncio.gather(*(items.insert(Item(id=f"{n:02}")) for n, items in enumerate(opened)))
    await stores[0].prepare(ITEMS)
    expected = [f"{n:02}" for n in range(16)]
    assert await found(opened[0], "of_owner", equal=["ada"]) == expected
    await stores[0].ping()


async def test_index_that_is_new_or_declared_otherwise_is_built(database: Database) -> None:
    items = await Documents.open(database.store(), Collection("items"), Item)
    await insert_all(items, [Item(id=f"{n}", rank=-n, stock=n) for n in range(3)])
    searches: list[tuple[Index, dict[str, Any], list[str]]] = [
        (Index("by", equal=("owner",)), {"equal": ["ada"]}, ["0", "1", "2", "3"]),
        (Index("renamed", equal=("owner",)), {"equal": ["ada"]}, ["0", "1", "2", "3"]),
        (Index("by", order="rank"), {}, ["2", "1", "0", "3"]),
        (Index("by", equal=("owner",), order="rank"), {"equal": ["ada"]}, ["2", "1", "0", "3"]),
        (Index("by", order="stock"), {}, ["3", "0", "1", "2"]),
    ]
    views: list[Documents[Item]] = []
    for index, search, expected in searches:
        declared = Collection("items", indexes=(index, replace(index, name="twice")))
        views.append(await Documents.open(database.store(), declared, Item))
        present = [item_id for item_id in expected if item_id != "3"]
        assert await found(views[-1], index.name, **search) == present
    await items.insert(Item(id="3", rank=1, stock=-1))
    for view, (index, search, expected) in zip(views, searches, strict=True):  # old ones work on
        assert await found(view, index.name, **search) == expected


async def test_unique_index_over_equal_documents_stops_the_start(database: Database) -> None:
    items = await Documents.open(database.store(), Collection("items"), Item)
    await insert_all(items, [Item(id=f"{n}", email="same@example.org") for n in range(2)])
    with pytest.raises(ConfigurationError, match="items"):
        await Documents.open(database.store(), ITEMS, Item)
    await items.delete(await stored_item(items, "0"))
    items = await Documents.open(database.store(), ITEMS, Item)
    assert await found(items, "by_email", equal=["same@example.org"]) == ["1"]


async def test_cancelled_writes_leave_the_store_usable(items: Documents[Item]) -> None:
    """Cancelled at each of many moments: a write has happened or not, and never blocks the next."""
    await items.insert(Item(id="a"))
    finished = 0
    for turns in range(40):
        tasks = [asyncio.create_task(items.increment("a", {"stock": 1})) for _ in range(4)]
        for _ in range(turns // 4):
            await asyncio.sleep(0)
        for task in tasks[:3]:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(outcomes[3], Stored)
        finished += sum(isinstance(outcome, Stored) for outcome in outcomes)
    after = await stored_item(items, "a")
    assert finished <= after.value.stock <= 160
    assert after.revision == after.value.stock + 1
    assert await items.insert(Item(id="b", rank=1)) == await items.get("b")


MALFORMED: dict[str, Callable[[], object]] = {
    "path": lambda: Index("by", order="a'b"),
    "name": lambda: Index('b"y'),
    "path twice": lambda: Index("by", equal=("a",), order="a"),
    "unique without equal": lambda: Index("by", order="a", unique=True),
    "collection": lambda: Collection("items; --"),
    "index twice": lambda: Collection("items", indexes=(Index("by"), Index("by"))),
}


@pytest.mark.parametrize("declaration", MALFORMED)
def test_malformed_declaration_is_a_mistake(declaration: str) -> None:
    with pytest.raises(ValueError, match=r"does not match|twice|only there"):
        MALFORMED[declaration]()
