"""Prometheus metrics of one process: what it answered and how long that took, and each service's
business counters.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The metrics of one process; every name starts with ``meshmart_``."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Histogram(
            "meshmart_request_seconds",
            "Requests served, by protocol, operation and status.",
            ("protocol", "operation", "status"),
            buckets=_SECONDS_BUCKETS,
            registry=self._registry,
        )
        self._calls = Histogram(
            "meshmart_call_seconds",
            "Calls made to other services, by callee, operation and status.",
            ("callee", "operation", "status"),
            buckets=_SECONDS_BUCKETS,
            registry=self._registry,
        )
        self._jobs = Counter(
            "meshmart_job_runs",
            "Runs of background jobs, by job and outcome.",
            ("job", "outcome"),
            registry=self._registry,
        )

    def request(self, protocol: str, operation: str, status: str, seconds: float) -> None:
        """Counts a request that was served."""
        self._requests.labels(protocol, operation, status).observe(seconds)

    def call(self, callee: str, operation: str, status: str, seconds: float) -> None:
        """Counts a call that was made."""
        self._calls.labels(callee, operation, status).observe(seconds)

    def job(self, job: str, outcome: str) -> None:
        """Counts a run of a background job."""
        self._jobs.labels(job, outcome).inc()

    def counter(
        self, name: str, about: str, labels: tuple[str, ...] = (), *, rare: Iterable[str] = ()
    ) -> Counter:
        """A business counter, such as ``orders`` by end state.

        :param rare: values of its one label that are shown from the start, as 0: else Prometheus
            would see no increase at the first one (https://prometheus.io/docs/practices/instrumentation/#avoid-missing-metrics).
        """
        counter = Counter(f"meshmart_{name}", about, labels, registry=self._registry)
        for value in rare:
            counter.labels(value)
        return counter

    def gauge(self, name: str, about: str, labels: tuple[str, ...] = ()) -> Gauge:
        """A business gauge, such as unfinished orders."""
        return Gauge(f"meshmart_{name}", about, labels, registry=self._registry)

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
