"""The public API's gateway, for the shop on one machine. In the cluster the mesh has its own.

It answers ``/api/**`` and ``/.well-known/**`` by the public routes of the topology, and leaves
everything else to the pages. What a client says about itself in headers does not get through: only
what is listed here does. Its address is what its connection says, or a trusted proxy.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aiohttp
from opentelemetry.trace import SpanKind, Status, StatusCode, Tracer
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from yarl import URL

from services.common import call_record, context
from services.common.calls.round_robin import RoundRobin
from services.common.errors import Kind, ShopError
from services.common.observing.logs import get_logger
from services.common.observing.telemetry import extract_trace, inject_trace
from services.common.protocols.http_semantics import allow_header
from services.common.protocols.problem import problem_response, shop_error_response
from services.common.serving.client_address import FORWARDED_FOR, client_address
from services.common.serving.host import Host
from services.common.serving.http_server import stopping_response
from services.common.topology import Topology
from services.frontend import main as frontend
from services.frontend.mesh_page.figures import Entrance
from services.frontend.security import PICTURE_POLICY, wants_canary
from services.frontend.settings import FrontendSettings

API_PREFIXES = ("/api/", "/.well-known/")

_PASSED_ON = frozenset(
    {
        "accept",
        "accept-language",
        "authorization",
        "content-type",
        "idempotency-key",
        "if-none-match",
        "traceparent",
        "tracestate",
    }
)
# RFC 9110 §7.6.1, and what the server in front of this app writes itself.
_NOT_PASSED_BACK = frozenset(
    {
        "connection",
        "content-length",
        "date",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "server",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# A service gives up at its own limit first and says so; this is for one that hangs.
_GRACE_SECONDS = 2.0
_MAX_ANSWER_BYTES = 8 * 1024 * 1024

log = get_logger(__name__)


async def wire(host: Host) -> None:
    """Builds the frontend; with SERVE_API, this gateway is in front of it, and has spans of its own
    name.
    """
    if not host.settings(FrontendSettings).serve_api:
        await frontend.wire(host)
        return
    process = host.process

    def in_front(pages: ASGIApp, entrance: Entrance) -> ASGIApp:
        return Gateway(
            pages,
            topology=host.topology,
            addresses={
                name: host.http_addresses(name)
                for name, service in host.topology.services.items()
                if service.public
            },
            session=host.http_session(),
            tracer=host.tracer_provider("gateway").get_tracer("meshmart"),
            entrance=entrance,
            limits=GatewayLimits(
                max_body_bytes=process.max_body_bytes,
                body_seconds=process.body_seconds,
                request_seconds=process.request_timeout_seconds,
            ),
            proxies_in_front=process.proxies_in_front,
        )

    await frontend.wire(host, in_front)


@dataclass(frozen=True, slots=True)
class GatewayLimits:
    """How much and how long."""

    max_body_bytes: int
    body_seconds: float
    request_seconds: float


class Gateway:
    """ASGI app in front of the pages.

    :param addresses: ``host:port`` of every instance of a service, by service.
    :param proxies_in_front: see :mod:`services.common.serving.client_address`.
    """

    def __init__(
        self,
        pages: ASGIApp,
        *,
        topology: Topology,
        addresses: Mapping[str, Sequence[str]],
        session: aiohttp.ClientSession,
        tracer: Tracer,
        entrance: Entrance,
        limits: GatewayLimits,
        proxies_in_front: int,
    ) -> None:
        self._pages = pages
        self._topology = topology
        self._instances = {service: RoundRobin(found) for service, found in addresses.items()}
        self._session = session
        self._tracer = tracer
        self._entrance = entrance
        self._limits = limits
        self._proxies_in_front = proxies_in_front

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(API_PREFIXES):
            await self._pages(scope, receive, send)
            return
        request = context.RequestContext(
            deadline=time.monotonic() + self._limits.request_seconds + _GRACE_SECONDS,
            client_address=client_address(scope, self._proxies_in_front),
        )
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        with (
            context.serving(request),
            self._tracer.start_as_current_span(
                f"{scope['method']} {_first_segments(scope['path'])}",
                context=extract_trace(headers),
                kind=SpanKind.SERVER,
                attributes={"http.request.method": scope["method"]},
            ) as span,
        ):
            started = time.perf_counter()
            try:
                response = await self._answer(scope, receive, headers)
            except ClientDisconnect:
                log.info("gateway.client_gone", method=scope["method"], path=scope["path"])
                return
            except ShopError as error:
                response = shop_error_response(error)
                if error.kind is Kind.TOO_LARGE:  # the rest of the body stays unread
                    response.headers["connection"] = "close"
            except asyncio.CancelledError:  # the process ends and has waited long enough
                response = stopping_response()
            if response.status_code >= 500:
                span.set_status(Status(StatusCode.ERROR))
            span.set_attribute("http.response.status_code", response.status_code)
            response.headers.setdefault(context.REQUEST_ID_HEADER, request.request_id)
            response.headers.setdefault("x-content-type-options", "nosniff")
            response.headers.setdefault("content-security-policy", PICTURE_POLICY)
            log.info(
                "gateway.served",
                method=scope["method"],
                path=scope["path"],
                status=response.status_code,
                ms=round(1000 * (time.perf_counter() - started), 1),
            )
            await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, headers: Mapping[str, str]) -> Response:
        # HEAD is answered as GET, whose body the server leaves out (RFC 9110 §9.3.2).
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        path = scope["path"]
        if {".", ".."} & set(path.split("/")):
            return _nothing_here()
        callee = self._topology.public_service(method, path)
        if callee is None:
            return self._unknown(path)
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                body = await self._body(receive, headers)
        except TimeoutError:
            return problem_response(
                408,
                "request-timeout",
                "The request's body did not arrive in time.",
                headers={"connection": "close"},
            )
        sent = {name: value for name, value in headers.items() if name in _PASSED_ON}
        if wants_canary(scope):
            sent["canary"] = "true"
        return await self._proxied(callee, method, scope, sent, body)

    def _unknown(self, path: str) -> Response:
        methods = {
            method
            for service in self._topology.services.values()
            for route in service.public
            if route.matches(path)
            for method in route.methods
        }
        if not methods:
            return _nothing_here()
        return problem_response(
            405,
            "method-not-allowed",
            f"This address answers {' and '.join(sorted(methods))} only.",
            headers={"allow": allow_header(methods)},
        )

    async def _body(self, receive: Receive, headers: Mapping[str, str]) -> bytes:
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._limits.max_body_bytes:
            raise self._too_large()
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > self._limits.max_body_bytes:
                raise self._too_large()
            if not message.get("more_body", False):
                return b"".join(chunks)

    def _too_large(self) -> ShopError:
        return ShopError(
            Kind.TOO_LARGE,
            "body-too-large",
            f"The request's body is larger than {self._limits.max_body_bytes} bytes.",
        )

    async def _proxied(
        self, callee: str, method: str, scope: Scope, headers: dict[str, str], body: bytes
    ) -> Response:
        request = context.current()
        headers[context.REQUEST_ID_HEADER] = request.request_id
        headers[FORWARDED_FOR] = request.client_address
        inject_trace(headers)
        target: str = scope["raw_path"].decode("latin-1")
        if scope["query_string"]:
            target += "?" + scope["query_string"].decode("latin-1")
        started = time.perf_counter()
        status, served = "unavailable", None
        try:
            async with asyncio.timeout(request.seconds_left):
                response = await self._sent(callee, method, target, headers, body)
        except TimeoutError:
            status = "timeout"
            return problem_response(504, f"{callee}-timeout", f"{callee} did not answer in time.")
        except aiohttp.ClientConnectorError:
            return problem_response(
                503, f"{callee}-unavailable", f"{callee} cannot be reached.", retry_after_seconds=1
            )
        except aiohttp.ClientError:
            return problem_response(
                502, f"{callee}-bad-answer", f"The answer of {callee} broke off."
            )
        else:
            status = str(response.status_code)
            served = call_record.decode(response.headers.get(call_record.HEADER))
            return response
        finally:
            self._entrance.passed(
                call_record.Call(
                    callee=callee,
                    operation=f"{method} {_first_segments(scope['path'])}",
                    version=served.version if served else "",
                    instance=served.instance if served else "",
                    milliseconds=1000 * (time.perf_counter() - started),
                    status=status,
                    calls=served.calls if served else (),
                )
            )

    async def _sent(
        self, callee: str, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> Response:
        """Instances take turns; one that refuses the connection is passed over, since nothing was
        sent to it.
        """
        addresses = self._instances[callee].in_turn()
        for address in addresses:
            try:
                async with self._session.request(
                    method,
                    URL(f"http://{address}{target}", encoded=True),
                    data=body or None,
                    headers=headers,
                    skip_auto_headers=("accept-encoding", "content-type", "user-agent"),
                    allow_redirects=False,
                ) as answer:
                    return await _whole(answer)
            except aiohttp.ClientConnectorError:
                if address == addresses[-1]:
                    raise
        raise AssertionError("unreachable: a service has at least one address")


async def _whole(answer: aiohttp.ClientResponse) -> Response:
    if (answer.content_length or 0) > _MAX_ANSWER_BYTES:
        raise aiohttp.ClientPayloadError("the answer is too large")
    response = Response(await answer.read(), status_code=answer.status)
    response.raw_headers += [
        (name.lower(), value)
        for name, value in answer.raw_headers
        if name.decode("latin-1").lower() not in _NOT_PASSED_BACK
    ]
    return response


def _nothing_here() -> Response:
    return problem_response(404, "not-found", "There is nothing at this address.")


def _first_segments(path: str) -> str:
    """Enough of a path to name it in figures and spans, without what may be somebody's id."""
    return "/".join(path.split("/")[:3])
