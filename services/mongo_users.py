"""``python -m services.mongo_users`` gives each service with a database a MongoDB user of its own.

It runs before the services do, and again whenever a password has changed: repeating it changes
nothing else. A user bears its service's name, and may read and write the database of that name and
nothing besides.

It is told, each in an environment variable or in the file that the variable with ``_FILE`` behind
its name points to:

``MONGODB_ROOT_URL``              ``mongodb://…`` with a user who may make users.
``MONGODB_PASSWORD_ORDER``, …     the password of `order`'s user, and of each other service's.

Services then start with ``DATABASE_URL=mongodb://order:PASSWORD@HOST``. A user whose service has
left the topology stays until somebody drops it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from pymongo import AsyncMongoClient
from pymongo.errors import ConfigurationError as InvalidUrl
from pymongo.errors import OperationFailure, PyMongoError

from services.common.errors import ConfigurationError
from services.common.serving.process import EXIT_CONFIGURATION
from services.common.topology import load_topology

Client: TypeAlias = AsyncMongoClient[dict[str, Any]]

# The server may be starting at the same time.
_TIMEOUT_SECONDS = 120.0

_USER_EXISTS = 51003


def main() -> int:
    """Makes the users. Gives the exit status."""
    try:
        names = [name for name, service in load_topology().services.items() if service.database]
        root_url = _secret("MONGODB_ROOT_URL")
        passwords = {name: _secret(f"MONGODB_PASSWORD_{name.upper()}") for name in names}
        asyncio.run(_make_users(root_url, passwords))
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIGURATION
    except OperationFailure as error:
        reason = (error.details or {}).get("errmsg", error)
        print(f"MongoDB refuses the user in MONGODB_ROOT_URL: {reason}.", file=sys.stderr)
        return 1
    except PyMongoError as error:
        print(f"MongoDB cannot be reached at MONGODB_ROOT_URL: {error}.", file=sys.stderr)
        return 1
    print(f"Made these users, each for the database of the same name: {', '.join(passwords)}.")
    return 0


async def make_user(client: Client, name: str, password: str) -> None:
    """Gives the database `name` its user of that name, with this password and no other rights."""
    roles = [{"role": "readWrite", "db": name}]
    # In `admin`, which is where a URL without a database looks for its user.
    try:
        await client.admin.command("createUser", name, pwd=password, roles=roles)
    except OperationFailure as error:
        if error.code != _USER_EXISTS:
            raise
        await client.admin.command("updateUser", name, pwd=password, roles=roles)


async def _make_users(root_url: str, passwords: Mapping[str, str]) -> None:
    try:
        client: Client = AsyncMongoClient(root_url, timeoutMS=int(_TIMEOUT_SECONDS * 1000))
    except (InvalidUrl, ValueError) as error:
        raise ConfigurationError(f"The setting MONGODB_ROOT_URL is wrong: {error}.") from error
    async with client:
        for name, password in passwords.items():
            await make_user(client, name, password)


def _secret(name: str) -> str:
    """A setting, or what is in the file that its namesake with ``_FILE`` points to."""
    file = os.environ.get(f"{name}_FILE")
    try:
        value = Path(file).read_text(encoding="utf-8").strip() if file else os.environ.get(name)
    except OSError as error:
        raise ConfigurationError(
            f"The setting {name}_FILE is wrong: {file} cannot be read ({error.strerror})."
        ) from error
    if not value:
        raise ConfigurationError(
            f"The setting {name} is missing: set it, or set {name}_FILE to a file that holds it."
        )
    return value


if __name__ == "__main__":
    sys.exit(main())
