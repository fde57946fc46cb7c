"""A disk that is full for one process."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, suppress

import psutil


@contextmanager
def full_disk_for_all(parent_pid: int) -> Generator[None]:
    """The same for a process and all its children, those included that it starts meanwhile."""
    parent = psutil.Process(parent_pid)
    soft, hard = parent.rlimit(psutil.RLIMIT_FSIZE)
    _limit_all(parent, 0, hard)
    try:
        yield
    finally:
        _limit_all(parent, soft, hard)


def _limit_all(parent: psutil.Process, soft: int, hard: int) -> None:
    with suppress(psutil.NoSuchProcess):
        for process in (parent, *parent.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.rlimit(psutil.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def full_disk(pid: int) -> Generator[None]:
    """Lets every write of a process to a file fail, as on a full disk, though with EFBIG
    (setrlimit(2), RLIMIT_FSIZE; Python ignores the signal that goes with it).

    Nothing is to be undone when the process dies meanwhile.
    """
    process = psutil.Process(pid)
    soft, hard = process.rlimit(psutil.RLIMIT_FSIZE)
    process.rlimit(psutil.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        if process.is_running():  # and no other process has its pid
            process.rlimit(psutil.RLIMIT_FSIZE, (soft, hard))
