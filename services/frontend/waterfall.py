"""How a page was made: the calls of its record as rows of an indented tree with bars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from services.common.record import Call, CallLog, Served, decode, encode
from services.frontend.sealing import Seal

_PURPOSE = "made"
_COOKIE_SECONDS = 60
_MAX_COOKIE_LENGTH = 3500


@dataclass(frozen=True, slots=True)
class Row:
    """One call. `share` is its time as a percentage of the longest call of the page, for a bar."""

    depth: int
    callee: str
    operation: str
    version: str
    instance: str
    milliseconds: float
    status: str
    failed: bool
    share: float


@dataclass(frozen=True, slots=True)
class Waterfall:
    """All calls that were made for a page.

    :param dropped: how many more there were than a record holds.
    :param page_milliseconds: what the page took until it was drawn.
    """

    rows: Sequence[Row]
    calls: tuple[Call, ...]
    dropped: int
    trace_id: str
    request_id: str
    page_milliseconds: float

    def to_cookie(self, seal: Seal) -> str | None:
        """The same for the page that the visitor is sent to; None when it is too much for a
        cookie (RFC 6265 §6.1 has browsers keep 4096 bytes).
        """
        served = Served("", "", "", self.page_milliseconds, self.calls, self.dropped)
        text = seal.close(_PURPOSE, [encode(served), self.trace_id, self.request_id])
        return text if len(text) <= _MAX_COOKIE_LENGTH else None

    def versions_of(self, callee: str) -> frozenset[str]:
        """The versions of a service that have answered this page's own calls."""
        return frozenset(
            call.version for call in self.calls if call.callee == callee and call.version
        )

    @property
    def services(self) -> int:
        """How many different services took part, this one not counted."""
        return len({row.callee for row in self.rows})


def waterfall(
    log: CallLog, *, trace_id: str, request_id: str, page_milliseconds: float
) -> Waterfall:
    """The calls made so far."""
    longest = max((call.milliseconds for call in log.calls), default=0.0)
    return Waterfall(
        rows=list(_rows(log.calls, 0, longest)),
        calls=tuple(log.calls),
        dropped=log.dropped,
        trace_id=trace_id,
        request_id=request_id,
        page_milliseconds=page_milliseconds,
    )


def waterfall_from_cookie(seal: Seal, text: str) -> Waterfall | None:
    """What `to_cookie` has kept; None when it is not that (any more)."""
    match seal.open(_PURPOSE, text, _COOKIE_SECONDS):
        case [str(record), str(trace_id), str(request_id)]:
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
    )


def _rows(calls: Sequence[Call], depth: int, longest: float) -> Iterator[Row]:
    for call in calls:
        share = 100 * call.milliseconds / longest if longest > 0 else 0.0
        yield Row(
            depth=depth,
            callee=call.callee,
            operation=call.operation,
            version=call.version,
            instance=call.instance,
            milliseconds=call.milliseconds,
            status=call.status,
            failed=call.failed,
            share=min(100.0, max(1.0, share)),
        )
        yield from _rows(call.calls, depth + 1, longest)
