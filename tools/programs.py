"""Other programs and the network, behind a small interface."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn, Protocol

from tools.needs import TOOLS

ROOT = Path(__file__).resolve().parent.parent
_DOWNLOAD_SECONDS = 60.0


class ToolCommands(Protocol):
    """What the tools need of others. All run in the project's folder."""

    def find(self, tool: str) -> Path | None:
        """Where a program is on the PATH."""
        ...

    def run(
        self, *command: str, given: str | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        """Shows a command and runs it.

        :param given: its standard input.
        :param environment: on top of this process's.
        :raises subprocess.CalledProcessError: it ended with an error.
        """
        ...

    def succeeds(self, *command: str) -> bool:
        """Shows a command, runs it, and says whether it ended well."""
        ...

    def output(self, *command: str) -> str:
        """What a command prints.

        :raises subprocess.CalledProcessError: it ended with an error.
        """
        ...

    def download(self, url: str) -> bytes:
        """What is at an https address.

        :raises OSError: it cannot be had.
        """
        ...


class ToolPrograms:
    """The programs themselves."""

    def find(self, tool: str) -> Path | None:
        found = shutil.which(tool)
        return None if found is None else Path(found)

    def run(
        self, *command: str, given: str | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        print("+", *command, flush=True)
        env = None if environment is None else {**os.environ, **environment}
        subprocess.run(command, input=given, text=True, check=True, cwd=ROOT, env=env)

    def succeeds(self, *command: str) -> bool:
        print("+", *command, flush=True)
        return subprocess.run(command, check=False, cwd=ROOT).returncode == 0

    def output(self, *command: str) -> str:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
        return done.stdout

    def download(self, url: str) -> bytes:
        assert url.startswith("https://"), url
        print("+ download", url, flush=True)
        with urllib.request.urlopen(url, timeout=_DOWNLOAD_SECONDS) as answer:  # noqa: S310
            return answer.read()


def need(commands: ToolCommands, *tools: str) -> None:
    """Ends the program with a sentence where one of the tools is missing."""
    for tool in tools:
        if commands.find(tool) is None:
            give_up(f"{tool} is missing. How to install it: {TOOLS[tool]}")


def give_up(sentence: str) -> NoReturn:
    """Ends the program."""
    sys.exit(sentence)
