"""When to check again what may still change long after it seemed final."""

from __future__ import annotations

_LONGEST_PAUSE_MS = 12 * 3_600_000
# A bank may send a refund back for 30 days (https://docs.stripe.com/refunds#failed-refunds).
_WATCHED_MS = 35 * 24 * 3_600_000


def next_look_ms(since_ms: int, now_ms: int) -> int | None:
    """Returns when to look next, in Unix milliseconds; None once it has been watched for 35 days.

    The pause is as long as the time that has passed, so that what is new is looked at often, but no
    longer than 12 hours.

    :param since_ms: when it seemed to be over.
    """
    age_ms = max(0, now_ms - since_ms)
    if age_ms > _WATCHED_MS:
        return None
    return now_ms + min(age_ms, _LONGEST_PAUSE_MS)
