"""Leads requests whose trace nobody keeps round the instrumentation, which would collect attributes
for nothing.
"""

from __future__ import annotations

from collections.abc import Collection

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.instrumentation.utils import suppress_http_instrumentation
from opentelemetry.trace import SpanKind, Tracer
from starlette.types import ASGIApp, Receive, Scope, Send

from services.common.observing.telemetry import TRACE_HEADERS, extract_trace, is_below

_HEADERS = {name.encode(): name for name in TRACE_HEADERS}


class UnsampledUninstrumented:
    """ASGI app: asks an instrumented app without its instrumentation where it is certain that the
    sampler drops the trace. The trace's id goes on all the same.

    :param unkept_pages: of an outermost service, the paths that begin no kept trace, and those
        below. None for any other service: there the caller decides.
    """

    def __init__(self, app: ASGIApp, tracer: Tracer, unkept_pages: Collection[str] | None) -> None:
        self._app = app
        self._tracer = tracer
        self._unkept_pages = unkept_pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        incoming = self._dropped_trace(scope) if scope["type"] == "http" else None
        if incoming is None:
            await self._app(scope, receive, send)
            return
        span = self._tracer.start_span(
            scope["method"],
            context=incoming,
            kind=SpanKind.SERVER,
            attributes={"http.target": scope["path"]},
        )
        token = attach(trace.set_span_in_context(span, incoming))
        try:
            with suppress_http_instrumentation():
                await self._app(scope, receive, send)
        finally:
            detach(token)

    def _dropped_trace(self, scope: Scope) -> Context | None:
        """The trace that a request belongs to, if the sampler is certain to drop it."""
        if self._unkept_pages is None:
            incoming = _trace_of(scope)
            caller = trace.get_current_span(incoming).get_span_context()
            return incoming if caller.is_valid and not caller.trace_flags.sampled else None
        return _trace_of(scope) if is_below(scope["path"], self._unkept_pages) else None


def _trace_of(scope: Scope) -> Context:
    return extract_trace(
        {
            _HEADERS[name]: value.decode("latin-1")
            for name, value in scope["headers"]
            if name in _HEADERS
        }
    )
