"""Detects work that another process has left unfinished, without trust in clocks.

A process changes the document that it works on now and then: an owner renews its lease that way. An
observer takes the work for stalled when it has seen the same state for some time by its own clock.
So the clocks of two processes are never compared; they only have to run at about the same speed.
Kubernetes elects leaders in the same way
(https://pkg.go.dev/k8s.io/client-go/tools/leaderelection).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Hashable
from typing import NamedTuple


class _Sighting(NamedTuple):
    state: Hashable
    since: float


class StallDetector:
    """What one process has seen of others' work.

    :param stall_seconds: how long a state must stay the same to count as stalled.
    :param clock: seconds that only ever go forward.
    """

    def __init__(self, stall_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._stall_seconds = stall_seconds
        self._clock = clock
        self._seen: dict[str, _Sighting] = {}

    def has_stalled(self, key: str, state: Hashable) -> bool:
        """Whether `key` has been seen in this very state, and no other, for the stall's time.

        :param state: changes whenever the owner does anything, such as a document's revision.
        """
        now = self._clock()
        seen = self._seen.get(key)
        if seen is None or seen.state != state:
            self._seen[key] = _Sighting(state, now)
            return False
        return now - seen.since >= self._stall_seconds

    def forget_others(self, keys: Collection[str]) -> None:
        """Forgets all but these: what was not there in the last complete look has ended."""
        for key in self._seen.keys() - set(keys):
            del self._seen[key]
