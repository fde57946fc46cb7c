"""Prometheus metrics of one process: the requests that it served, their duration, and the business
counters of its service.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from services.common.call_record import REFUSED, Call, is_failure
from services.common.observing.recent_traffic import RecentTraffic

TEXT_MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_MEDIA_TYPE = openmetrics.CONTENT_TYPE_LATEST

_SECONDS_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The metrics of one process; every name starts with ``meshmart_``.

    :ivar recent: the latest of the same calls and answers, for the mesh page.
    """

    def __init__(self) -> None:
        self.recent = RecentTraffic()
        self._registry = CollectorRegistry()
        # `labels()` checks and counts its values each time; these are as few as the time series.
        self._request_series: dict[tuple[str, str, str], Histogram] = {}
        self._call_series: dict[tuple[str, str, str, str], Histogram] = {}
        self._requests = Histogram(
            "meshmart_request_seconds",
            "Requests served, by protocol, operation and status.",
            ("protocol", "operation", "status"),
            buckets=_SECONDS_BUCKETS,
            registry=self._registry,
        )
        self._calls = Histogram(
            "meshmart_call_seconds",
            "Calls made to other services, by callee, the version that answered (empty when none "
            "did), operation and status.",
            ("callee", "callee_version", "operation", "status"),
            buckets=_SECONDS_BUCKETS,
            registry=self._registry,
        )
        self._retries = Counter(
            "meshmart_call_retries",
            "Calls that repeat one that has failed, by callee.",
            ("callee",),
            registry=self._registry,
        )
        self._jobs = Counter(
            "meshmart_job_runs",
            "Runs of background jobs, by job and outcome.",
            ("job", "outcome"),
            registry=self._registry,
        )

    def request(
        self, protocol: str, operation: str, status: str, seconds: float, trace_id: str
    ) -> None:
        """Counts a request that was served.

        :param trace_id: of its trace when that is kept, else empty.
        """
        labels = (protocol, operation, status)
        series = self._request_series.get(labels)
        if series is None:
            series = self._request_series[labels] = self._requests.labels(*labels)
        series.observe(seconds, _exemplar(trace_id))
        self.recent.served(operation, seconds, is_error=is_failure(status))

    def call(self, caller: str, call: Call, *, is_retry: bool, trace_id: str) -> None:
        """Counts a call that was made, or refused.

        :param trace_id: of its trace, when that is kept.
        """
        version = self.recent.bounded(call.callee, call.version)
        labels = (call.callee, version, call.operation, call.status)
        series = self._call_series.get(labels)
        if series is None:
            series = self._call_series[labels] = self._calls.labels(*labels)
        series.observe(call.milliseconds / 1000, _exemplar(trace_id))
        if is_retry and call.status != REFUSED:
            self._retries.labels(call.callee).inc()
        self.recent.called(caller, call, is_retry=is_retry, trace_id=trace_id)

    def process(self, service: str, version: str, instance: str) -> None:
        """Says whose metrics these are. The labels' names are like nobody else's, so that a join
        (``* on (job, instance) group_left (shop_service)``) finds them whatever else is scraped.
        """
        Gauge(
            "meshmart_process_info",
            "Which process of the shop this is; always 1.",
            ("shop_service", "shop_version", "shop_instance"),
            registry=self._registry,
        ).labels(service, version, instance).set(1)

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

    def histogram(self, name: str, about: str, labels: tuple[str, ...] = ()) -> Histogram:
        """A histogram of seconds, such as how long the steps of orders take."""
        return Histogram(
            f"meshmart_{name}", about, labels, buckets=_SECONDS_BUCKETS, registry=self._registry
        )

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def openmetrics(self) -> bytes:
        """The same in OpenMetrics, whose histograms have exemplars: the latest of each bucket whose
        trace is kept.
        """
        return cast("bytes", openmetrics.generate_latest(self._registry))  # pyright: ignore[reportUnknownMemberType]  untyped


def _exemplar(trace_id: str) -> dict[str, str] | None:
    """By the name that OpenMetrics recommends, and Grafana looks for."""
    return {"trace_id": trace_id} if trace_id else None
