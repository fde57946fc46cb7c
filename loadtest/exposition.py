"""The figures of a run as metrics for Prometheus, made of locust's own figures when they are read.
Nothing here needs locust: `locustfile` passes its figures in.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Protocol

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

# Those of the services' own histograms, so that both can be laid over each other.
_BUCKETS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Entry(Protocol):
    """locust's figures of one step. `response_times` counts answers by milliseconds, rounded to two
    digits.
    """

    @property
    def name(self) -> str: ...
    @property
    def num_requests(self) -> int: ...
    @property
    def num_failures(self) -> int: ...
    @property
    def total_response_time(self) -> float: ...
    @property
    def response_times(self) -> Mapping[int, int]: ...


class RunCollector(Collector):
    """Metrics of a run, by the names of its steps, which are those of the thresholds.

    :param entries: returns the figures of all steps; those of a step may be in several.
    :param users: returns how many people are in the shop.
    """

    def __init__(self, entries: Callable[[], Iterable[Entry]], users: Callable[[], int]) -> None:
        self._entries = entries
        self._users = users

    def collect(self) -> Iterator[Metric]:
        """Yields the current metrics."""
        requests = CounterMetricFamily(
            "meshmart_load_requests", "Requests that were made, by step.", labels=["name"]
        )
        failures = CounterMetricFamily(
            "meshmart_load_failures",
            "Requests that failed or were answered wrongly, by step.",
            labels=["name"],
        )
        seconds = HistogramMetricFamily(
            "meshmart_load_request_seconds", "How long requests took, by step.", labels=["name"]
        )
        for name, entries in _by_name(self._entries()).items():
            requests.add_metric([name], sum(entry.num_requests for entry in entries))
            failures.add_metric([name], sum(entry.num_failures for entry in entries))
            total_ms = sum(entry.total_response_time for entry in entries)
            seconds.add_metric([name], _buckets(entries), total_ms / 1000)
        users = GaugeMetricFamily("meshmart_load_users", "People in the shop.")
        users.add_metric([], self._users())
        yield from (requests, failures, seconds, users)


def _by_name(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Returns the entries of each step; locust has one for each HTTP method."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.name, []).append(entry)
    return found


def _buckets(entries: Iterable[Entry]) -> list[tuple[str, float]]:
    """Counts up to each bound, the last of which is infinite."""
    counts = [0] * (len(_BUCKETS_SECONDS) + 1)
    for entry in entries:
        for milliseconds, count in entry.response_times.items():
            counts[bisect_left(_BUCKETS_SECONDS, milliseconds / 1000)] += count
    bounds = [*map(str, _BUCKETS_SECONDS), "+Inf"]
    return list(zip(bounds, map(float, accumulate(counts)), strict=True))
