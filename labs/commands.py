"""kubectl and helm, run on the cluster that KUBECONFIG points at."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

from labs.errors import CommandFailed, LabError

ROOT = Path(__file__).parent.parent

_COMMAND_SECONDS = 120.0
_FORWARD_SECONDS = 15.0


class Commands(Protocol):
    """The commands that the labs run on a cluster."""

    async def run(
        self, *command: str, given: str | None = None, within_seconds: float = _COMMAND_SECONDS
    ) -> str:
        """Returns what a command prints.

        :param given: its standard input.
        :raises CommandFailed: it ended with an error, or not in time.
        """
        ...

    def forwarded(self, namespace: str, target: str, port: int) -> AbstractAsyncContextManager[str]:
        """Forwards a port of ``service/NAME``. Yields its address on this machine,
        ``127.0.0.1:PORT``.

        :raises CommandFailed: kubectl does not forward it in time.
        """
        ...


class Programs:
    """Runs the programs. They must be on the PATH; otherwise LabError says so."""

    async def run(
        self, *command: str, given: str | None = None, within_seconds: float = _COMMAND_SECONDS
    ) -> str:
        process = await _started(*command, takes_input=given is not None)
        try:
            async with asyncio.timeout(within_seconds):
                output, errors = await process.communicate(
                    None if given is None else given.encode()
                )
        except TimeoutError:
            raise CommandFailed(f"{_shown(command)}: not done in {within_seconds:g} s") from None
        finally:
            await _ended(process)
        if process.returncode != 0:
            said = errors.decode(errors="replace").strip()
            raise CommandFailed(f"{_shown(command)}: {said or output.decode().strip()}")
        return output.decode()

    @asynccontextmanager
    async def forwarded(self, namespace: str, target: str, port: int) -> AsyncGenerator[str]:
        command = ("kubectl", "-n", namespace, "port-forward", target, f":{port}")
        process = await _started(*command)
        try:
            yield await _forwarding_address(process, command)
        finally:
            await _ended(process)


async def _forwarding_address(process: asyncio.subprocess.Process, command: tuple[str, ...]) -> str:
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(_FORWARD_SECONDS):
            line = (await process.stdout.readline()).decode()
            found = re.search(r"127\.0\.0\.1:\d+", line)
            if found is not None:
                return found.group()
            said = (await process.stderr.read()).decode().strip()
    except TimeoutError:
        said = "it does not answer"
    raise CommandFailed(f"{_shown(command)}: {said}")


async def _started(*command: str, takes_input: bool = False) -> asyncio.subprocess.Process:
    if shutil.which(command[0]) is None:
        raise LabError(
            f"{command[0]} is needed, and is not on the PATH: "
            "https://kubernetes.io/docs/tasks/tools/ and https://helm.sh/docs/intro/install/"
        )
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE if takes_input else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Ends a process that still runs, and collects it."""
    if process.returncode is None:
        process.terminate()
        await process.communicate()


def _shown(command: tuple[str, ...]) -> str:
    """The beginning of a command: some have a program as an argument."""
    return " ".join(word for word in command[:8] if "\n" not in word)
