"""The document store on SQLite: locks of others, files that fail, and the plans of searches."""

import asyncio
import resource
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.common.documents import Documents, SqliteStore, StoreUnavailable
from services.common.documents.api import Collection, Index, Position, Query
from services.common.documents.sqlite_find import select
from services.common.documents.sqlite_schema import prepare
from services.common.errors import Kind
from tests.contract.writer import THINGS, Thing


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "things.db", busy_timeout_seconds=0.2)
    yield store
    await store.close()


@pytest.fixture
async def things(store: SqliteStore) -> Documents[Thing]:
    return await Documents.open(store, THINGS, Thing)


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_others_lock_is_waited_for_then_given_up(
    things: Documents[Thing], tmp_path: Path
) -> None:
    before = await things.insert(Thing(id="a"))
    other = sqlite3.connect(tmp_path / "things.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writes = [asyncio.create_task(things.increment("a", {"stock": 1})) for _ in range(3)]
    assert await things.get("a") == before  # reading goes on
    for write in writes:
        with pytest.raises(StoreUnavailable) as caught:
            await write
        assert caught.value.kind is Kind.UNAVAILABLE
        assert isinstance(caught.value.__cause__, sqlite3.OperationalError)

    store = SqliteStore(tmp_path / "things.db", busy_timeout_seconds=10)
    patient = Documents(store, THINGS, Thing)
    write = asyncio.create_task(patient.increment("a", {"stock": 1}))
    other.execute("COMMIT")
    other.close()
    assert await write is not None
    await store.close()
    after = await things.increment("a", {"stock": 1})
    assert after is not None
    assert after.value.stock == 2


async def test_full_disk_is_unavailable_until_there_is_room(things: Documents[Thing]) -> None:
    acknowledged: list[str] = []

    async def fill() -> None:
        for number in range(200):
            await things.insert(Thing(id=f"{number}", filling="t" * 10_000))
            acknowledged.append(f"{number}")

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(StoreUnavailable):
            await fill()
        assert (await things.get_many(acknowledged)).keys() == set(acknowledged)
        with pytest.raises(StoreUnavailable):
            await things.insert(Thing(id="big", filling="t" * 200_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert acknowledged
    await things.insert(Thing(id="big", filling="t" * 200_000))
    assert (await things.get_many([*acknowledged, "big"])).keys() == {*acknowledged, "big"}


async def test_unusable_files_are_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("I am no folder.")
    (tmp_path / "corrupt.db").write_bytes(b"I am no database." * 1000)
    (tmp_path / "folder.db").mkdir()
    for path in ("file/things.db", "corrupt.db", "folder.db"):
        store = SqliteStore(tmp_path / path)
        things = Documents(store, THINGS, Thing)
        started = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await store.prepare(THINGS)
        with pytest.raises(StoreUnavailable):
            await store.ping()
        with pytest.raises(StoreUnavailable):
            await things.get("a")
        with pytest.raises(StoreUnavailable) as caught:
            await things.insert(Thing(id="a"))
        assert caught.value.__cause__ is not None
        assert str(tmp_path) not in caught.value.detail
        assert time.monotonic() - started < 2
        await store.close()


async def test_damaged_file_is_unavailable_until_it_is_whole(
    things: Documents[Thing], tmp_path: Path
) -> None:
    """As when the disk under it fails and comes back; without a new store."""
    ids = [f"{number}" for number in range(60)]
    for thing_id in ids:  # more than SQLite keeps in memory
        await things.insert(Thing(id=thing_id, filling=thing_id + "t" * 100_000))
    file = tmp_path / "things.db"
    other = sqlite3.connect(file)
    other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    other.close()
    whole = file.read_bytes()
    file.write_bytes(b"\xff" * len(whole))
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await things.get_many(ids)
    file.write_bytes(whole)
    assert (await things.get_many(ids)).keys() == set(ids)
    await things.insert(Thing(id="after"))


async def test_store_recovers_once_its_folder_can_be_made(tmp_path: Path) -> None:
    obstacle = tmp_path / "folder"
    obstacle.write_text("in the way")
    store = SqliteStore(obstacle / "things.db")
    with pytest.raises(StoreUnavailable):
        await store.ping()
    obstacle.unlink()
    things = await Documents.open(store, THINGS, Thing)
    await things.insert(Thing(id="a"))
    await store.close()


async def test_refused_write_leaves_its_batch_alone(store: SqliteStore) -> None:
    """Writes that wait together share a transaction; each stands or falls by itself."""
    unique = Collection("unique", indexes=(Index("by_rank", equal=("rank",), unique=True),))
    collection = Collection("unique", indexes=(*unique.indexes, *THINGS.indexes))
    things = await Documents.open(store, collection, Thing)
    outcomes = await asyncio.gather(
        *(things.insert(Thing(id=f"{n}", rank=n // 2)) for n in range(100)),
        *(things.increment("99", {"filling": 1}) for _ in range(3)),
        return_exceptions=True,
    )
    stored = [n for n, outcome in enumerate(outcomes) if not isinstance(outcome, BaseException)]
    assert len({n // 2 for n in stored if n < 100}) == 50 == len([n for n in stored if n < 100])
    page = await things.find("ranked", limit=1000)
    assert {item.value.id for item in page.items} == {f"{n}" for n in stored if n < 100}


async def test_failed_transaction_does_not_stay_open(store: SqliteStore) -> None:
    things = await Documents.open(store, THINGS, Thing)
    unprepared = Documents(store, Collection("unprepared"), Thing)
    for number in range(2):
        with pytest.raises(StoreUnavailable):
            await unprepared.insert(Thing(id="a"))
        with pytest.raises(StoreUnavailable):
            await unprepared.get("a")
        stored = await things.insert(Thing(id=f"{number}"))
        assert await things.get(f"{number}") == stored


async def test_closing_finishes_what_is_queued(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "things.db")
    things = await Documents.open(store, THINGS, Thing)
    writes = [asyncio.create_task(things.insert(Thing(id=f"{n}"))) for n in range(200)]
    await asyncio.sleep(0)  # the tasks run as far as the queue
    await store.close()
    await asyncio.gather(*writes)
    assert names_in(tmp_path) == ["things.db"]  # the log is merged and gone


SEARCHES = {
    "equal": Index("i", equal=("a.b", "c")),
    "equal by order": Index("i", equal=("a.b", "c"), order="d"),
    "order": Index("i", order="d"),
    "all": Index("i"),
}


@pytest.mark.parametrize("kind", SEARCHES)
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("later_page", [False, True])
async def test_search_reads_its_index_in_order(
    kind: str, descending: bool, later_page: bool
) -> None:
    """Its cost grows with the answer: nothing is sorted, and no table is read from end to end."""
    index = SEARCHES[kind]
    collection = Collection("things", indexes=(index, Index("other", equal=("c",), order="z")))
    query = Query(
        index,
        equal=("x",) * len(index.equal),
        at_least=1 if index.order else None,
        below=9 if index.order else None,
        descending=descending,
        limit=10,
        after=Position(5 if index.order else None, "id") if later_page else None,
    )
    connection = sqlite3.connect(":memory:", isolation_level=None)
    prepare(connection, collection)
    sql, parameters = select(collection, query)
    rows = connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters).fetchall()
    connection.close()
    plan = [str(row[3]) for row in rows]
    assert not [step for step in plan if "TEMP B-TREE" in step]
    scans = [step for step in plan if step.startswith("SCAN") and step != "SCAN CONSTANT ROW"]
    whole = kind == "all" and not later_page  # that one begins at the beginning
    assert scans == (["SCAN things USING INDEX sqlite_autoindex_things_1"] if whole else [])
    if later_page and index.order:
        beyond = "<" if descending else ">"
        assert f"{beyond}?)" in plan[0]
