"""An order is put down before its lease is over, however slowly an outage shows itself."""

from __future__ import annotations

import time

import pytest

from services.common.clock import now_ms
from services.common.errors import Kind
from services.order import saga
from services.order.model import Step
from services.order.settings import OrderSettings
from tests.unit.order.examples import an_order, error
from tests.unit.order.harness import OrderHarness


class ShiftedClock:
    """Stands in for :mod:`time` in the saga, and is put on by the test."""

    def __init__(self) -> None:
        self.ahead_seconds = 0.0

    def monotonic(self) -> float:
        """The real time, and what it was put on by."""
        return time.monotonic() + self.ahead_seconds


@pytest.mark.parametrize(
    "attempts_seconds", [(8.0,), (3.0, 8.0)], ids=["the first is slow", "the second is slow"]
)
async def test_the_time_of_the_attempts_counts(
    harness: OrderHarness, monkeypatch: pytest.MonkeyPatch, attempts_seconds: tuple[float, ...]
) -> None:
    clock = ShiftedClock()
    monkeypatch.setattr(saga, "time", clock)
    harness.around.fail(Step.AUTHORIZE, *[error(Kind.TIMEOUT)] * 5)
    answers = harness.around.hold(Step.AUTHORIZE)
    order = an_order(created_ms=now_ms())
    await harness.begin(harness.process(), order)
    for number, seconds in enumerate(attempts_seconds, start=1):
        await harness.asked_for(Step.AUTHORIZE, number)
        clock.ahead_seconds += seconds
        answers.set()
        answers.clear()
    await harness.when(order.id, lambda order: not order.owner)
    assert harness.around.counts()[Step.AUTHORIZE] == len(attempts_seconds)


def test_patience_with_one_more_pause_and_attempt_is_less_than_a_lease() -> None:
    # These constants are nobody else's business, but their sum is what the saga's comment promises.
    patience_seconds = saga._PATIENCE_SECONDS  # pyright: ignore[reportPrivateUsage]  for the sum
    attempt_seconds = saga._ATTEMPT_SECONDS  # pyright: ignore[reportPrivateUsage]  for the sum
    longest_seconds = patience_seconds + saga.RETRIES.longest_seconds + attempt_seconds
    lease_seconds: float = OrderSettings.model_fields["order_lease_seconds"].default
    assert longest_seconds < lease_seconds
