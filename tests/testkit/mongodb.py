"""A MongoDB server of the tests' own, which they may kill and start again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self
from urllib.parse import quote_plus

import psutil
import pytest

from services.common.listening import LOOPBACK
from services.local.ports import Ports
from tests.testkit.process import ServerProcess

MONGODB_SERVER = "MESHMART_TEST_MONGODB_SERVER"

_USER, _PASSWORD = "root", "root's own"


class MongoServer:
    """A server on a port of its own, on which only known users may do anything.

    :param executable: takes mongod's options ``--port``, ``--dbpath`` and ``--replSet``, writes
        ``--portFile`` once it accepts connections, and makes the root user that the variables
        ``MONGO_INITDB_ROOT_…`` tell.
    :param folder: where its data and its log are.
    """

    def __init__(self, executable: Path, folder: Path, *options: str) -> None:
        self._executable = executable
        self._folder = folder
        self._options = options
        self._process = ServerProcess("MongoDB", folder / "log")
        self._ports = Ports({}, any_free=True)
        self.port = self._ports.http("mongodb")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._ports.close()

    @property
    def url(self) -> str:
        """A URL with the rights to do everything."""
        return self.url_of(_USER, _PASSWORD)

    def url_of(self, user: str, password: str) -> str:
        """A URL with a user's rights."""
        return f"mongodb://{quote_plus(user)}:{quote_plus(password)}@{LOOPBACK}:{self.port}"

    def start(self) -> None:
        """Starts it, again after it was killed, and waits until it accepts connections."""
        self._folder.mkdir(parents=True, exist_ok=True)
        port_file = self._folder / "port"
        port_file.unlink(missing_ok=True)
        command = [self._executable, "--port", f"{self.port}", "--portFile", port_file]
        self._process.start(
            [*command, "--dbpath", self._folder / "data", *self._options],
            port_file.exists,
            {
                **os.environ,
                "MONGO_INITDB_ROOT_USERNAME": _USER,
                "MONGO_INITDB_ROOT_PASSWORD": _PASSWORD,
            },
        )

    def is_running(self) -> bool:
        """Whether it was started and neither killed nor stopped since."""
        return self._process.is_running

    def pause(self) -> None:
        """Lets it hang: it keeps its connections and answers nothing (SIGSTOP)."""
        psutil.Process(self._process.pid).suspend()

    def resume(self) -> None:
        """Lets it go on."""
        psutil.Process(self._process.pid).resume()

    def kill(self) -> None:
        """Ends it as a crash would (SIGKILL)."""
        self._process.kill()

    def stop(self) -> None:
        """Ends it in order, if it runs."""
        self._process.stop()


def mongodb_executable() -> Path:
    """What starts a MongoDB server. On CI a skip is a failure (see tests/conftest.py)."""
    executable = os.environ.get(MONGODB_SERVER)
    if not executable:
        pytest.skip(f"set {MONGODB_SERVER} to a program that starts a MongoDB server to try it")
    return Path(executable)
