"""A service's process before it serves: what it waits for."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from pydantic import BaseModel

from services.common import host as host_module
from services.common.documents import (
    Collection,
    SqliteStore,
    StoreUnavailable,
    UserRefused,
)
from services.common.errors import ConfigurationError
from services.common.host import Host
from services.common.topology import load_topology
from tests.unit.common.kit import process_settings

THINGS = Collection("things")


class Thing(BaseModel):
    """Anything."""

    id: str


class LateStore(SqliteStore):
    """A database that is being started, and whose user is being made."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.refusals: list[Exception] = [StoreUnavailable(), UserRefused("Not yet.")]

    async def prepare(self, collection: Collection) -> None:
        if self.refusals:
            raise self.refusals.pop(0)
        await super().prepare(collection)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LateStore:
    store = LateStore(tmp_path / "order.db")

    def open_store(url: str, name: str) -> LateStore:
        return store

    monkeypatch.setattr(host_module, "open_store", open_store)
    return store


async def test_a_database_that_is_being_started_is_waited_for(store: LateStore) -> None:
    async with AsyncExitStack() as resources:
        settings = process_settings(database_wait_seconds=30.0)
        host = Host("order", load_topology(), settings, resources)
        things = await host.documents(THINGS, Thing)
        await things.insert(Thing(id="one"))
    assert not store.refusals


@pytest.mark.parametrize("refusal", [StoreUnavailable(), UserRefused("Who is that?")])
async def test_without_patience_the_start_ends_at_once(
    store: LateStore, refusal: Exception
) -> None:
    store.refusals = [refusal, refusal]
    async with AsyncExitStack() as resources:
        host = Host("order", load_topology(), process_settings(), resources)
        with pytest.raises(type(refusal)):
            await host.documents(THINGS, Thing)
    assert len(store.refusals) == 1


async def test_a_wrong_declaration_is_not_waited_for(store: LateStore) -> None:
    store.refusals = [ConfigurationError("Two are equal."), UserRefused("Not asked.")]
    async with AsyncExitStack() as resources:
        settings = process_settings(database_wait_seconds=30.0)
        host = Host("order", load_topology(), settings, resources)
        with pytest.raises(ConfigurationError, match="equal"):
            await host.documents(THINGS, Thing)
    assert len(store.refusals) == 1
