"""How a page was made: the calls of its record as a waterfall, bars that show when each one ran."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from services.common.call_record import Call, CallLog, Served, decode, encode
from services.frontend.sealing import Seal

_PURPOSE = "made"
_COOKIE_SECONDS = 60
_MAX_COOKIE_LENGTH = 3500


@dataclass(frozen=True, slots=True)
class WaterfallRow:
    """One call.

    :ivar depth: 0 for a call of the page itself, 1 for one that was made for such a call.
    :ivar notes: what else is known of it.
    :ivar start_milliseconds: when it began, since the page's request did.
    :ivar start_percent: where its bar begins, of the whole width, which is the whole time.
    """

    depth: int
    call: Call
    start_milliseconds: float
    start_percent: float
    width_percent: float
    is_failed: bool
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Waterfall:
    """All calls that were made for a page, in the order in which they began, each above those that
    were made for it.

    :param dropped: how many more there were than a record holds.
    :param is_trace_kept: whether somebody has the trace of that id.
    :param page_milliseconds: what the page took until it was drawn.
    :param whole_milliseconds: what the whole width stands for.
    """

    rows: Sequence[WaterfallRow]
    calls: tuple[Call, ...]
    dropped: int
    trace_id: str
    request_id: str
    page_milliseconds: float
    whole_milliseconds: float
    is_trace_kept: bool

    def to_cookie(self, seal: Seal) -> str | None:
        """The same for the page that the visitor is sent to; None when it is too much for a
        cookie (RFC 6265 §6.1 has browsers keep 4096 bytes).
        """
        served = Served("", "", "", self.page_milliseconds, self.calls, self.dropped)
        text = seal.close(
            _PURPOSE, [encode(served), self.trace_id, self.request_id, self.is_trace_kept]
        )
        return text if len(text) <= _MAX_COOKIE_LENGTH else None

    def versions_of(self, callee: str) -> frozenset[str]:
        """The versions of a service that have answered this page's own calls."""
        return frozenset(
            call.version for call in self.calls if call.callee == callee and call.version
        )

    @property
    def services(self) -> int:
        """How many different services took part, this one not counted."""
        return len({row.call.callee for row in self.rows})


def waterfall(
    log: CallLog,
    *,
    trace_id: str,
    request_id: str,
    page_milliseconds: float,
    is_trace_kept: bool = False,
) -> Waterfall:
    """The calls made so far."""
    whole = max([page_milliseconds, *(_end(call) for call in log.calls)])
    return Waterfall(
        rows=list(_rows(log.calls, 0, 0.0, whole)),
        calls=tuple(log.calls),
        dropped=log.dropped,
        trace_id=trace_id,
        request_id=request_id,
        page_milliseconds=page_milliseconds,
        whole_milliseconds=whole,
        is_trace_kept=is_trace_kept,
    )


def waterfall_from_cookie(seal: Seal, text: str) -> Waterfall | None:
    """What `to_cookie` has kept; None when it is not that (any more)."""
    match seal.open(_PURPOSE, text, _COOKIE_SECONDS):
        case [str(record), str(trace_id), str(request_id), bool(is_trace_kept)]:
            served = decode(record)
        case _:
            return None
    if served is None:
        return None
    return waterfall(
        CallLog(list(served.calls), served.dropped),
        trace_id=trace_id,
        request_id=request_id,
        page_milliseconds=served.milliseconds,
        is_trace_kept=is_trace_kept,
    )


def _rows(
    calls: Sequence[Call], depth: int, began_milliseconds: float, whole: float
) -> Iterator[WaterfallRow]:
    for call in sorted(calls, key=lambda call: call.start_milliseconds):
        start = began_milliseconds + call.start_milliseconds
        start_percent = percent(start, whole)
        yield WaterfallRow(
            depth=depth,
            call=call,
            start_milliseconds=start,
            start_percent=start_percent,
            width_percent=percent(start + call.milliseconds, whole) - start_percent,
            is_failed=call.failed,
        )
        yield from _rows(call.calls, depth + 1, start, whole)


def _end(call: Call) -> float:
    return call.start_milliseconds + call.milliseconds


def percent(milliseconds: float, whole: float) -> float:
    """A moment's place. One that a wrong record puts outside is at the edge."""
    return min(100.0, max(0.0, 100 * milliseconds / whole)) if whole > 0 else 0.0
