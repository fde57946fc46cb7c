"""A server that a test starts and ends: a program with its output in a file."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.testkit.waiting import wait_until

_START_SECONDS = 60.0
_STOP_SECONDS = 20.0


class ServerProcess:
    """At most one process at a time.

    :param name: what failures call it.
    :param log: where its output goes, behind what is there.
    """

    def __init__(self, name: str, log: Path) -> None:
        self._name = name
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(
        self,
        command: Sequence[str | Path],
        is_ready: Callable[[], bool],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Starts it and waits until it is ready; ends it again if it does not get so far.

        :param environment: its whole environment; without it, this process's.
        """
        with self._log.open("ab") as output:
            self._process = process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

        def is_ready_and_alive() -> bool:
            status = process.poll()
            assert status is None, (
                f"{self._name} ended with status {status}:\n{self._log.read_text()}"
            )
            return is_ready()

        try:
            wait_until(is_ready_and_alive, f"{self._name} is ready", _START_SECONDS)
        except BaseException:
            self.kill()
            raise

    @property
    def is_running(self) -> bool:
        """Whether it was started and neither killed nor stopped since."""
        return self._process is not None

    @property
    def pid(self) -> int:
        """The running process's id."""
        return self._running.pid

    def kill(self) -> None:
        """Ends it as a crash would (SIGKILL)."""
        process, self._process = self._running, None
        process.kill()
        process.wait()

    def stop(self) -> None:
        """Ends it in order (SIGTERM), if it runs; kills it if that takes too long."""
        if self._process is None:
            return
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_SECONDS)
        self.kill()

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, f"{self._name} does not run"
        return self._process
