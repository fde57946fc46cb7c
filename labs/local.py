"""A shop on this machine that a lab looks at: ``python -m services`` on one data folder."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from labs.errors import LabError
from labs.visitor import Visitor, connected
from labs.waiting import eventually
from services.audit.command import compared
from services.audit.invariants import Violation
from services.audit.snapshot import Snapshot
from services.common.errors import ConfigurationError, ShopError
from services.local import data
from services.local.data import OpenShop

_OPEN_SECONDS = 60.0
_STOP_SECONDS = 30.0
_OUTPUT = "logs/shop.log"

_READY, _DRAINING = "service.ready", "service.draining"


class Death(NamedTuple):
    """A process that ended without having been asked to.

    :ivar back_ms: when it was there again, in Unix milliseconds.
    """

    instance: str
    back_ms: int


class LocalShop:
    """The shop whose data is in a folder.

    :param ports: for ``--ports``, when the lab starts it; empty for the usual ones.
    :param since_ms: when the lab was started, in Unix milliseconds.
    :ivar own_pid: of the shop's parent when it was started for a lab, so that the lab may stop it.
    """

    def __init__(
        self, folder: Path, *, ports: str = "", own_pid: int | None = None, since_ms: int = 0
    ) -> None:
        self.folder = folder
        self.ports = ports
        self.own_pid = own_pid
        self.since_ms = since_ms

    def __str__(self) -> str:
        where = f"open: {self.url}" if self.state() else "closed"
        return f"The shop is {where}; its data, logs and pids are in {self.folder}."

    def state(self) -> OpenShop | None:
        """Where everything is; None while no shop is open there."""
        state = data.read_state(self.folder)
        if state is None:
            return None
        with data.held(self.folder) as is_free:  # a shop that was killed leaves its state behind
            return None if is_free else state

    def running(self) -> OpenShop:
        """The same of a shop that has to run.

        :raises LabError: it does not.
        """
        state = self.state()
        if state is None:
            raise LabError(
                f"No shop runs on the data in {self.folder}: start one with "
                f".venv/bin/python -m services --data {self.folder}"
            )
        return state

    async def start(self, *arguments: str) -> None:
        """Starts a shop in the background, instead of one that the labs have started. Without
        arguments one that runs already will do.

        :raises LabError: it does not start, or somebody else's runs there.
        """
        state = self.state()
        if state is not None and not arguments:
            return
        if state is not None and state.parent_pid != self.own_pid:
            raise LabError(
                f"A shop runs already on the data in {self.folder} (pid {state.parent_pid}), and "
                "this lab starts one with other options: stop that one first."
            )
        await self.stop()
        ports = ("--ports", self.ports) if self.ports else ()
        command = ("-m", "services", "--data", str(self.folder), *ports, *arguments)
        pid = self._spawned(command)

        async def is_open() -> bool:
            if _has_ended(pid):
                said = (self.folder / _OUTPUT).read_text(encoding="utf-8").strip()
                raise LabError(f"The shop does not start: {said.rpartition(chr(10))[2]}")
            state = self.state()
            return state is not None and state.parent_pid == pid

        await eventually(is_open, "the shop is open", _OPEN_SECONDS)
        self.own_pid = pid

    async def stop(self) -> None:
        """Stops the shop that the labs have started; another one goes on."""
        state = self.state()
        if state is not None and state.parent_pid == self.own_pid:
            os.kill(state.parent_pid, signal.SIGINT)

            async def is_closed() -> bool:
                _has_ended(state.parent_pid)
                with data.held(self.folder) as is_free:
                    return is_free

            await eventually(is_closed, "the shop has stopped", _STOP_SECONDS)
        self.own_pid = None

    def _spawned(self, command: Sequence[str]) -> int:
        """Starts Python in the background, and returns its pid."""
        output = self.folder / _OUTPUT
        flags = os.O_CREAT | os.O_TRUNC | os.O_WRONLY
        try:
            output.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # No `subprocess`: what that starts is to end before who has started it.
            return os.posix_spawn(
                sys.executable,
                [sys.executable, *command],
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, str(output), flags, 0o600),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
                setsid=True,  # it outlives this terminal, and hears no Ctrl-C of it
            )
        except OSError as error:
            raise LabError(
                f"The folder {self.folder} cannot be used ({error.strerror}): choose another "
                "with --data."
            ) from error

    @property
    def url(self) -> str:
        """Where people find it."""
        return self.running().of_service("frontend")[0].url

    @asynccontextmanager
    async def visitor(self) -> AsyncGenerator[Visitor]:
        """Somebody who uses it."""
        async with connected(self.url) as visitor:
            yield visitor

    async def books(self) -> tuple[Snapshot, Sequence[Violation]]:
        """All that is stored, and what disagrees.

        :raises LabError: it cannot be read.
        """
        try:
            return await compared(self.folder)
        except ConfigurationError as error:
            raise LabError(str(error)) from error
        except ShopError as error:
            raise LabError(f"The stores cannot be compared: {error.detail}") from error

    def deaths(self) -> list[Death]:
        """The processes that have ended since the lab began without having been asked to. Their
        logs tell: a start follows another one, and no end stands between the two.
        """
        found: list[Death] = []
        for instance in self._instances():
            is_up = False
            for at_ms, event in sorted(self._lifetime(instance)):
                if event == _READY and is_up and at_ms >= self.since_ms:
                    found.append(Death(instance, at_ms))
                is_up = event == _READY
        return found

    def _instances(self) -> list[str]:
        state = self.state()
        return [process.instance for process in state.processes] if state else []

    def _lifetime(self, instance: str) -> list[tuple[int, str]]:
        """When a process was ready and when it was asked to end, in Unix milliseconds."""
        moments: list[tuple[int, str]] = []
        for file in (self.folder / "logs").glob(f"{instance}.log*"):
            for line in file.read_text(encoding="utf-8").split("\n"):
                if _READY in line or _DRAINING in line:
                    entry = json.loads(line)
                    if entry["event"] in {_READY, _DRAINING}:
                        at = datetime.fromisoformat(entry["timestamp"])
                        moments.append((int(at.timestamp() * 1000), entry["event"]))
        return moments


def _has_ended(pid: int) -> bool:
    """Whether a process has, of which the exit status is taken when it is this one's child."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return False
