"""The CPU time of whole processes, from /proc (Linux)."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path

_QUIET_CPUS = 0.08
_LOOK_SECONDS = 0.25


def cpu_seconds(pid: int) -> float:
    """Returns the CPU time of a process since its start: the sum over its threads of what the
    scheduler counts in nanoseconds. /proc/PID/stat counts in hundredths of a second, which is too
    coarse here.

    :raises FileNotFoundError: there is no such process.
    """
    total_ns = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        try:
            total_ns += int((thread / "schedstat").read_text(encoding="ascii").split()[0])
        except FileNotFoundError:  # it has ended since it was listed
            continue
    return total_ns / 1e9


class CpuMeter:
    """The CPU time of some processes between two looks, without what they use at rest.

    :param pids: by the names under which they are counted.
    :param at_rest: the CPUs that each uses when it serves no requests; see :meth:`cpus_at_rest`.
    """

    def __init__(self, pids: Mapping[str, int], at_rest: Mapping[str, float] | None = None) -> None:
        self._pids = pids
        self._at_rest = at_rest or {}
        self._last, self._looked = self._look(), time.monotonic()

    def used_seconds(self) -> dict[str, float]:
        """Returns the CPU time since the last look, by name."""
        last, self._last = self._last, self._look()
        looked, self._looked = self._looked, time.monotonic()
        elapsed_seconds = self._looked - looked
        return {
            name: max(0.0, now - last[name] - self._at_rest.get(name, 0.0) * elapsed_seconds)
            for name, now in self._last.items()
        }

    def cpus_at_rest(self) -> dict[str, float]:
        """Returns the CPUs that each process has used since the last look; 1 is a whole CPU. The
        processes must have served no requests.
        """
        elapsed_seconds = time.monotonic() - self._looked
        return {name: cpu / elapsed_seconds for name, cpu in self.used_seconds().items()}

    def wait_quiet(self, patience_seconds: float = 15.0) -> bool:
        """Waits until the processes are nearly idle: their work after the answers is done.

        :return: False if `patience_seconds` end first.
        """
        until = time.monotonic() + patience_seconds
        before, began = sum(self._look().values()), time.monotonic()
        while began < until:
            time.sleep(_LOOK_SECONDS)
            after, ended = sum(self._look().values()), time.monotonic()
            if (after - before) / (ended - began) < _QUIET_CPUS:
                return True
            before, began = after, ended
        return False

    def _look(self) -> dict[str, float]:
        return {name: cpu_seconds(pid) for name, pid in self._pids.items()}


def needs_linux() -> None:
    """Ends the program with a message on systems without /proc/PID/task/*/schedstat."""
    if not Path("/proc/self/schedstat").exists():
        sys.exit(
            "CPU time by process is read from /proc/PID/task/*/schedstat, which only Linux has."
        )
