"""The requests that a process has recently served and the calls that it has made, for the mesh
page: counts and times in a ring of short slots, for as long as the page's longest window.

Times are kept in buckets whose bounds grow by a factor, as in DDSketch (Masson, Rim, Lee 2019,
https://arxiv.org/abs/1908.10693). A percentile has a relative error of at most MAX_TIME_ERROR, and
the buckets of several processes can be added up.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from services.common.call_record import REFUSED, Call
from services.common.observing.label_values import OTHER, LabelValues

# Shorter slots would cost memory under load and show nothing more.
SLOT_SECONDS = 3
WINDOWS_SECONDS = (60, 300, 900)  # each TREND_POINTS times some slots
KEPT_SECONDS = WINDOWS_SECONDS[-1]
TREND_POINTS = 20
MAX_EDGES = 128
MAX_VERSIONS = 8
MAX_TRACES = 5

_GROWTH = 1.1
MAX_TIME_ERROR = (_GROWTH - 1) / (_GROWTH + 1)
_SHORTEST_MILLISECONDS = 0.05
_DENIED = frozenset({"denied", "403"})


@dataclass(slots=True)
class Tally:
    """What happened on one way within some time.

    :ivar denied: answers of 403 by the callee itself.
    :ivar denied_before: answers of 403 by somebody before the callee, which a mesh's proxy is.
    :ivar refused: calls that were not made, since the circuit was open or the retry budget spent.
    :ivar times: how many took how long, by bucket.
    """

    calls: float = 0
    errors: float = 0
    retries: float = 0
    refused: float = 0
    denied: float = 0
    denied_before: float = 0
    times: dict[int, float] = field(default_factory=dict[int, float])

    def add(self, other: Tally) -> None:
        """Adds what another one has counted."""
        self.calls += other.calls
        self.errors += other.errors
        self.retries += other.retries
        self.refused += other.refused
        self.denied += other.denied
        self.denied_before += other.denied_before
        for bucket, count in other.times.items():
            self.times[bucket] = self.times.get(bucket, 0) + count

    def add_times(self, count: float, *, above_ms: float, up_to_ms: float) -> None:
        """Adds calls of which is known only between which bounds they were: as if evenly spread,
        which is what Prometheus' ``histogram_quantile`` takes for granted.
        """
        first = bucket_of(above_ms) if above_ms > 0 else bucket_of(_SHORTEST_MILLISECONDS)
        for bucket in range(first, bucket_of(up_to_ms) + 1):
            begin = max(above_ms, _GROWTH ** (bucket - 1)) if bucket > first else above_ms
            end = min(up_to_ms, _GROWTH**bucket)
            share = max(0.0, end - begin) / (up_to_ms - above_ms)
            if share:
                self.times[bucket] = self.times.get(bucket, 0) + count * share

    def percentile_ms(self, percent: float) -> float | None:
        """The time that at least `percent` of the calls did not exceed; None without any."""
        rank = percent / 100 * sum(self.times.values())
        passed = 0.0
        for bucket in sorted(self.times):
            passed += self.times[bucket]
            if passed >= rank > 0:
                return 2 * _GROWTH**bucket / (_GROWTH + 1)
        return None


def bucket_of(milliseconds: float) -> int:
    """The bucket of a time."""
    return math.ceil(math.log(max(milliseconds, _SHORTEST_MILLISECONDS), _GROWTH))


class Way(NamedTuple):
    """From whom to whom, and which version of the latter; empty when nobody has answered."""

    caller: str
    callee: str
    version: str


@dataclass(frozen=True, slots=True)
class Trace:
    """A call whose trace is kept."""

    trace_id: str
    operation: str
    status: str
    milliseconds: float
    age_seconds: float


@dataclass(frozen=True, slots=True)
class WayReport:
    """What happened on one way.

    :ivar trend: calls by slot of the window, the oldest first.
    :ivar traces: the latest ones, the newest first.
    """

    caller: str
    callee: str
    version: str
    tally: Tally
    trend: list[float]
    traces: list[Trace] = field(default_factory=list[Trace])


@dataclass(frozen=True, slots=True)
class TrafficReport:
    """What a process has counted in a window of time that ends now.

    :ivar seconds: how long the window is: it begins with a slot.
    :ivar served: its own answers, whoever asked.
    """

    seconds: float
    served: Tally
    ways: list[WayReport]


@dataclass(frozen=True, slots=True)
class ProcessReport:
    """What a process says of itself.

    :ivar open_circuits: the callees that it does not call now.
    """

    service: str
    version: str
    instance: str
    open_circuits: list[str]
    report: TrafficReport


class _Ring:
    """The slots in which something happened, the newest last."""

    __slots__ = ("_slots",)

    def __init__(self) -> None:
        self._slots: deque[tuple[int, Tally]] = deque()

    def at(self, slot: int) -> Tally:
        """This slot's tally. Forgets those that are too old for any window."""
        if not self._slots or self._slots[-1][0] != slot:
            self._slots.append((slot, Tally()))
            self.forget(slot)
        return self._slots[-1][1]

    def forget(self, slot: int) -> None:
        """Forgets what is too old for any window that ends with `slot`."""
        while self._slots and self._slots[0][0] < slot - KEPT_SECONDS // SLOT_SECONDS:
            self._slots.popleft()

    def since(self, first: int) -> Iterator[tuple[int, Tally]]:
        """The slots from `first` on."""
        return ((slot, tally) for slot, tally in self._slots if slot >= first)

    def __len__(self) -> int:
        return len(self._slots)


