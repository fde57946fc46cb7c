"""The load test's figures for Prometheus. That a run shows them is what `make load-check` shows."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from loadtest.exposition import RunCollector
from tests.unit.load_steps import LoadStep


def shown(*entries: LoadStep) -> CollectorRegistry:
    """What Prometheus reads."""
    registry = CollectorRegistry()
    registry.register(RunCollector(lambda: entries, lambda: 7))
    return registry


def test_requests_and_failures_are_counted_by_step():
    registry = shown(
        LoadStep("pages: home", 5, num_failures=1),
        LoadStep("pages: home", 3, num_failures=1),  # by another method
        LoadStep("orders: inbox", 2),
    )

    assert registry.get_sample_value("meshmart_load_requests_total", {"name": "pages: home"}) == 8
    assert registry.get_sample_value("meshmart_load_failures_total", {"name": "pages: home"}) == 2
    assert registry.get_sample_value("meshmart_load_failures_total", {"name": "orders: inbox"}) == 0
    assert registry.get_sample_value("meshmart_load_users") == 7


def test_times_are_in_the_buckets_of_seconds():
    registry = shown(
        LoadStep("pages: home", 4, total_response_time=20_360, response_times={5: 1, 250: 1}),
        LoadStep("pages: home", response_times={260: 1, 20_000: 1}),
    )

    counts = {
        bound: registry.get_sample_value(
            "meshmart_load_request_seconds_bucket", {"name": "pages: home", "le": bound}
        )
        for bound in ("0.005", "0.1", "0.25", "0.5", "10.0", "+Inf")
    }
    assert counts == {"0.005": 1, "0.1": 1, "0.25": 2, "0.5": 3, "10.0": 3, "+Inf": 4}
    labels = {"name": "pages: home"}
    assert registry.get_sample_value("meshmart_load_request_seconds_sum", labels) == 20.36


def test_a_run_that_has_not_begun_shows_its_users_only():
    assert [family.name for family in shown().collect() if family.samples] == [
        "meshmart_load_users"
    ]
