"""Leases without trust in clocks: they run out by the observer's own clock.

An owner renews its lease by changing the document. An observer takes a lease for lapsed when it has
seen the same state for the lease's length, so the clocks of two processes are never compared; they
need only run at about the same speed. Kubernetes elects leaders the same way
(https://pkg.go.dev/k8s.io/client-go/tools/leaderelection).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Hashable
from typing import NamedTuple


class _Sighting(NamedTuple):
    state: Hashable
    since: float


class LeaseWatch:
    """What one process has seen of others' leases.

    :param lease_seconds: how long a state must stay the same to be taken for abandoned.
    :param clock: seconds that only ever go forward.
    """

    def __init__(self, lease_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._seen: dict[str, _Sighting] = {}

    def has_lapsed(self, key: str, state: Hashable) -> bool:
        """Whether `key` has been seen in this very state, and no other, for the lease's length.

        :param state: changes whenever the owner does anything, such as a document's revision.
        """
        now = self._clock()
        seen = self._seen.get(key)
        if seen is None or seen.state != state:
            self._seen[key] = _Sighting(state, now)
            return False
        return now - seen.since >= self._lease_seconds

    def forget_others(self, keys: Collection[str]) -> None:
        """Forgets all but these: what was not there in the last complete look has ended."""
        for key in self._seen.keys() - set(keys):
            del self._seen[key]
