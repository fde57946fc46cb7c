"""A wrong clock, on purpose, is that of the documents and of nothing else."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from services.common.clock import now_ms, set_skew, unix_ms


@pytest.fixture(autouse=True)
def right_afterwards() -> Generator[None]:
    yield
    set_skew(0)


@pytest.mark.parametrize("skew_seconds", [-90, 0, 0.5, 300])
def test_the_skew_is_added(skew_seconds: float) -> None:
    set_skew(skew_seconds)
    before_ms = unix_ms()
    read_ms = now_ms() - round(skew_seconds * 1000)
    assert before_ms <= read_ms <= unix_ms()
