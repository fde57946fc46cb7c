"""Live figures of the calls in the shop, out of the call records of the pages and API answers that
pass through here.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.common import context
from services.common.record import Call

VISITORS = "visitors"
WINDOW_SECONDS = 600.0
MAX_SAMPLES = 20_000
_FRONTEND = "frontend"
_MAX_NAMES = 12


@dataclass(frozen=True, slots=True)
class _Sample:
    at: float
    caller: str
    call: Call


@dataclass(frozen=True, slots=True)
class EdgeFigures:
    """What happened on one edge within the window. Milliseconds are what the caller waited."""

    caller: str
    callee: str
    calls: int = 0
    errors: int = 0
    p50_ms: float = 0.0
    p95_ms: float = 0.0
    versions: tuple[str, ...] = ()
    instances: tuple[str, ...] = ()


@dataclass(slots=True)
class _Gathered:
    milliseconds: list[float] = field(default_factory=list[float])
    errors: int = 0
    versions: set[str] = field(default_factory=set[str])
    instances: set[str] = field(default_factory=set[str])


class Figures:
    """A sliding window over the calls of the last WINDOW_SECONDS, at most MAX_SAMPLES of them.

    :param clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples: deque[_Sample] = deque(maxlen=MAX_SAMPLES)

    def observe(self, caller: str, calls: Iterable[Call]) -> None:
        """Adds calls that `caller` made, and those that were made for them in turn."""
        now = self._clock()
        for call in calls:
            self._samples.append(_Sample(now, caller, call))
            self.observe(call.callee, call.calls)

    def edges(self) -> Sequence[EdgeFigures]:
        """The figures of every edge that was used, busiest first."""
        self._forget_old()
        gathered: defaultdict[tuple[str, str], _Gathered] = defaultdict(_Gathered)
        for sample in self._samples:
            call = sample.call
            edge = gathered[sample.caller, call.callee]
            edge.milliseconds.append(call.milliseconds)
            edge.errors += call.failed
            _note(edge.versions, call.version)
            _note(edge.instances, call.instance)
        figures = [
            EdgeFigures(
                caller=caller,
                callee=callee,
                calls=len(edge.milliseconds),
                errors=edge.errors,
                p50_ms=percentile(edge.milliseconds, 50),
                p95_ms=percentile(edge.milliseconds, 95),
                versions=tuple(sorted(edge.versions)),
                instances=tuple(sorted(edge.instances)),
            )
            for (caller, callee), edge in gathered.items()
        ]
        return sorted(figures, key=lambda edge: (-edge.calls, edge.caller, edge.callee))

    def _forget_old(self) -> None:
        outdated = self._clock() - WINDOW_SECONDS
        while self._samples and self._samples[0].at < outdated:
            self._samples.popleft()


class FiguresMiddleware:
    """ASGI middleware: feeds the figures with each page and the calls that were made for it."""

    def __init__(self, app: ASGIApp, *, figures: Figures, version: str, instance: str) -> None:
        self._app = app
        self._figures = figures
        self._version = version
        self._instance = instance

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = "internal"

        async def send_noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, send_noting)
        finally:
            call = Call(
                callee=_FRONTEND,
                operation=scope["method"],
                version=self._version,
                instance=self._instance,
                milliseconds=1000 * (time.perf_counter() - started),
                status=status,
                calls=tuple(context.current().log.calls),
            )
            self._figures.observe(VISITORS, [call])


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that at least `percent` of the values do not exceed (nearest rank); 0
    without values.
    """
    if not values:
        return 0.0
    rank = math.ceil(percent / 100 * len(values))
    return sorted(values)[max(0, rank - 1)]


def _note(names: set[str], name: str) -> None:
    # Instances come and go; a page lists a few.
    if name and len(names) < _MAX_NAMES:
        names.add(name)
