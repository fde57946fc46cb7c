"""The HTTP side of every service: the FastAPI app with context, limits, problems, probes and
metrics.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson
from fastapi import Depends, FastAPI
from fastapi.routing import iter_route_contexts
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import Span
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.common import call_record, context, error_codes
from services.common.dependency_injection import provide
from services.common.errors import ShopError
from services.common.observing.logs import get_logger
from services.common.observing.metrics import OPENMETRICS_MEDIA_TYPE, TEXT_MEDIA_TYPE, Metrics
from services.common.observing.recent_traffic import WINDOWS_SECONDS, ProcessReport
from services.common.observing.telemetry import kept_trace_id
from services.common.protocols.http_semantics import make_relative
from services.common.protocols.problem import (
    Problem,
    http_exception_response,
    install_problem_handlers,
    problem_response,
    shop_error_response,
)
from services.common.serving import api_docs
from services.common.serving.client_address import client_address
from services.common.serving.fault_injection import InjectedFaults
from services.common.serving.query_parameters import KnownParametersOnly
from services.common.settings import ProcessSettings

_CHECK_PAUSE_SECONDS = 0.05
# The headers that the middleware reads; to decode all of them would take longer.
_READ_HEADERS = {
    **context.CONTEXT_HEADERS,
    b"host": "host",
    b"content-length": "content-length",
}
_REQUEST_ID_HEADER = context.REQUEST_ID_HEADER.encode()
_CALL_RECORD_HEADER = call_record.HEADER.encode()
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})  # HEAD is served as GET

ReadinessCheck = Callable[[], Awaitable[None]]

log = get_logger(__name__)


class Readiness:
    """Whether this process should get traffic: it is not draining and all its checks pass."""

    def __init__(self, timeout_seconds: float = 1.0) -> None:
        self.draining = False
        self._checks: dict[str, ReadinessCheck] = {}
        self._timeout_seconds = timeout_seconds

    def add(self, name: str, check: ReadinessCheck) -> None:
        """Adds a check; one that raises or takes too long makes the process not ready."""
        self._checks[name] = check

    async def wait(self) -> None:
        """Returns once the process is ready."""
        while await self.report():  # noqa: ASYNC110  the checks ask others, who tell us nothing
            await asyncio.sleep(_CHECK_PAUSE_SECONDS)

    async def report(self) -> dict[str, str]:
        """What is wrong, by check; empty when the process is ready."""
        if self.draining:
            return {"process": "draining"}
        wrong: dict[str, str] = {}
        for name, check in self._checks.items():
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    await check()
            except TimeoutError:
                wrong[name] = "no answer in time"
            except ShopError as error:
                wrong[name] = error.detail
        return wrong


def make_app(
    *,
    title: str,
    description: str,
    settings: ProcessSettings,
    faults: InjectedFaults | None = None,
) -> FastAPI:
    """A FastAPI app with everything that all services share, but for what is internal (see
    `internal_app`), the tracing and the context (see `serve_app`).
    """

    async def strike(request: Request) -> None:
        assert faults is not None, "nothing depends on this without them"
        await faults.strike(operation_of(request.scope))

    app = FastAPI(
        title=title,
        description=description,
        version=settings.version,
        openapi_url=None,
        dependencies=[KnownParametersOnly, *([] if faults is None else [Depends(strike)])],
        # FastAPI's own; the shop's tracing and metrics are in `serve_app`.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    provide(app, settings)
    install_problem_handlers(app)
    _publish_problem_schema(app)
    return app


def internal_app(
    app: FastAPI,
    readiness: Readiness,
    is_alive: Callable[[], bool],
    metrics: Metrics,
    tell_recent: Callable[[int], ProcessReport] | None = None,
    more: Sequence[Route] = (),
) -> Starlette:
    """What a process answers to those who run it, not to its users: probes, metrics, and the
    documentation of `app`. Nothing here is counted, traced or logged.

    :param tell_recent: returns what the process has done in the last so many seconds. Without it
        there is no ``/recent``.
    """

    async def livez(_: Request) -> Response:
        return _probe({} if is_alive() else {"process": "a background job has stopped"})

    async def readyz(_: Request) -> Response:
        return _probe(await readiness.report())

    async def expose(request: Request) -> Response:
        if _takes_openmetrics(",".join(request.headers.getlist("accept"))):
            return Response(metrics.openmetrics(), media_type=OPENMETRICS_MEDIA_TYPE)
        return Response(metrics.exposition(), media_type=TEXT_MEDIA_TYPE)

    async def recent(request: Request) -> Response:
        assert tell_recent is not None, "there is no such route without it"
        seconds = request.query_params.get("seconds", "")
        window = next((known for known in WINDOWS_SECONDS if str(known) == seconds), None)
        if window is None:
            known = ", ".join(map(str, WINDOWS_SECONDS))
            return problem_response(422, error_codes.INVALID_REQUEST, f"seconds is one of {known}.")
        body = orjson.dumps(tell_recent(window), option=orjson.OPT_NON_STR_KEYS)
        return Response(body, media_type="application/json")

    internal = Starlette(
        routes=[
            Route("/livez", livez),
            Route("/readyz", readyz),
            Route("/metrics", expose),
            *api_docs.routes(app),
            *([] if tell_recent is None else [Route("/recent", recent)]),
            *more,
        ]
    )
    internal.router.redirect_slashes = False
    install_problem_handlers(internal)
    return internal


class InternalFirst:
    """ASGI app: an internal app's paths, and another app for all others."""

    def __init__(self, internal: Starlette, app: ASGIApp) -> None:
        self._internal = internal
        self._app = app
        self._paths = {route.path for route in internal.routes if isinstance(route, Route)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_internal = scope["type"] == "http" and scope["path"] in self._paths
        await (self._internal if is_internal else self._app)(scope, receive, send)


def serve_app(
    app: FastAPI,
    *,
    service: str,
    settings: ProcessSettings,
    metrics: Metrics,
    tracer_provider: TracerProvider,
) -> None:
    """Wraps the app: tracing outermost, so that everything inside belongs to the request's span."""
    app.add_middleware(RequestMiddleware, service=service, settings=settings, metrics=metrics)
    FastAPIInstrumentor.instrument_app(
        app,
        tracer_provider=tracer_provider,
        exclude_spans=["receive", "send"],
        server_request_hook=_leave_query_out,
    )


def _leave_query_out(span: Span, scope: Scope) -> None:
    """Takes what people type, such as an address that they search for, out of a request's span."""
    if not scope["query_string"] or not isinstance(span, ReadableSpan):
        return
    for name in ("http.url", "url.query"):
        value = (span.attributes or {}).get(name)
        if isinstance(value, str):
            span.set_attribute(name, value.partition("?")[0] if name == "http.url" else "")


class Outermost:
    """ASGI app in front of one that people reach: drops what only the shop and its gateways say
    about a request.
    """

    _DROPPED = frozenset(
        {context.REQUEST_ID_HEADER.encode(), context.DEADLINE_HEADER.encode(), b"baggage"}
    )

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = [each for each in scope["headers"] if each[0].lower() not in self._DROPPED]
            scope = {**scope, "headers": headers}
        await self._app(scope, receive, send)


class RequestMiddleware:
    """Sets the request's context, holds its limits, and stamps the answer with its id and call
    record.

    Limits: the whole request within its deadline, its body within `max_body_bytes` and
    `body_seconds`. An error that no handler knows becomes a plain 500 problem, with the cause in
    the log only.
    """

    def __init__(
        self, app: ASGIApp, *, service: str, settings: ProcessSettings, metrics: Metrics
    ) -> None:
        self._app = app
        self._service = service
        self._settings = settings
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            # Answered as GET, whose body the server leaves out (RFC 9110 §9.3.2).
            scope = {**scope, "method": "GET"}
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = {
            _READ_HEADERS[name]: value.decode("latin-1")
            for name, value in scope["headers"]
            if name in _READ_HEADERS
        }
        request = context.from_headers(headers, self._settings.request_timeout_seconds)
        request.client_address = client_address(scope, self._settings.proxies_in_front)
        status = 0
        is_gone = False
        body: _BoundedBody | None = None

        async def send_stamped(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._stamp(message, request, started)
                make_relative(message, headers.get("host", ""))
            await send(message)

        with context.serving(request):
            answer: Response | None = None
            try:
                body = _BoundedBody(receive, headers, self._settings)
                async with asyncio.timeout(request.seconds_left):
                    await self._app(scope, body, send_stamped)
            except TimeoutError:
                answer = problem_response(
                    504, error_codes.DEADLINE_PASSED, "The answer took too long."
                )
            except HTTPException as refused:
                answer = http_exception_response(refused)
            except ClientDisconnect:
                is_gone = True
            except asyncio.CancelledError:
                # The process ends and has waited long enough. The server would answer 500.
                log.warning("http.cut_off", method=scope["method"], path=scope["path"])
                answer = stopping_response()
            except ShopError as error:
                answer = shop_error_response(error)
            except Exception:
                log.exception("http.failed", method=scope["method"], path=scope["path"])
                answer = problem_response(
                    500, error_codes.INTERNAL, "Something went wrong on our side."
                )
            if answer is not None and status == 0:
                await answer(scope, receive, send_stamped)
            if is_gone or (body is not None and body.broke_off):
                # FastAPI takes half a body for a wrong one, and answers; nobody gets that.
                log.info("http.client_gone", method=scope["method"], path=scope["path"])
                return
            self._observe(scope, status, time.perf_counter() - started)

    def _stamp(self, message: Message, request: context.RequestContext, started: float) -> None:
        served = call_record.Served(
            service=self._service,
            version=self._settings.version,
            instance=self._settings.instance,
            milliseconds=(time.perf_counter() - started) * 1000,
            calls=tuple(request.log.calls),
            dropped=request.log.dropped,
        )
        message["headers"] = [
            *message["headers"],
            (_REQUEST_ID_HEADER, request.request_id.encode()),
            (_CALL_RECORD_HEADER, call_record.encode(served).encode()),
        ]

    def _observe(self, scope: Scope, status: int, seconds: float) -> None:
        self._metrics.request("http", operation_of(scope), str(status), seconds, kept_trace_id())
        log.info(
            "http.served",
            method=scope["method"],
            path=scope["path"],
            status=status,
            ms=round(seconds * 1000, 1),
        )


def _takes_openmetrics(accept: str) -> bool:
    """Whether who asks names OpenMetrics among what they take: not the library's own choice, which
    fails on an odd version.
    """
    for media_range in accept.lower().split(","):
        name, *parameters = (part.strip() for part in media_range.split(";"))
        if name == "application/openmetrics-text" and "q=0" not in parameters:
            return True
    return False


def operations_of(app: FastAPI) -> Iterator[str]:
    """What an app serves, by the names of the metrics."""
    for route in iter_route_contexts(app.routes):
        for method in route.methods or ():
            yield f"{method} {route.path}"


def operation_of(scope: Scope) -> str:
    """What figures call a request that has been routed: its method and its route's path, or that of
    the mount, as topology.yaml writes it. What no route takes is "unmatched", whatever was asked.
    """
    # A client may send any word as the method; the name for those is OpenTelemetry's.
    method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
    mounted_at = scope.get("root_path")
    otherwise = f"{mounted_at}/**" if mounted_at else "unmatched"
    return f"{method} {getattr(scope.get('route'), 'path', otherwise)}"


def stopping_response() -> Response:
    """What a request is answered that its process, which ends, can no longer finish. Whether it had
    an effect is not known; a keyed request can be repeated.
    """
    return problem_response(
        503,
        "stopping",
        "This part of the shop is being stopped. Please try again in a moment.",
        retry_after_seconds=1,
        headers={"connection": "close"},
    )


class _BoundedBody:
    """An ASGI `receive` that gives up on a body that is too large or too slow.

    :ivar broke_off: whether the client has left before the end of the body.
    """

    def __init__(
        self, receive: Receive, headers: Mapping[str, str], settings: ProcessSettings
    ) -> None:
        self._receive = receive
        self._max_bytes = settings.max_body_bytes
        self._received_bytes = 0
        self._complete = False
        self.broke_off = False
        self._until = time.monotonic() + settings.body_seconds
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._max_bytes:
            raise self._too_large()

    async def __call__(self) -> Message:
        if self._complete:  # what follows is only the client going away
            return await self._receive()
        try:
            async with asyncio.timeout(self._until - time.monotonic()):
                message = await self._receive()
        except TimeoutError:
            raise _refusal(408, "The request's body did not arrive in time") from None
        if message["type"] == "http.disconnect":
            self.broke_off = True
        else:
            self._received_bytes += len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
            if self._received_bytes > self._max_bytes:
                raise self._too_large()
        return message

    def _too_large(self) -> HTTPException:
        return _refusal(413, f"The request's body is larger than {self._max_bytes} bytes")


def _refusal(status: int, detail: str) -> HTTPException:
    # An HTTPException is the one kind that FastAPI lets through from where it reads the body. The
    # rest of the body stays unread, so the connection cannot be used again.
    return HTTPException(status, detail, headers={"connection": "close"})


def _probe(wrong: dict[str, str]) -> Response:
    body = orjson.dumps({"status": "failing", "checks": wrong} if wrong else {"status": "ok"})
    return Response(body, status_code=503 if wrong else 200, media_type="application/json")


def _publish_problem_schema(app: FastAPI) -> None:
    """Puts the Problem schema into the OpenAPI document, where `documented()` refers to it."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(problem.pop("$defs", {}))
        schemas["Problem"] = problem
        schemas.pop("HTTPValidationError", None)
        schemas.pop("ValidationError", None)
        return document

    app.openapi = openapi
