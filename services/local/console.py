"""What the parent of all processes says to whoever started it."""

from __future__ import annotations

import os

OUTPUT = 1
ERRORS = 2


class Console:
    """Lines on standard output. The shop goes on where nobody reads them, or the disk that they go
    to is full; the next line that gets through says how many did not.
    """

    def __init__(self) -> None:
        self._lost = 0

    def say(self, line: str, descriptor: int = OUTPUT) -> None:
        """Writes one line, at once."""
        if self._lost and self._write(f"({self._lost} lines could not be written.)", descriptor):
            self._lost = 0
        if not self._write(line, descriptor):
            self._lost += 1

    def _write(self, line: str, descriptor: int) -> bool:
        left = f"{line}\n".encode()
        try:
            while left:
                left = left[os.write(descriptor, left) :]
        except OSError:
            return False
        return True
