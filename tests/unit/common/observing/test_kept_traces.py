"""What a process keeps of the latest traces."""

from __future__ import annotations

import pytest
from opentelemetry.trace import Status, StatusCode, Tracer, format_trace_id

from services.common.observing import kept_traces
from services.common.observing.kept_traces import KeptTraces
from services.common.observing.telemetry import extract_trace
from tests.unit.common.kit import tracer_provider


def tracer(kept: KeptTraces) -> Tracer:
    return tracer_provider(kept_here=kept).get_tracer("test")


def trace_of(tracer: Tracer, name: str, spans_within: int = 0) -> str:
    with tracer.start_as_current_span(name) as root:
        for number in range(spans_within):
            with tracer.start_as_current_span(f"within {number}"):
                pass
    return format_trace_id(root.get_span_context().trace_id)


def test_a_trace_is_told_in_a_few_words_and_in_full() -> None:
    kept = KeptTraces()
    trace_id = trace_of(tracer(kept), "POST /orders", 2)
    (summary,) = kept.summaries()
    assert (summary.trace_id, summary.spans, summary.is_error) == (trace_id, 3, False)
    assert summary.services == ["order-service"]
    assert summary.first.name == "POST /orders"
    spans, dropped = kept.spans_of(trace_id)
    assert dropped == 0
    root = spans[-1]
    assert [span.name for span in spans] == ["within 0", "within 1", "POST /orders"]
    assert {span.parent_id for span in spans} == {root.span_id, ""}
    assert root.start_ns <= spans[0].start_ns <= spans[0].end_ns <= root.end_ns


def test_an_error_is_told_with_its_reason() -> None:
    kept = KeptTraces()
    with tracer(kept).start_as_current_span("charge") as span:
        span.set_status(Status(StatusCode.ERROR, "payment cannot be reached"))
    (summary,) = kept.summaries()
    assert summary.is_error
    assert summary.first.problem == "payment cannot be reached"


def test_the_latest_ones_are_kept() -> None:
    kept = KeptTraces()
    begin = tracer(kept)
    ids = [trace_of(begin, f"GET /{number}") for number in range(kept_traces.MAX_TRACES + 30)]
    assert [summary.trace_id for summary in kept.summaries()] == ids[30:]
    assert kept.spans_of(ids[0]) == ((), 0)


def test_one_trace_does_not_push_out_all_others() -> None:
    kept = KeptTraces()
    begin = tracer(kept)
    small = trace_of(begin, "GET /")
    large = trace_of(begin, "GET /much", kept_traces.MAX_SPANS_PER_TRACE + 7)
    spans, dropped = kept.spans_of(large)
    assert (len(spans), dropped) == (kept_traces.MAX_SPANS_PER_TRACE, 8)
    assert kept.spans_of(small)[0]


def test_there_is_a_bound_on_all_spans_together() -> None:
    kept = KeptTraces()
    begin = tracer(kept)
    for _ in range(kept_traces.MAX_SPANS // 100 + 5):
        trace_of(begin, "GET /", 99)
    summaries = kept.summaries()
    assert sum(summary.spans for summary in summaries) <= kept_traces.MAX_SPANS
    assert len(summaries) == kept_traces.MAX_SPANS // 100


def test_what_was_not_chosen_is_not_kept() -> None:
    kept = KeptTraces()
    trace_of(tracer_provider(0.0, kept_here=kept).get_tracer("test"), "GET /")
    assert kept.summaries() == []


@pytest.mark.parametrize(
    ("path", "is_kept"),
    [("/mesh", False), ("/mesh/traces", False), ("/meshes", True), ("/", True)],
)
def test_pages_that_show_traces_make_none(path: str, is_kept: bool) -> None:
    kept = KeptTraces()
    begin = tracer_provider(kept_here=kept, unkept_pages=frozenset({"/mesh"})).get_tracer("test")
    with begin.start_as_current_span("GET", attributes={"http.target": path}):
        trace_of(begin, "within")
    assert bool(kept.summaries()) is is_kept


def test_secrets_of_a_request_are_not_kept() -> None:
    kept = KeptTraces()
    given = {
        "http.target": "/orders?q=secret",
        "http.url": "http://shop/orders?q=secret",
        "http.user_agent": "secret",
        "user.id": "secret",
        "http.status_code": 200,
    }
    with tracer(kept).start_as_current_span("GET /orders", attributes=given):
        pass
    (summary,) = kept.summaries()
    assert summary.first.attributes == {"http.target": "/orders", "http.status_code": "200"}


def test_a_callers_trace_is_the_same_trace() -> None:
    kept = KeptTraces()
    caller = extract_trace({"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"})
    with tracer(kept).start_as_current_span("GET /", context=caller):
        pass
    (summary,) = kept.summaries()
    assert summary.trace_id == "a" * 32
    assert summary.first.parent_id == "b" * 16
