"""Pauses double, and stay below the longest."""

from __future__ import annotations

from services.common.backoff import Backoff, any_jitter


def test_pauses_double_up_to_the_longest() -> None:
    backoff = Backoff(first_seconds=0.1, longest_seconds=2.0)
    pauses = [backoff.pause_seconds(failures) for failures in (1, 2, 3, 6, 10_000)]
    assert pauses == [0.1, 0.2, 0.4, 2.0, 2.0]
    assert (backoff.pause_ms(2), backoff.longest_ms) == (200, 2000)


def test_jitter_takes_up_to_half_away() -> None:
    backoff = Backoff(first_seconds=1.0, longest_seconds=60.0)
    assert backoff.pause_ms(1, jitter=1.0) == 500
    assert all(500 <= backoff.pause_ms(1, any_jitter()) <= 1000 for _ in range(100))
