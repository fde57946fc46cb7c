"""The whole shop as a person starts it: ``python -m services`` in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import psutil
import yaml

from services.inventory.seed import read_stock_file
from services.inventory.settings import InventorySettings
from services.local.data import OpenShop, Process, read_state
from services.local.programs import SANDBOX
from tests.testkit.hunt import SecretTold, findings, findings_in_files
from tests.testkit.waiting import eventually, wait_until

_START_SECONDS = 60.0
_STOP_SECONDS = 60.0  # of a machine that does much else
_AUDIT_SECONDS = 600.0
_ANSWER_SECONDS = 2.0

# A cheap hash, since tests register hundreds of customers; all of these at one address, be their
# passwords right or wrong; a carrier that does not move before a test is done.
_ENVIRONMENT = {
    "PASSWORD_HASH_MEMORY_KIB": "1024",
    "PASSWORD_HASH_ITERATIONS": "1",
    "PASSWORD_HASH_QUEUE": "1000",
    "LOGIN_FAILURES_PER_MINUTE": "1000",
    "SHIPPING_STEP_SECONDS": "3600",
}


class Shop:
    """A shop on free ports with a data folder of its own, open while it is entered. With ``async
    with``, what it talks to may be served by the loop that waits for it.

    Processes are stopped, paused and killed by their pids alone.

    :param folder: where the shop keeps what it prints, and its data.
    :param arguments: further arguments of the command line.
    :param data: the folder for ``--data``, when it is not one in `folder`.
    :param environment: further environment variables, for all services.
    :param own_environment: the same for one service or one instance, by its name.
    :param stock: how many there are of some products; of the others, as many as always.
    :param program: what Python runs: the shop as it is, or a variant of it.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        data: Path | None = None,
        environment: Mapping[str, str] | None = None,
        own_environment: Mapping[str, Mapping[str, str]] | None = None,
        stock: Mapping[str, int] | None = None,
        program: Sequence[str] = ("-m", "services"),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.data = data or folder / "data"
        self.environment = {**_ENVIRONMENT, **(environment or {})}
        if stock is not None:
            stock_file = folder / "stock.yaml"
            whole = {**read_stock_file(InventorySettings().stock_file), **stock}
            stock_file.write_text(yaml.safe_dump(whole), encoding="utf-8")
            self.environment["STOCK_FILE"] = str(stock_file)
        if own_environment is not None:
            file = folder / "environment.json"
            file.write_text(json.dumps(own_environment), encoding="utf-8")
            arguments += ("--environment", str(file))
        self._program = program
        self._arguments = arguments
        self._output = folder / "output"
        self._parent: subprocess.Popen[bytes] | None = None
        self._family: dict[int, psutil.Process] = {}

    def __enter__(self) -> Self:
        self.launch()
        try:
            self.wait_open()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.stop)

    def launch(self) -> None:
        """Starts it and does not wait."""
        command = [sys.executable, *self._program, "--data", str(self.data), "--ports", "free"]
        with self._output.open("ab") as output:
            self._parent = subprocess.Popen(
                [*command, *self._arguments],
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def wait_open(self) -> None:
        """Waits until it says that it is open.

        :raises AssertionError: it ended, or takes too long; with what it printed.
        """

        def is_open() -> bool:
            status = self.parent.poll()
            assert status is None, f"the shop ended with status {status}:\n{self.output}"
            state = self._state()
            return state is not None and state.parent_pid == self.parent.pid

        wait_until(is_open, "the shop is open", _START_SECONDS)
        self._remember_family()

    def wait_ended(self, within_seconds: float = _START_SECONDS) -> int:
        """Waits until the parent has ended, be it at its start; gives its exit status."""
        return self.parent.wait(within_seconds)

    def stop(self) -> int | None:
        """Stops it as Ctrl-C does, and makes sure that nothing is left; gives the exit status.

        :raises AssertionError: a process is left, or the shop has told a secret.
        """
        if self._parent is None:
            return None
        self._remember_family()
        told = list(self._told_by_processes())
        if self._parent.poll() is None:
            self._parent.send_signal(signal.SIGINT)
        try:
            self._parent.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._parent.kill()
            self._parent.wait()
        leftover = self.alive()
        for process in leftover:
            process.kill()
        assert not leftover, f"the shop left processes behind: {leftover}\n{self.output}"
        status = self._parent.returncode
        self._parent = None
        logs = sorted((self.data / "logs").glob("*.log*"))
        told += findings_in_files([self._output, *logs], self.environment)
        if told:
            raise SecretTold("\n".join(told))
        return status

    def restart(self, *arguments: str) -> None:
        """Stops it and starts it again with other arguments, on the same data and other ports."""
        self.stop()
        self._arguments = arguments
        self.launch()
        self.wait_open()

    def kill_parent(self) -> None:
        """Kills the parent as a crash would (SIGKILL). Its children notice and end."""
        self._remember_family()
        self.parent.kill()
        self.parent.wait()

    def audit(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Audits the shop, which may run or not."""
        environment = {**os.environ, **self.environment}
        if "DATABASE_URL" in self.environment:  # as in a cluster
            environment["STRIPE_API_KEY"] = "sk_test_audit"
            environment["STRIPE_API_BASE"] = self.sandbox_url
        return subprocess.run(
            [sys.executable, "-m", "services", "audit", "--data", str(self.data), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=_AUDIT_SECONDS,
            check=False,
        )

    def alive(self) -> list[psutil.Process]:
        """Those of its processes, the parent left aside, that still run."""
        own = self._parent.pid if self._parent else None
        return [
            process
            for pid, process in self._family.items()
            if pid != own and process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        ]

    @property
    def parent(self) -> subprocess.Popen[bytes]:
        """The runner's own process."""
        assert self._parent is not None, "the shop has not been started"
        return self._parent

    @property
    def output(self) -> str:
        """All that it has printed so far."""
        return self._output.read_text(encoding="utf-8", errors="replace")

    def logged_errors(self) -> list[str]:
        """All that its services have logged as an error so far."""
        return [
            line
            for file in sorted((self.data / "logs").glob("*.log*"))
            # Not `splitlines`: a path may hold what Python takes for the end of a line, too.
            for line in file.read_text(encoding="utf-8").split("\n")
            if line and json.loads(line)["level"] in {"error", "critical"}
        ]

    @property
    def url(self) -> str:
        """The base URL for people and for the public API."""
        return self.of_service("frontend")[0].url

    @property
    def sandbox_url(self) -> str:
        """Where the Stripe sandbox is."""
        return self.of_service(SANDBOX)[0].url

    @property
    def is_open(self) -> bool:
        """Whether it says that it is open."""
        return self._state() is not None

    def processes(self) -> list[Process]:
        """All processes that answer requests, as the runner tells."""
        state = self._state()
        assert state is not None, f"the shop is not open:\n{self.output}"
        return list(state.processes)

    def of_service(self, service: str) -> list[Process]:
        """The processes of one service."""
        return [process for process in self.processes() if process.service == service]

    def process(self, instance: str) -> Process:
        """The process of that name, such as ``order`` or ``order-2``."""
        return next(process for process in self.processes() if process.instance == instance)

    def pause(self, instance: str) -> None:
        """Lets a process hang: it keeps its connections and answers nothing (SIGSTOP)."""
        os.kill(self.process(instance).pid, signal.SIGSTOP)

    def resume(self, instance: str) -> None:
        """Lets a paused process go on. One that was killed and is back needs nothing."""
        os.kill(self.process(instance).pid, signal.SIGCONT)

    def resume_all(self) -> None:
        """Lets all processes go on, paused or not."""
        for process in self.processes():
            self.resume(process.instance)

    def kill(self, instance: str) -> int:
        """Kills a process, which may be paused, as a crash would (SIGKILL); gives its pid."""
        self._remember_family()
        pid = self.process(instance).pid
        os.kill(pid, signal.SIGKILL)
        return pid

    async def back(self, instance: str, killed_pid: int) -> Process:
        """Waits until the runner has replaced a process that was killed."""

        async def look() -> Process | None:
            process = self.process(instance)
            return process if process.pid != killed_pid else None

        process = await eventually(look, f"{instance} is back")
        self._remember_family()
        return process

    def _told_by_processes(self) -> Iterator[str]:
        """Secrets in what processes answer to those who run them: those that can still be asked,
        since tests break some.
        """
        state = self._state()
        for process in state.processes if state is not None else ():
            try:
                is_running = psutil.Process(process.pid).status() != psutil.STATUS_STOPPED
            except psutil.NoSuchProcess:
                is_running = False
            if not is_running or process.service == SANDBOX:
                continue
            for path in ("/metrics", "/traces"):
                url = process.internal_url + path
                try:
                    with urllib.request.urlopen(url, timeout=_ANSWER_SECONDS) as answer:
                        yield from findings(answer.read(), url)
                except OSError:
                    continue

    def _remember_family(self) -> None:
        """A psutil.Process knows its process from another that gets the same pid later."""
        assert self._parent is not None
        try:
            family = psutil.Process(self._parent.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return
        self._family.update({process.pid: process for process in family})

    def _state(self) -> OpenShop | None:
        return read_state(self.data)
