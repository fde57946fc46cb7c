"""A disk that is full for one process."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import psutil


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
