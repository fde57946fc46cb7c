"""Traces: who decides whether one is kept, and how it passes from service to service."""

from __future__ import annotations

import asyncio
from base64 import b64encode

import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from services.common.observing.telemetry import (
    extract_trace,
    inject_trace,
    trace_id,
)
from tests.testkit.collector import collecting
from tests.testkit.ports import free_port
from tests.testkit.proxy import LOOPBACK, proxy_to
from tests.unit.common.kit import tracer_provider


def parent(*, sampled: bool) -> dict[str, str]:
    return {"traceparent": f"00-{'a' * 32}-{'b' * 16}-0{int(sampled)}"}


@pytest.mark.parametrize(("ratio", "sampled"), [(0.0, False), (1.0, True)])
def test_the_first_service_decides_by_its_ratio(ratio: float, sampled: bool) -> None:
    with (
        tracer_provider(ratio, is_outermost=False)
        .get_tracer("test")
        .start_as_current_span("root") as span
    ):
        assert span.get_span_context().trace_flags.sampled is sampled


@pytest.mark.parametrize("ratio", [0.0, 1.0])
@pytest.mark.parametrize("sampled", [False, True])
def test_all_others_follow_their_caller(ratio: float, sampled: bool) -> None:
    tracer = tracer_provider(ratio, is_outermost=False).get_tracer("test")
    incoming = extract_trace(parent(sampled=sampled))
    with tracer.start_as_current_span("child", context=incoming) as span:
        assert span.get_span_context().trace_flags.sampled is sampled
        assert trace_id() == "a" * 32


@pytest.mark.parametrize("ratio", [0.0, 1.0])
@pytest.mark.parametrize("sampled", [False, True])
def test_the_outermost_one_decides_by_itself(ratio: float, sampled: bool) -> None:
    tracer = tracer_provider(ratio).get_tracer("test")
    incoming = extract_trace(parent(sampled=sampled))
    with tracer.start_as_current_span("first", context=incoming) as span:
        assert span.get_span_context().trace_flags.sampled is bool(ratio)
        assert trace_id() == "a" * 32, "who has begun the trace finds it again"
        with tracer.start_as_current_span("second") as inner:
            assert inner.get_span_context().trace_flags.sampled is bool(ratio)


def test_nobody_outside_chooses_an_id_that_is_always_kept() -> None:
    tracer = tracer_provider(0.5).get_tracer("test")
    low = extract_trace({"traceparent": f"00-{1:032x}-{1:016x}-01"})
    kept = 0
    for _ in range(400):
        with tracer.start_as_current_span("first", context=low) as span:
            kept += span.get_span_context().trace_flags.sampled
    assert 120 < kept < 280, "outside of this with a chance below 1e-14"


def test_half_a_ratio_keeps_about_half() -> None:
    tracer = tracer_provider(0.5, is_outermost=False).get_tracer("test")
    kept = 0
    for _ in range(400):
        with tracer.start_as_current_span("root") as span:
            kept += span.get_span_context().trace_flags.sampled
    assert 120 < kept < 280, "outside of this with a chance below 1e-14"


def test_a_trace_that_is_not_kept_has_an_id_to_show() -> None:
    with tracer_provider(0.0, is_outermost=False).get_tracer("test").start_as_current_span("root"):
        assert len(trace_id()) == 32
    assert trace_id() == ""


def test_a_trace_passes_through_headers() -> None:
    headers: dict[str, str] = {"other": "stays"}
    here = SpanContext(0xA, 0xB, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    with trace.use_span(NonRecordingSpan(here)):
        inject_trace(headers)
    assert headers["other"] == "stays"
    there = trace.get_current_span(extract_trace(headers)).get_span_context()
    assert (there.trace_id, there.span_id, there.is_remote) == (0xA, 0xB, True)


@pytest.mark.parametrize("value", ["", "00-zz", "nonsense", "00-" + "0" * 32 + "-" + "0" * 16])
def test_garbage_begins_a_new_trace(value: str) -> None:
    incoming = extract_trace({"traceparent": value})
    assert not trace.get_current_span(incoming).get_span_context().is_valid


def test_spans_say_whose_they_are() -> None:
    attributes = tracer_provider(1.0, is_outermost=False).resource.attributes
    assert attributes["service.name"] == "order-service"
    assert attributes["service.namespace"] == "test"
    assert attributes["service.version"] == "v1"
    assert attributes["service.instance.id"] == "order-1"


PROXY_VARIABLES = ("grpc_proxy", "http_proxy", "https_proxy", "all_proxy", "no_proxy")


class TestSpansLeave:
    @pytest.fixture(autouse=True)
    def no_proxies(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in PROXY_VARIABLES:
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.upper(), raising=False)

    @pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy"])
    async def test_through_the_proxy(self, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
        async with (
            collecting() as (collector, endpoint),
            proxy_to(int(endpoint.rpartition(":")[2])) as (proxy, url),
        ):
            monkeypatch.setenv(variable, url)
            await export_one_to("http://collector.meshmart.test:4317")
            assert len(collector.spans) == 1
        line, who = proxy.asked[0]
        assert line == "CONNECT collector.meshmart.test:4317 HTTP/1.1"
        assert who == f"basic {b64encode(b'ada:s cret').decode()}".lower()

    async def test_directly_to_this_machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("http_proxy", f"http://{LOOPBACK}:{free_port()}")
        async with collecting() as (collector, endpoint):
            await export_one_to(endpoint)
            assert len(collector.spans) == 1


async def export_one_to(endpoint: str) -> None:
    sending = tracer_provider(is_outermost=False, otlp_endpoint=endpoint)
    with sending.get_tracer("test").start_as_current_span("root"):
        pass
    await asyncio.to_thread(sending.force_flush)
    await asyncio.to_thread(sending.shutdown)
