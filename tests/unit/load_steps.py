"""What locust knows of the steps of a run, for the tests of the load test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LoadStep:
    """A step's entry; `response_times` counts by milliseconds."""

    name: str
    num_requests: int = 0
    num_failures: int = 0
    total_response_time: float = 0
    response_times: Mapping[int, int] = field(default_factory=dict[int, int])
