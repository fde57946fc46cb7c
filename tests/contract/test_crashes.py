"""Processes that die while they write, and databases that fail under those that do."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from services.common.documents import Documents
from tests.contract import writer
from tests.contract.conftest import Database
from tests.contract.writer import ENTRIES, GONE, REFUSED, THINGS, Entry, Thing, dies, entry_in

ROOT = Path(__file__).parents[2]

Start = Callable[..., Awaitable[Process]]


@pytest.fixture
async def start(database: Database) -> AsyncGenerator[Start]:
    """Runs writer.py on the database."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    async with AsyncExitStack() as ending:

        async def start(task: str, *arguments: str) -> Process:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(Path(writer.__file__)),
                task,
                database.url,
                database.name,
                *arguments,
                stdout=PIPE,
                env=environment,
            )
            ending.push_async_callback(kill, process)
            return process

        yield start


async def kill(process: Process) -> bytes:
    """Ends it as a crash would; gives the rest of what it has printed."""
    if process.returncode is None:
        process.kill()
    rest, _ = await process.communicate()
    return rest


class Acknowledgements:
    """What a writer has said so far: the last acknowledged state of each entry."""

    def __init__(self, process: Process) -> None:
        self.states: dict[str, int] = {}
        self.acknowledged = 0
        self.refused = 0
        self._process = process

    async def until(self, has_happened: Callable[[], bool]) -> None:
        """Listens until then."""
        assert self._process.stdout is not None
        while not has_happened():
            line = await self._process.stdout.readline()
            assert line, "the writer has ended"
            self._hear(line.decode())

    async def kill(self) -> None:
        """Kills the writer, and hears what it said last."""
        rest = await kill(self._process)
        for line in rest.decode().splitlines(keepends=True):
            if line.endswith("\n"):
                self._hear(line)

    def _hear(self, line: str) -> None:
        if line.strip() == REFUSED:
            self.refused += 1
            return
        entry_id, state = line.split()
        self.states[entry_id] = int(state)
        self.acknowledged += 1


async def check(database: Database, told: Acknowledgements) -> None:
    """All that was acknowledged is there, at most one write is further, and nothing is half."""
    entries = await Documents.open(database.store(), ENTRIES, Entry)
    page = await entries.find("by", limit=1_000_000)
    stored = {found.value.id: found.value for found in page.items}
    for entry in stored.values():
        assert entry == entry_in(entry.state, entry.id)
        assert entry.state - told.states.get(entry.id, 0) in {0, 1}
    gone = told.states.keys() - stored.keys()
    assert all(dies(entry_id) for entry_id in gone)
    assert {told.states[entry_id] for entry_id in gone} <= {GONE - 1, GONE}
    for state in range(1, GONE):
        marked = await entries.find("marked", equal=[f"state {state}"], limit=1_000_000)
        assert {found.value.id for found in marked.items} == {
            entry.id for entry in stored.values() if entry.state == state
        }
    await entries.insert(entry_in(1, "after"))


async def test_acknowledged_writes_survive_the_writers_death(
    database: Database, start: Start
) -> None:
    told = Acknowledgements(await start("write"))
    await told.until(lambda: told.acknowledged >= 200)
    await told.kill()
    await check(database, told)


async def test_writer_goes_on_after_an_outage(database: Database, start: Start) -> None:
    """The disk is full for a while, or the server is killed in mid-write and started again."""
    process = await start("write")
    told = Acknowledgements(process)
    await told.until(lambda: told.acknowledged >= 200)
    async with database.outage(process.pid):
        await told.until(lambda: told.refused > 0)
    before = told.acknowledged
    await told.until(lambda: told.acknowledged >= before + 200)
    await told.kill()
    await check(database, told)


async def test_processes_together_never_oversell(database: Database, start: Start) -> None:
    """Three processes open the same new database at once, and buy what this one puts into it."""
    things = await Documents.open(database.store(), THINGS, Thing)
    await things.insert(Thing(id="product", stock=300))
    buyers = [await start("buy", f"buyer{number}") for number in range(3)]
    outputs = [(await buyer.communicate())[0] for buyer in buyers]
    assert [buyer.returncode for buyer in buyers] == [0, 0, 0]
    assert sum(int(output) for output in outputs) == 300
    after = await things.get("product")
    assert after is not None
    assert (after.value.stock, after.revision, len(after.value.holds)) == (0, 301, 300)


async def test_processes_create_the_database_together(database: Database, start: Start) -> None:
    buyers = [await start("buy", f"{number}") for number in range(3)]
    outputs = [(await buyer.communicate())[0] for buyer in buyers]
    assert [buyer.returncode for buyer in buyers] == [0] * 3
    assert outputs == [b"0\n"] * 3  # there is nothing to buy
