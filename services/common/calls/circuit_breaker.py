"""A circuit breaker: while a callee is unavailable, calls to it are refused at once instead of
failing slowly, until a single probe succeeds.

Closed, open and half-open are the states of https://martinfowler.com/bliki/CircuitBreaker.html.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from enum import Enum, auto

_OUTAGES_TO_OPEN = 5
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 4.0  # a callee that comes back is to be found within seconds
_JITTER = 0.2  # keeps several processes from probing in step


class AttemptVerdict(Enum):
    """What one attempt says of its callee."""

    WORKS = auto()
    OUTAGE = auto()
    NOTHING = auto()


class CircuitOpen(Exception):
    """The attempt must not be made.

    :param seconds_until_probe: when it is worth asking again; always positive.
    """

    def __init__(self, seconds_until_probe: float) -> None:
        super().__init__(f"open for {seconds_until_probe:.3f} s more")
        self.seconds_until_probe = seconds_until_probe


class _State(Enum):
    CLOSED = auto()
    OPEN = auto()
    HALF_OPEN = auto()


class CircuitBreaker:
    """Admits attempts at one callee, and learns from how they end.

    :param changed: called with True when the circuit opens and with False when it closes again.
        Failed probes in between are part of the same outage.
    :param clock: seconds that only ever go forward.
    """

    def __init__(
        self, changed: Callable[[bool], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._changed = changed
        self._clock = clock
        self._state = _State.CLOSED
        # Counts the changes of state. What was admitted before the latest one is old news when it
        # ends: the rest of a burst must neither prolong a pause nor pass for the probe.
        self._era = 0
        self._outages = 0
        self._next_pause_seconds = _FIRST_PAUSE_SECONDS
        self._probe_at = 0.0

    @property
    def is_closed(self) -> bool:
        """Whether attempts are admitted freely."""
        return self._state is _State.CLOSED

    def admit(self) -> int:
        """Admits an attempt; its end must be told to :meth:`settle`, with the number returned.

        :raises CircuitOpen: it must not be made.
        """
        if self._state is _State.CLOSED:
            return self._era
        if self._state is _State.HALF_OPEN:  # should the probe fail, this pause follows
            raise CircuitOpen(self._next_pause_seconds)
        seconds_until_probe = self._probe_at - self._clock()
        if seconds_until_probe > 0:
            raise CircuitOpen(seconds_until_probe)
        self._enter(_State.HALF_OPEN)
        return self._era

    def settle(self, admission: int, verdict: AttemptVerdict) -> None:
        """Learns how an admitted attempt ended."""
        if admission != self._era:
            return
        if verdict is AttemptVerdict.WORKS:
            self._outages = 0
            if self._state is _State.HALF_OPEN:
                self._close()
        elif verdict is AttemptVerdict.OUTAGE:
            self._outages += 1
            if self._state is _State.HALF_OPEN or self._outages >= _OUTAGES_TO_OPEN:
                self._open()
        elif self._state is _State.HALF_OPEN:
            self._enter(_State.OPEN)  # the pause is over, so the next attempt is the probe

    def _open(self) -> None:
        was_closed = self._state is _State.CLOSED
        self._enter(_State.OPEN)
        jitter = random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311  not for secrets
        self._probe_at = self._clock() + self._next_pause_seconds * jitter
        self._next_pause_seconds = min(_LONGEST_PAUSE_SECONDS, 2 * self._next_pause_seconds)
        if was_closed:
            self._changed(True)

    def _close(self) -> None:
        self._enter(_State.CLOSED)
        self._next_pause_seconds = _FIRST_PAUSE_SECONDS
        self._changed(False)

    def _enter(self, state: _State) -> None:
        self._state = state
        self._era += 1
