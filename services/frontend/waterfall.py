"""How a page was made: the calls of its record as rows of an indented tree with bars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from services.common.record import Call, CallLog


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
    dropped: int
    trace_id: str
    request_id: str
    page_milliseconds: float

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
        dropped=log.dropped,
        trace_id=trace_id,
        request_id=request_id,
        page_milliseconds=page_milliseconds,
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
