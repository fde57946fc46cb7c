"""Each service's own user on MongoDB, and the command that makes them."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from services.common.documents import Collection, Documents, StoreUnavailable, open_store
from services.common.errors import ConfigurationError
from services.common.serving.process import EXIT_CONFIGURATION
from services.common.topology import load_topology
from tests.contract.items import ITEMS, Item
from tests.testkit.mongodb import MongoServer

ROOT = Path(__file__).parents[2]
KEEPERS = [name for name, service in load_topology().services.items() if service.database]
PLAIN = Collection("plain")


def passwords(**changed: str) -> dict[str, str]:
    """A variable for the password of each service's user."""
    return {
        f"MONGODB_PASSWORD_{name.upper()}": changed.get(name, f"{name}'s p@ss/word")
        for name in KEEPERS
    }


async def make_users(environment: Mapping[str, str]) -> tuple[int | None, str, str]:
    """Runs the command; its exit status and what it says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "services.mongo_users",
        stdout=PIPE,
        stderr=PIPE,
        cwd=ROOT,
        env=environment,
    )
    output, error = await process.communicate()
    return process.returncode, output.decode(), error.decode()


@asynccontextmanager
async def opened(
    url: str, database: str, collection: Collection = ITEMS
) -> AsyncGenerator[Documents[Item]]:
    store = open_store(url, database)
    try:
        yield await Documents.open(store, collection, Item)
    finally:
        await store.close()


async def test_each_service_uses_its_own_database_only(
    mongodb: MongoServer, tmp_path: Path
) -> None:
    """The rest of the contract's tests show that such a user can do all that it needs."""
    root_file = tmp_path / "root-url"
    root_file.write_text(f"{mongodb.url}\n")
    environment = passwords() | {"MONGODB_ROOT_URL_FILE": str(root_file)}
    for _ in range(2):  # repeating it changes nothing
        status, output, error = await make_users(environment)
        assert (status, error) == (0, "")
        assert all(name in output for name in KEEPERS)

    item_id = uuid4().hex
    for name in KEEPERS:
        url = mongodb.url_of(name, f"{name}'s p@ss/word")
        async with opened(url, name) as items:
            await items.insert(Item(id=item_id, owner=name))
        others = "payment" if name == "order" else "order"
        for collection in (ITEMS, PLAIN):
            with pytest.raises(ConfigurationError, match=f"DATABASE_URL the database {others} "):
                async with opened(url, others, collection):
                    pass


async def test_changed_password_replaces_the_old_one(mongodb: MongoServer) -> None:
    root = {"MONGODB_ROOT_URL": mongodb.url}
    assert (await make_users(root | passwords()))[0] == 0
    old, new = (mongodb.url_of("order", password) for password in ("order's p@ss/word", "new"))
    async with opened(old, "order") as before:
        assert (await make_users(root | passwords(order="new")))[0] == 0
        item = await before.insert(Item(id=uuid4().hex))  # whoever is connected goes on
        async with opened(new, "order") as after:
            assert await after.get(item.value.id) == item
    for collection in (ITEMS, PLAIN):
        with pytest.raises(ConfigurationError, match=r"DATABASE_URL.*mongo_users"):
            async with opened(old, "order", collection):
                pass


async def test_later_refusal_is_an_outage(mongodb: MongoServer) -> None:
    """A running service whose password has changed says 503, and is well once it is restarted."""
    assert (await make_users(passwords() | {"MONGODB_ROOT_URL": mongodb.url}))[0] == 0
    store = open_store(mongodb.url_of("order", "wrong"), "order")
    items = Documents(store, ITEMS, Item)
    with pytest.raises(StoreUnavailable):
        await items.insert(Item(id=uuid4().hex))
    await store.close()


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        ({}, "The setting MONGODB_ROOT_URL is missing"),
        ({"MONGODB_ROOT_URL_FILE": "/nowhere"}, "/nowhere cannot be read"),
        ({"MONGODB_ROOT_URL": "mongodb://h", "MONGODB_PASSWORD_AUTH": ""}, "MONGODB_PASSWORD_AUTH"),
        (passwords() | {"MONGODB_ROOT_URL": "mongodb://"}, "MONGODB_ROOT_URL is wrong"),
    ],
)
async def test_wrong_setting_is_told_in_a_sentence(
    environment: Mapping[str, str], complaint: str
) -> None:
    status, output, error = await make_users(environment)
    assert (status, output) == (EXIT_CONFIGURATION, "")
    assert complaint in error
    assert error.endswith(".\n")
    assert error.count("\n") == 1


async def test_refused_root_is_told_in_a_sentence(mongodb: MongoServer) -> None:
    url = mongodb.url_of("root", "not the password")
    status, output, error = await make_users(passwords() | {"MONGODB_ROOT_URL": url})
    assert (status, output) == (1, "")
    assert error.startswith("MongoDB refuses the user in MONGODB_ROOT_URL: ")
    assert error.count("\n") == 1
