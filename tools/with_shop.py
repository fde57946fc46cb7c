"""Runs a command beside a shop of its own.

``python tools/with_shop.py -- COMMAND…``

The shop has free ports and empty data, and is gone afterwards. The command finds its address in the
environment as BASE_URL, and the folder of its data as SHOP_DATA. The exit status is the command's,
or 1 when the shop does not live as long.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

START_SECONDS = 60.0
_POLL_SECONDS = 0.02


@contextmanager
def shop(folder: Path) -> Generator[str]:
    """A running shop that keeps its data in a folder; gives its base URL."""
    output = folder / "output"
    with output.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "services", "--ports", "free", "--data", str(folder)],
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    try:
        yield _wait_open(process, folder / "shop.json", output)
        if process.poll() is not None:
            _give_up(f"The shop ended with status {process.returncode}", output)
    finally:
        process.terminate()
        process.wait()


def _wait_open(process: subprocess.Popen[bytes], state: Path, output: Path) -> str:
    until = time.monotonic() + START_SECONDS
    while not state.exists():
        if process.poll() is not None:
            _give_up(f"The shop ended with status {process.returncode}", output)
        if time.monotonic() > until:
            _give_up(f"The shop was not ready after {START_SECONDS:.0f} s", output)
        time.sleep(_POLL_SECONDS)
    urls = {each["service"]: each["url"] for each in json.loads(state.read_text())["processes"]}
    return urls["frontend"]


def _give_up(reason: str, output: Path) -> NoReturn:
    sys.exit(f"{reason}:\n{output.read_text(errors='replace')}")


def _run(command: Sequence[str], base_url: str, folder: str) -> int:
    environment = {**os.environ, "BASE_URL": base_url, "SHOP_DATA": folder}
    process = subprocess.Popen(command, env=environment)
    try:
        status = process.wait()
    finally:
        process.terminate()  # when this program is stopped; otherwise it has ended
        process.wait()
    return status if status >= 0 else 128 - status  # as a shell tells of a signal


def _stop(number: int, _: object) -> NoReturn:
    sys.exit(128 + number)


def main() -> int:
    """Gives the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", nargs="+", metavar="COMMAND")
    arguments = parser.parse_args()
    # An exception takes both processes along; SIGTERM by itself would leave them behind.
    signal.signal(signal.SIGTERM, _stop)
    with tempfile.TemporaryDirectory() as folder, shop(Path(folder)) as base_url:
        return _run(arguments.command, base_url, folder)


if __name__ == "__main__":
    sys.exit(main())
