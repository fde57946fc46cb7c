"""A user service whose HTTP side is asked in memory, by people who hold real tokens."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from starlette.types import ASGIApp

from services.common.dependency_injection import provide
from services.common.documents import Documents, open_store
from services.common.serving.host import hosting
from services.common.settings import ProcessSettings
from services.common.topology import load_topology
from services.user.main import wire
from services.user.model import USERS, User
from services.user.service import Users
from services.user.store import UserStore
from tests.unit.asgi import AsgiAnswer, ask
from tests.unit.tokens import headers_of, verifier

PASSWORD_HASH = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$aGFzaA"  # of nothing in particular


@dataclass(frozen=True, slots=True)
class Instance:
    """One process of the user service."""

    app: ASGIApp

    async def ask(
        self, method: str, path: str, *, user_id: str | None = None, body: object = None
    ) -> AsgiAnswer:
        """What it answers to a user, or to nobody."""
        headers = {"content-type": "application/json"}
        if user_id is not None:
            headers |= headers_of(user_id)
        sent = b"" if body is None else json.dumps(body).encode()
        return await ask(self.app, method, path, headers=headers, body=sent)


@asynccontextmanager
async def instance(data: Path) -> AsyncGenerator[Instance]:
    """One more process on the database in a folder."""
    process = ProcessSettings(database_url=f"sqlite:///{data}", instance="user-1")
    async with hosting("user", wire, topology=load_topology(), process=process) as host:
        host.app_setup(lambda app: provide(app, verifier()))
        yield Instance(host.app())


@asynccontextmanager
async def accounts(data: Path) -> AsyncGenerator[Users]:
    """The side of the service that other services see, on the database in a folder."""
    store = open_store(f"sqlite:///{data}", "user")
    try:
        yield Users(UserStore(await Documents.open(store, USERS, User)))
    finally:
        await store.close()
