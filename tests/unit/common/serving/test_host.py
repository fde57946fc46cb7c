"""What a service's process waits for when it starts."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from pydantic import BaseModel

from services.common.documents import (
    Collection,
    SqliteStore,
    StoreUnavailable,
    UserRefused,
)
from services.common.errors import ConfigurationError
from services.common.serving import host as host_module
from services.common.serving.host import Host, hosting
from services.common.topology import load_topology
from tests.testkit.ports import free_port
from tests.unit.common.kit import TOPOLOGY, process_settings, serving_grpc, until

THINGS = Collection("things")


class HostedThing(BaseModel):
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
        things = await host.documents(THINGS, HostedThing)
        await things.insert(HostedThing(id="one"))
    assert not store.refusals


@pytest.mark.parametrize("refusal", [StoreUnavailable(), UserRefused("Who is that?")])
async def test_without_patience_the_start_ends_at_once(
    store: LateStore, refusal: Exception
) -> None:
    store.refusals = [refusal, refusal]
    async with AsyncExitStack() as resources:
        host = Host("order", load_topology(), process_settings(), resources)
        with pytest.raises(type(refusal)):
            await host.documents(THINGS, HostedThing)
    assert len(store.refusals) == 1


async def test_a_wrong_declaration_is_not_waited_for(store: LateStore) -> None:
    store.refusals = [ConfigurationError("Two are equal."), UserRefused("Not asked.")]
    async with AsyncExitStack() as resources:
        settings = process_settings(database_wait_seconds=30.0)
        host = Host("order", load_topology(), settings, resources)
        with pytest.raises(ConfigurationError, match="equal"):
            await host.documents(THINGS, HostedThing)
    assert len(store.refusals) == 1


class TestAJobThatCallsOthers:
    async def test_begins_when_they_listen(self) -> None:
        port, is_started = free_port(), False
        runs: list[bool] = []

        async def run() -> None:
            runs.append(is_started)

        async def wire(host: Host) -> None:
            host.every("sweep", 3600.0, run, callees=["callee"])

        settings = process_settings(grpc_addresses={"callee": (f"127.0.0.1:{port}",)})
        async with (
            hosting("caller", wire, topology=TOPOLOGY, process=settings) as host,
            host.running(),
        ):
            await asyncio.sleep(0)
            is_started = True
            async with serving_grpc(_offer_nothing, grpc_port=port):
                await until(lambda: bool(runs))
        assert runs == [True]

    async def test_begins_without_one_that_stays_away(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(host_module, "_CALLEES_SECONDS", 0.05)
        has_run = asyncio.Event()

        async def run() -> None:
            has_run.set()

        async def wire(host: Host) -> None:
            host.every("sweep", 3600.0, run, callees=["callee"])

        settings = process_settings(grpc_addresses={"callee": (f"127.0.0.1:{free_port()}",)})
        async with (
            hosting("caller", wire, topology=TOPOLOGY, process=settings) as host,
            host.running(),
            asyncio.timeout(5.0),
        ):
            await has_run.wait()


async def _offer_nothing(_: Host) -> None:
    return
