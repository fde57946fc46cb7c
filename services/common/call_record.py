"""The call record: who served an answer, and which calls were made for it.

Every answer carries it (HTTP header or gRPC trailer ``x-served-by``), so that a page can show its
own path without any edge that the shop does not have. It is bounded in entries and bytes; what does
not fit is counted, not sent.

On the wire it is compact ASCII JSON: ``[service, version, instance, milliseconds, calls,
dropped]``, where each of the calls is ``[callee, operation, version, instance, start, milliseconds,
status, calls]``. Milliseconds of a call are measured by its caller, those of an answer by its
server. A call's start is in milliseconds, too, since its caller got the request: no clock is
compared with another machine's.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

HEADER = "x-served-by"
REFUSED = "refused"  # the status of a call that was not made
MAX_CALLS = 64
MAX_BYTES = 4096
MAX_TEXT = 80
MAX_DEPTH = 8

_FAILURES = {"unavailable", "timeout", "internal", REFUSED}


def is_failure(status: str) -> bool:
    """Whether a status is that of an error of the callee or of the way to it."""
    return status.startswith("5") or status in _FAILURES


@dataclass(frozen=True, slots=True)
class Call:
    """One finished call, with the calls that were made for it in turn.

    :ivar start_milliseconds: when it began, since the request that it was made for did; of a call
        within another call, since that one did.
    """

    callee: str
    operation: str
    version: str
    instance: str
    milliseconds: float
    status: str
    calls: tuple[Call, ...] = ()
    start_milliseconds: float = 0.0

    @property
    def failed(self) -> bool:
        """Whether the call ended in an error of the callee or of the way to it."""
        return is_failure(self.status)

    def count(self) -> int:
        """How many calls this is, with all below it."""
        return 1 + sum(call.count() for call in self.calls)


@dataclass(frozen=True, slots=True)
class Served:
    """What an answer says of itself."""

    service: str
    version: str
    instance: str
    milliseconds: float
    calls: tuple[Call, ...] = ()
    dropped: int = 0

    def calls_within(self, milliseconds: float) -> tuple[Call, ...]:
        """Its calls, for the call that it answers and that has taken its caller so long.

        What the way took is in equal parts before and behind what the server measured (as NTP
        assumes, RFC 5905 §8).
        """
        way_milliseconds = max(0.0, milliseconds - self.milliseconds) / 2
        return tuple(
            replace(call, start_milliseconds=call.start_milliseconds + way_milliseconds)
            for call in self.calls
        )


@dataclass(slots=True)
class CallLog:
    """Collects the calls made while one request is served. Keeps at most MAX_CALLS and counts the
    rest.

    :ivar began: when the request did, in seconds of :func:`time.perf_counter`.
    """

    calls: list[Call] = field(default_factory=list[Call])
    dropped: int = 0
    began: float = field(default_factory=time.perf_counter)
    _kept: int = 0

    def add(self, call: Call, dropped: int = 0) -> None:
        """Adds a finished call; `dropped` is what its own answer left out."""
        self.dropped += dropped
        size = call.count()
        if self._kept + size > MAX_CALLS:
            self.dropped += size
            return
        self._kept += size
        self.calls.append(call)


def encode(served: Served) -> str:
    """The header's value: at most MAX_BYTES of ASCII. Whole calls are left out from the end until
    it fits.
    """
    calls = [_call_to_wire(call) for call in served.calls]
    sizes = [call.count() for call in served.calls]
    dropped = served.dropped
    while True:
        wire = [
            served.service,
            served.version,
            served.instance,
            round(served.milliseconds, 1),
            calls,
            dropped,
        ]
        text = json.dumps(wire, separators=(",", ":"), ensure_ascii=True)
        if len(text) <= MAX_BYTES or not calls:
            return text
        calls.pop()
        dropped += sizes.pop()


def decode(text: str | None) -> Served | None:
    """Reads a header's value. None when it is absent or not a record: a callee may be anything."""
    if text is None or len(text) > 2 * MAX_BYTES:
        return None
    try:
        wire = json.loads(text)
        service, version, instance, milliseconds, calls, dropped = _fields(wire, 6)
        return Served(
            service=_text(service),
            version=_text(version),
            instance=_text(instance),
            milliseconds=_number(milliseconds),
            calls=_calls_from_wire(calls, MAX_DEPTH),
            dropped=max(0, int(_number(dropped))),
        )
    except (ValueError, OverflowError, RecursionError):
        return None


def _call_to_wire(call: Call) -> list[object]:
    return [
        call.callee,
        call.operation[:MAX_TEXT],
        call.version,
        call.instance,
        round(call.start_milliseconds, 1),
        round(call.milliseconds, 1),
        call.status,
        [_call_to_wire(child) for child in call.calls],
    ]


def _calls_from_wire(wire: object, depth: int) -> tuple[Call, ...]:
    if not isinstance(wire, list) or depth == 0:
        raise ValueError("not a list of calls")
    calls: list[Call] = []
    for entry in cast("list[object]", wire):
        callee, operation, version, instance, start, milliseconds, status, children = _fields(
            entry, 8
        )
        calls.append(
            Call(
                callee=_text(callee),
                operation=_text(operation),
                version=_text(version),
                instance=_text(instance),
                milliseconds=_number(milliseconds),
                status=_text(status),
                calls=_calls_from_wire(children, depth - 1),
                start_milliseconds=_number(start),
            )
        )
    return tuple(calls)


def _fields(wire: object, count: int) -> Sequence[object]:
    if not isinstance(wire, list) or len(cast("list[object]", wire)) != count:
        raise ValueError("not a record")
    return cast("list[object]", wire)


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise ValueError("not a short text")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("not a number")
    number = float(value)
    if not math.isfinite(number):  # Python's JSON has NaN and Infinity
        raise ValueError("not a finite number")
    return number
