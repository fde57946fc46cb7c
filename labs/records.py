"""Call records, read as somebody does who looks for the slow one
(services/common/call_record.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from services.common.call_record import Call


def all_calls(calls: Sequence[Call]) -> Iterator[Call]:
    """Yields calls, each followed by those that were made for it."""
    for call in calls:
        yield call
        yield from all_calls(call.calls)


def own_milliseconds(call: Call) -> float:
    """Returns a call's milliseconds without those of the calls that were made for it."""
    return call.milliseconds - sum(each.milliseconds for each in call.calls)