@dataclass(slots=True)
class _KeptWay:
    ring: _Ring = field(default_factory=_Ring)
    traces: deque[tuple[float, str, Call]] = field(
        default_factory=lambda: deque[tuple[float, str, Call]](maxlen=MAX_TRACES)
    )


class RecentTraffic:
    """Counts what one process answers and calls. Bounded, whatever is called and however often.

    :param clock: seconds that only ever go forward.
    :ivar ignored: operations that do not count.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._served = _Ring()
        self._ways: dict[Way, _KeptWay] = {}
        self._versions: defaultdict[str, LabelValues] = defaultdict(
            lambda: LabelValues(MAX_VERSIONS)
        )
        self.ignored: set[str] = set()

    def served(self, operation: str, seconds: float, *, is_error: bool) -> None:
        """Counts an answer of this process."""
        if operation in self.ignored:
            return
        tally = self._served.at(self._slot())
        tally.calls += 1
        tally.errors += is_error
        _time(tally, seconds * 1000)

    def called(
        self, caller: str, call: Call, *, is_retry: bool = False, trace_id: str = ""
    ) -> None:
        """Counts a call, not those that were made for it.

        :param trace_id: of its trace, when that is kept.
        """
        kept = self._way(Way(caller, call.callee, self.bounded(call.callee, call.version)))
        if kept is None:
            return
        tally = kept.ring.at(self._slot())
        if call.status == REFUSED:
            tally.refused += 1
            return
        tally.calls += 1
        tally.errors += call.failed
        tally.retries += is_retry
        if call.status in _DENIED:
            if call.instance:
                tally.denied += 1
            else:
                tally.denied_before += 1
        _time(tally, call.milliseconds)
        if trace_id:
            kept.traces.appendleft((self._clock(), trace_id, call))

    def bounded(self, callee: str, version: str) -> str:
        """A version as what it is counted under: whoever answered may claim to be anything, and
        say that it has called anybody.
        """
        if callee not in self._versions and len(self._versions) >= MAX_EDGES:
            return OTHER if version else ""
        return self._versions[callee].bounded(version)

    def report(self, window_seconds: int) -> TrafficReport:
        """What happened in a window that ends now. The slot that is not over yet is in the counts,
        not in the trends, where it would look like a fall.

        :param window_seconds: one of WINDOWS_SECONDS.
        """
        now = self._clock()
        last = self._slot()
        first = last - window_seconds // SLOT_SECONDS + 1
        served = Tally()
        for _, tally in self._served.since(first):
            served.add(tally)
        return TrafficReport(
            seconds=now - first * SLOT_SECONDS,
            served=served,
            ways=[
                self._way_report(way, kept, first, last, now) for way, kept in self._ways.items()
            ],
        )

    def _way_report(self, way: Way, kept: _KeptWay, first: int, last: int, now: float) -> WayReport:
        slots_per_point = (last - first + 1) // TREND_POINTS
        trend = [0.0] * TREND_POINTS
        total = Tally()
        for slot, tally in kept.ring.since(first - 1):
            if slot >= first:
                total.add(tally)
            if slot < last:
                trend[(slot - first + 1) // slots_per_point] += tally.calls
        return WayReport(
            *way,
            tally=total,
            trend=trend,
            traces=[
                Trace(
                    trace_id=trace_id,
                    operation=call.operation,
                    status=call.status,
                    milliseconds=round(call.milliseconds, 1),
                    age_seconds=round(now - at, 1),
                )
                for at, trace_id, call in kept.traces
                if at >= first * SLOT_SECONDS
            ],
        )

    def _way(self, way: Way) -> _KeptWay | None:
        kept = self._ways.get(way)
        if kept is None:
            if len(self._ways) >= MAX_EDGES:
                self._forget_unused()
            if len(self._ways) >= MAX_EDGES:
                return None
            kept = self._ways[way] = _KeptWay()
        return kept

    def _forget_unused(self) -> None:
        slot = self._slot()
        for way, kept in list(self._ways.items()):
            kept.ring.forget(slot)
            if not kept.ring:
                del self._ways[way]

    def _slot(self) -> int:
        return int(self._clock() // SLOT_SECONDS)


def _time(tally: Tally, milliseconds: float) -> None:
    bucket = bucket_of(milliseconds)
    tally.times[bucket] = tally.times.get(bucket, 0) + 1
