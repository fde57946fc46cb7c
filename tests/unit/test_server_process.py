"""A server that a test starts: it is awaited, ended in every case, and its failure tells why."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest

from tests.testkit.process import ServerProcess

_SERVE = "import pathlib, signal, sys; pathlib.Path(sys.argv[1]).touch(); signal.pause()"
_FAIL = "import sys; sys.exit('the port is taken')"


def test_it_is_awaited_and_stopped_and_can_be_started_again(tmp_path: Path) -> None:
    server = ServerProcess("The server", tmp_path / "log")
    for _ in range(2):
        is_open = tmp_path / "open"
        is_open.unlink(missing_ok=True)
        server.start([sys.executable, "-c", _SERVE, is_open], is_open.exists)
        pid = server.pid
        assert is_open.exists()
        assert server.is_running
        server.stop()
        assert not server.is_running
        assert not psutil.pid_exists(pid)


def test_one_that_ends_at_its_start_says_why(tmp_path: Path) -> None:
    server = ServerProcess("The server", tmp_path / "log")
    with pytest.raises(AssertionError, match="The server ended with status 1:\nthe port is taken"):
        server.start([sys.executable, "-c", _FAIL], lambda: False)
    assert not server.is_running


def test_one_whose_start_is_given_up_is_ended(tmp_path: Path) -> None:
    server = ServerProcess("The server", tmp_path / "log")
    pids: list[int] = []

    def give_up() -> bool:
        pids.append(server.pid)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        server.start([sys.executable, "-c", _SERVE, tmp_path / "open"], give_up)
    assert not server.is_running
    assert not psutil.pid_exists(pids[0])
