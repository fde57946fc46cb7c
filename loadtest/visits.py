"""Visits of shoppers who arrive at a rate, whether or not the shop keeps up (an open model).

In a closed loop a user waits for each answer before the next request, so a shop that stalls gets
fewer requests, and the stall is measured once per user. Here the next shopper arrives all the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import gevent
from gevent.pool import Group
from locust.exception import CatchResponseError, RescheduleTask

from loadtest.recording import VISITS
from loadtest.thresholds import LATE, TURNED_AWAY, UNFINISHED


class VisitingShopper(Protocol):
    """A shopper who can make one visit after another.

    :ivar thought_seconds: how long they have thought since `begin_visit`.
    """

    thought_seconds: float

    def begin_visit(self, late_seconds: float) -> None:
        """Prepares for a visit that begins late."""
        ...

    def journeys(self) -> Mapping[str, Callable[[], object]]:
        """Returns what they can come for."""
        ...


class VisitPool:
    """The visits in one process.

    :param new_guest: returns a shopper of a kind.
    :param draw: returns the kind of the next shopper, and the name of what they come for.
    :param count: counts a visit, as locust counts requests.
    :param count_late: counts how late somebody was let in, in milliseconds.
    :param crashed: notes an exception that is no failed answer.
    :param max_visits: how many there may be at the same time.
    """

    def __init__(
        self,
        new_guest: Callable[[str], VisitingShopper],
        draw: Callable[[], tuple[str, str]],
        count: Callable[..., None],
        count_late: Callable[[str, float], None],
        crashed: Callable[[VisitingShopper, Exception], None],
        *,
        max_visits: int,
    ) -> None:
        self._new_guest = new_guest
        self._draw = draw
        self._count = count
        self._count_late = count_late
        self._crashed = crashed
        self._max_visits = max_visits
        self._is_open = True
        self._running: Group = Group()
        # Shoppers come back: their accounts and connections are there already.
        self._waiting: dict[str, list[VisitingShopper]] = {}

    def begin(self, due: float) -> None:
        """Lets the next shopper in, or turns them away. After `finish` nobody comes.

        :param due: when they were to arrive, by `time.monotonic`.
        """
        if not self._is_open:
            return
        late_seconds = max(0.0, time.monotonic() - due)
        self._count_late(LATE, late_seconds * 1000)
        if len(self._running) >= self._max_visits:
            self._count_visit(TURNED_AWAY, 0.0, f"{self._max_visits} shoppers are in the shop")
            return
        kind, journey = self._draw()
        self._running.spawn(self._visit, kind, journey, due)

    def reopen(self) -> None:
        """Lets shoppers in again: the web page begins another run."""
        self._is_open = True

    def finish(self, timeout_seconds: float) -> None:
        """Waits for those in the shop. Counts as failed those who are still there after that."""
        self._is_open = False
        self._running.join(timeout=timeout_seconds)
        self._running.kill()

    def _visit(self, kind: str, journey: str, due: float) -> None:
        idle = self._waiting.setdefault(kind, [])
        guest = idle.pop() if idle else self._new_guest(kind)
        guest.begin_visit(max(0.0, time.monotonic() - due))
        reason, name = "", f"{VISITS}: {kind}.{journey}"
        try:
            guest.journeys()[journey]()
        except RescheduleTask:
            reason = "a request failed, or was refused"
        except gevent.GreenletExit:
            reason, name = "still in the shop when the run ended", UNFINISHED
        except Exception as error:
            self._crashed(guest, error)
            reason = "a mistake in the journey"
        seconds = time.monotonic() - due - guest.thought_seconds
        self._count_visit(name, seconds, reason)
        idle.append(guest)

    def _count_visit(self, name: str, seconds: float, reason: str) -> None:
        self._count(
            request_type="VISIT",
            name=name,
            start_time=time.time() - seconds,
            response_time=seconds * 1000,
            response_length=0,
            exception=CatchResponseError(reason) if reason else None,
            context={},
        )


def weighted(choices: Mapping[tuple[str, str], int]) -> tuple[Sequence[tuple[str, str]], list[int]]:
    """Returns the choices with a weight, and their weights, for `random.choices`."""
    kept = {choice: weight for choice, weight in choices.items() if weight}
    return list(kept), list(kept.values())
