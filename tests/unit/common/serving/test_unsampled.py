"""A trace that nobody keeps goes on, and costs no instrumentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.utils import is_http_instrumentation_enabled
from opentelemetry.trace import TraceFlags
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from services.common.observing.telemetry import inject_trace
from services.common.serving.unsampled import UnsampledUninstrumented
from tests.unit.asgi import ask
from tests.unit.common.kit import tracer_provider

TRACE_ID = "a" * 32
CALLER = "b" * 16


async def what_it_sees(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the trace that calls made from here would bear."""
    headers: dict[str, str] = {}
    inject_trace(headers)
    seen = {
        **headers,
        "is_instrumented": is_http_instrumentation_enabled(),
        "path": Request(scope).url.path,
    }
    await JSONResponse(seen)(scope, receive, send)


async def seen_at(
    path: str, headers: Mapping[str, str], *, unkept_pages: set[str] | None = None
) -> dict[str, Any]:
    provider = tracer_provider(
        is_outermost=unkept_pages is not None, unkept_pages=unkept_pages or ()
    )
    tracer = provider.get_tracer("test")
    app = UnsampledUninstrumented(what_it_sees, tracer, unkept_pages)
    answer = await ask(app, "GET", path, headers=headers)
    assert not trace.get_current_span().get_span_context().is_valid, "the context is as before"
    return answer.json()


def caller(flags: str) -> dict[str, str]:
    return {"traceparent": f"00-{TRACE_ID}-{CALLER}-{flags}", "tracestate": "vendor=1"}


async def test_a_callers_dropped_trace_goes_on() -> None:
    seen = await seen_at("/things", {**caller("00"), "baggage": "user=ada"})
    assert not seen["is_instrumented"]
    _, trace_id, span_id, flags = seen["traceparent"].split("-")
    assert (trace_id, flags) == (TRACE_ID, "00")
    assert span_id not in {CALLER, "0" * 16}
    assert (seen["tracestate"], seen["baggage"]) == ("vendor=1", "user=ada")


@pytest.mark.parametrize("headers", [caller("01"), {}, {"traceparent": "nonsense"}])
async def test_any_other_is_instrumented(headers: dict[str, str]) -> None:
    seen = await seen_at("/things", headers)
    assert seen["is_instrumented"]
    assert "traceparent" not in seen, "the instrumentation begins it"


@pytest.mark.parametrize(
    ("path", "is_instrumented"),
    [("/static", False), ("/static/a.css", False), ("/statics", True), ("/", True)],
)
@pytest.mark.parametrize("headers", [caller("01"), caller("00"), {}])
async def test_an_outermost_service_knows_its_unkept_pages(
    path: str, is_instrumented: bool, headers: dict[str, str]
) -> None:
    seen = await seen_at(path, headers, unkept_pages={"/static"})
    assert seen["is_instrumented"] is is_instrumented
    if not is_instrumented:
        _, trace_id, _, flags = seen["traceparent"].split("-")
        assert not int(flags, 16) & TraceFlags.SAMPLED
        assert (trace_id == TRACE_ID) is bool(headers)
