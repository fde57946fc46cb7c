"""Fifty at once: what many do to the same documents at the same time, through two stores."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from services.common.documents import AlreadyExists, Documents, RevisionConflict, Stored
from tests.contract.conftest import Database
from tests.contract.items import ITEMS, Item, insert_all, stored_item

RACERS = 50
_PATIENCE_SECONDS = 60.0

Outcome = Stored[Item] | BaseException | None
Attempt = Callable[[Documents[Item], int], Awaitable[Stored[Item] | None]]


@pytest.fixture
async def both(database: Database) -> list[Documents[Item]]:
    """Two stores on one database, as two processes have. Their time limit is long: on a slow
    machine the last of fifty waits for longer than a service would.
    """
    stores = [database.store(timeout_seconds=_PATIENCE_SECONDS) for _ in range(2)]
    return [await Documents.open(store, ITEMS, Item) for store in stores]


async def race(both: list[Documents[Item]], attempt: Attempt) -> list[Outcome]:
    """What came of each attempt, all of them at once; each is told its number."""
    return await asyncio.gather(
        *(attempt(both[number % 2], number) for number in range(RACERS)), return_exceptions=True
    )


def the_winner(outcomes: list[Outcome], losers: type[Exception]) -> int:
    """The number of the one that did not lose."""
    kinds = Counter(type(outcome) for outcome in outcomes)
    assert kinds[losers] == RACERS - 1, kinds
    (winner,) = (n for n, outcome in enumerate(outcomes) if not isinstance(outcome, losers))
    assert not isinstance(outcomes[winner], BaseException)
    return winner


async def test_one_of_many_inserts_an_id(both: list[Documents[Item]]) -> None:
    outcomes = await race(both, lambda items, n: items.insert(Item(id="a", stock=n)))
    winner = the_winner(outcomes, AlreadyExists)
    assert {outcome.index for outcome in outcomes if isinstance(outcome, AlreadyExists)} == {"id"}
    assert await both[0].get("a") == outcomes[winner] == Stored(Item(id="a", stock=winner), 1)


async def test_one_of_many_inserts_a_unique_value(both: list[Documents[Item]]) -> None:
    outcomes = await race(both, lambda items, n: items.insert(Item(id=f"{n}", email="a@b.org")))
    winner = the_winner(outcomes, AlreadyExists)
    complaints = {outcome.index for outcome in outcomes if isinstance(outcome, AlreadyExists)}
    assert complaints == {"by_email"}
    assert (await both[0].get_many(map(str, range(RACERS)))).keys() == {f"{winner}"}


@pytest.mark.parametrize("by", ["replace", "increment"])
async def test_one_of_many_changes_to_a_unique_value(both: list[Documents[Item]], by: str) -> None:
    before = [Item(id=f"{n}", email=f"{n}@b.org") for n in range(RACERS)]
    await insert_all(both[0], before)

    async def change(items: Documents[Item], n: int) -> Stored[Item] | None:
        if by == "increment":
            return await items.increment(f"{n}", {}, put={"email": "a@b.org"})
        return await items.replace(Stored(before[n], 1), Item(id=f"{n}", email="a@b.org"))

    winner = the_winner(await race(both, change), AlreadyExists)
    after = await both[1].get_many(map(str, range(RACERS)))
    assert {item_id: stored.value.email for item_id, stored in after.items()} == {
        f"{n}": "a@b.org" if n == winner else f"{n}@b.org" for n in range(RACERS)
    }


async def test_one_of_many_replaces_a_state(both: list[Documents[Item]]) -> None:
    before = await both[0].insert(Item(id="a"))
    outcomes = await race(both, lambda items, n: items.replace(before, Item(id="a", stock=n)))
    winner = the_winner(outcomes, RevisionConflict)
    assert await both[0].get("a") == outcomes[winner] == Stored(Item(id="a", stock=winner), 2)


async def test_one_of_many_deletes_a_state(both: list[Documents[Item]]) -> None:
    before = await both[0].insert(Item(id="a"))

    async def delete(items: Documents[Item], n: int) -> None:
        await items.delete(before)

    the_winner(await race(both, delete), RevisionConflict)
    assert await both[0].get("a") is None


async def test_updates_lose_nothing(both: list[Documents[Item]]) -> None:
    def one_more(item: Item | None) -> Item:
        return Item(id="a", stock=item.stock + 1 if item else 1)

    async def add_one(items: Documents[Item], n: int) -> Stored[Item]:
        return (await items.upsert("a", one_more)).stored

    outcomes = await race(both, add_one)
    assert [outcome for outcome in outcomes if not isinstance(outcome, Stored)] == []
    assert await both[1].get("a") == Stored(Item(id="a", stock=RACERS), RACERS)


async def test_increments_never_pass_the_floor(both: list[Documents[Item]]) -> None:
    """Every counter below zero would be an oversold product."""
    await both[0].insert(Item(id="a", stock=30))
    outcomes = await race(
        both,
        lambda items, n: items.increment(
            "a", {"stock": -1}, at_least={"stock": 0}, put={f"holds.o{n}": 1}
        ),
    )
    won = [outcome for outcome in outcomes if isinstance(outcome, Stored)]
    assert sorted(stored.value.stock for stored in won) == list(range(30))
    assert outcomes.count(None) == RACERS - 30
    after = await stored_item(both[1], "a")
    assert (after.value.stock, after.revision, len(after.value.holds)) == (0, 31, 30)


async def test_increment_under_one_key_happens_once(both: list[Documents[Item]]) -> None:
    await both[0].insert(Item(id="a", stock=30))
    outcomes = await race(
        both,
        lambda items, n: items.increment(
            "a", {"stock": -1}, absent=["holds.key"], put={"holds.key": n}
        ),
    )
    (won,) = (outcome for outcome in outcomes if outcome is not None)
    assert won == await both[1].get("a")
    assert (await stored_item(both[0], "a")).value.stock == 29


async def test_what_is_done_to_one_document_has_one_order(both: list[Documents[Item]]) -> None:
    """Increments beside replaces and a delete of the first state: each sees all before it."""
    for round_number in range(5):
        item = Item(id=f"{round_number}")
        before = await both[0].insert(item)

        async def change(
            items: Documents[Item], n: int, before: Stored[Item] = before
        ) -> Stored[Item] | None:
            if n % 5 == 0:
                return await items.replace(before, before.value.model_copy(update={"note": "n"}))
            if n == RACERS - 1:
                return await items.delete(before)
            return await items.increment(before.value.id, {"stock": 1})

        outcomes = await race(both, change)
        changes = [outcome for outcome in outcomes if isinstance(outcome, Stored)]
        assert sorted(stored.revision for stored in changes) == list(range(2, len(changes) + 2))
        refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        assert all(isinstance(outcome, RevisionConflict) for outcome in refused), refused
        after = await both[1].get(item.id)
        if after is None:  # the delete came first
            assert changes == []
        else:
            assert after == max(changes, key=lambda stored: stored.revision)
            replaced = after.value.note == "n"
            assert after.value.stock == len(changes) - replaced
