"""The public API on one machine: the topology's routes, and no header that somebody made up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.types import Message, Scope
from structlog.testing import capture_logs

from services.common import call_record
from services.common.listening import LOOPBACK
from services.common.observing.recent_traffic import RecentTraffic
from services.common.topology import Topology
from services.frontend.mesh_page.figures import Entrance
from services.local.gateway import Gateway, GatewayLimits
from tests.testkit.ports import free_port
from tests.testkit.visitor import Visitor
from tests.unit.asgi import ask
from tests.unit.frontend.conftest import StartFrontend
from tests.unit.frontend.fakes import SVG, BackendAddresses, Backends

pytestmark = pytest.mark.asyncio(loop_scope="session")


@asynccontextmanager
async def gateway_alone(topology: Topology, tracing: TracerProvider) -> AsyncGenerator[Gateway]:
    """A gateway without services and pages behind it."""

    async def pages(*_: object) -> None:
        raise AssertionError("this is no page")

    async with aiohttp.ClientSession() as session:
        yield Gateway(
            pages,
            topology=topology,
            addresses={},
            session=session,
            tracer=tracing.get_tracer("gateway"),
            proxies_in_front=0,
            entrance=Entrance(RecentTraffic(), with_calls_below=False),
            limits=GatewayLimits(max_body_bytes=1024, request_seconds=1.0, body_seconds=1.0),
        )


async def test_public_routes_are_answered_by_their_service(visitor: Visitor) -> None:
    page = await visitor.get("/api/products?limit=2")
    assert page.status == 200
    assert len(json.loads(page.html)["items"]) == 2
    served = call_record.decode(page.headers["x-served-by"])
    assert served is not None
    assert served.service == "product"
    assert (await visitor.get("/.well-known/jwks.json")).status == 200
    assert (await visitor.get("/api/shipping/quotes?country=NL")).status == 200


async def test_head_is_answered_wherever_get_is(visitor: Visitor) -> None:
    for path in ("/api/products?limit=2", "/", "/products/oak-board"):
        async with visitor.session.head(visitor.base_url + path) as answer:
            assert answer.status == 200
            assert int(answer.headers["content-length"]) > 0
            assert await answer.read() == b""


async def test_pictures_cannot_run_anything(visitor: Visitor) -> None:
    page = await visitor.get("/api/products/oak-board/picture")
    assert page.html.encode() == SVG
    assert page.headers["content-type"] == "image/svg+xml"
    assert "sandbox" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "/api/nothing",
        "/api/payments",
        "/api/inventory",
        "/api/",
        "/api/products/a/b",
        "/api/products/..",
        "/api/orders/%2e%2e",
        "/api/products/..%2f..%2fmetrics",
        "/api//products",
    ],
)
async def test_everything_else_is_not_there(
    visitor: Visitor, backends: Backends, path: str
) -> None:
    page = await visitor.get(path)
    if page.path.startswith("/api"):
        assert page.status == 404
        assert page.headers["content-type"] == "application/problem+json"
        assert json.loads(page.html)["code"] == "not-found"
    else:  # the client itself has resolved the dots
        assert not backends.seen


async def test_probes_and_metrics_are_not_behind_the_gateway(visitor: Visitor) -> None:
    for path in ("/api/metrics", "/api/livez", "/.well-known/openapi.json"):
        assert (await visitor.get(path)).status == 404


async def test_people_reach_nothing_that_is_internal(
    start_frontend: StartFrontend, new_visitor: Callable[[str], Visitor]
) -> None:
    port = free_port()
    visitor = new_visitor(await start_frontend(internal_port=port))
    for path in ("/metrics", "/livez", "/readyz", "/docs", "/docs/start.js", "/openapi.json"):
        page = await visitor.get(path)
        assert (page.status, page.headers["content-type"][:9]) == (404, "text/html"), path
        async with visitor.session.get(f"http://{LOOPBACK}:{port}{path}") as answer:
            assert answer.status == 200, path
    for path in ("/", "/products", "/api/products", "/static/shop.css"):
        async with visitor.session.get(f"http://{LOOPBACK}:{port}{path}") as answer:
            assert answer.status == 404, path


async def test_a_wrong_method_is_named(visitor: Visitor) -> None:
    page = await visitor.post("/api/products")
    assert page.status == 405
    assert page.headers["allow"] == "GET, HEAD"
    assert json.loads(page.html)["code"] == "method-not-allowed"


async def test_a_page_names_its_methods_too(visitor: Visitor) -> None:
    for path, allowed in (("/cart", "GET, HEAD, POST"), ("/static/shop.css", "GET, HEAD")):
        async with visitor.session.delete(visitor.base_url + path) as answer:
            assert (answer.status, answer.headers["allow"]) == (405, allowed)


async def test_a_client_that_leaves_in_mid_body_is_no_wrong_request(topology: Topology) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    async with gateway_alone(topology, TracerProvider()) as gateway:
        scope: Scope = {"type": "http", "method": "POST", "path": "/api/auth/login", "headers": []}
        with capture_logs() as said:
            await gateway(scope, receive, send)
    assert [line["event"] for line in said] == ["gateway.client_gone"]
    assert sent == []


async def test_headers_that_only_the_shop_may_set_are_dropped(
    visitor: Visitor, backends: Backends
) -> None:
    await visitor.get(
        "/api/products?limit=1",
        x_user_group="beta",
        user_id="usr_root",
        x_envoy_original_path="/x",
        l5d_dst_override="evil",
        x_served_by="[]",
        x_deadline_ms="1",
        x_forwarded_for="1.2.3.4",
        x_forwarded_host="evil.example",
        x_request_id="mine",
        te="trailers",
        cookie="meshmart-access=secret",
    )
    (seen,) = backends.calls_of("GET /api/products")
    for name in ("x-user-group", "user-id", "x-envoy-original-path", "l5d-dst-override", "te"):
        assert name not in seen.headers
    for name in ("x-served-by", "x-deadline-ms", "x-forwarded-host", "cookie"):
        assert name not in seen.headers
    assert seen.headers["x-forwarded-for"] == LOOPBACK
    assert seen.headers["x-request-id"] != "mine"


async def test_headers_that_clients_may_set_get_through(
    visitor: Visitor, backends: Backends
) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await visitor.get(
        "/api/products?limit=1&q=%C3%A9%20x",
        authorization="Bearer abc",
        canary="true",
        accept="application/json",
        traceparent=trace,
        idempotency_key="k",
    )
    (seen,) = backends.calls_of("GET /api/products")
    assert seen.headers["authorization"] == "Bearer abc"
    assert seen.headers["canary"] == "true"
    assert seen.headers["accept"] == "application/json"
    assert seen.headers["idempotency-key"] == "k"
    assert seen.headers["traceparent"].split("-")[1] == trace.split("-")[1]
    assert seen.headers["traceparent"] != trace  # the gateway's own span stands in between


async def test_a_service_is_told_where_the_client_is(
    backends: Backends, start_frontend: StartFrontend, new_visitor: Callable[[str], Visitor]
) -> None:
    behind_a_proxy = new_visitor(await start_frontend(proxies_in_front=1))
    await behind_a_proxy.get("/api/products?limit=1", x_forwarded_for="203.0.113.9, 198.51.100.7")
    (seen,) = backends.calls_of("GET /api/products")
    assert seen.headers["x-forwarded-for"] == "198.51.100.7"


OUTSIDE_TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize("path", ["/products", "/api/products"])
@pytest.mark.parametrize("is_kept", [True, False])
async def test_people_neither_force_nor_prevent_that_a_trace_is_kept(
    start_frontend: StartFrontend,
    new_visitor: Callable[[str], Visitor],
    backends: Backends,
    path: str,
    is_kept: bool,
) -> None:
    visitor = new_visitor(await start_frontend(trace_sampling_ratio=float(is_kept)))
    asked = f"00-{OUTSIDE_TRACE}-b7ad6b7169203331-0{int(not is_kept)}"
    await visitor.get(path, traceparent=asked)
    traces = {seen.headers["traceparent"] for seen in backends.calls_of("GET /api/products")}
    assert {trace[3:35] for trace in traces} == {OUTSIDE_TRACE}
    assert {trace[-2:] for trace in traces} == {f"0{int(is_kept)}"}


async def test_what_only_the_shop_says_of_a_request_is_dropped(
    visitor: Visitor, backends: Backends
) -> None:
    for path in ("/products", "/api/products?limit=1"):
        page = await visitor.get(path, x_request_id="mine", baggage="a=b", x_deadline_ms="1")
        assert page.status == 200
        assert page.headers["x-request-id"] != "mine"
    for seen in backends.calls_of("GET /api/products"):
        assert seen.headers["x-request-id"] != "mine"
        assert "baggage" not in seen.headers


async def test_a_meshs_gateway_is_believed(
    start_frontend: StartFrontend, new_visitor: Callable[[str], Visitor], backends: Backends
) -> None:
    visitor = new_visitor(await start_frontend(behind_gateway=True, trace_sampling_ratio=0.0))
    trace = f"00-{OUTSIDE_TRACE}-b7ad6b7169203331-01"
    page = await visitor.get("/products", x_request_id="mine", traceparent=trace)
    assert page.headers["x-request-id"] == "mine"
    for seen in backends.calls_of("GET /api/products"):
        assert seen.headers["x-request-id"] == "mine"
        assert seen.headers["traceparent"].startswith(f"00-{OUTSIDE_TRACE}")
        assert seen.headers["traceparent"].endswith("-01")


async def test_bodies_get_through_whole_or_not_at_all(visitor: Visitor, backends: Backends) -> None:
    async with visitor.session.post(
        visitor.base_url + "/api/auth/login", json={"email": "a", "password": "é" * 1000}
    ) as answer:
        assert answer.status == 401
        assert answer.content_type == "application/problem+json"
        assert "x-request-id" in answer.headers
    (seen,) = backends.calls_of("POST /api/auth/login")
    assert json.loads(seen.body)["password"] == "é" * 1000
    async with visitor.session.post(
        visitor.base_url + "/api/auth/login", data=b"x" * 300_000
    ) as answer:
        assert answer.status == 413
        assert answer.headers["connection"] == "close"
    assert len(backends.calls_of("POST /api/auth/login")) == 1


async def test_a_service_that_is_away_is_a_problem(visitor: Visitor, backends: Backends) -> None:
    backends.down = {"product"}
    page = await visitor.get("/api/products?limit=1")
    assert page.status == 503
    assert json.loads(page.html)["code"] == "product-unavailable"


async def test_an_instance_that_is_gone_is_passed_over(
    start_frontend: StartFrontend,
    new_visitor: Callable[[str], Visitor],
    addresses: BackendAddresses,
) -> None:
    gone = f"{LOOPBACK}:{free_port()}"
    instances = {"product": (gone, *addresses.http["product"]), "order": (gone,)}
    visitor = new_visitor(await start_frontend(elsewhere=instances))
    for _ in range(4):
        assert (await visitor.get("/api/products?limit=1")).status == 200
    page = await visitor.get("/api/orders")
    assert page.status == 503
    assert json.loads(page.html)["code"] == "order-unavailable"
    assert page.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    ("behaviour", "status", "code"), [("hangs", 504, "timeout"), ("breaks off", 502, "bad-answer")]
)
async def test_a_service_that_gives_no_answer_is_a_problem(
    start_frontend: StartFrontend,
    new_visitor: Callable[[str], Visitor],
    behaviour: str,
    status: int,
    code: str,
) -> None:
    released = asyncio.Event()

    async def misbehave(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if behaviour == "hangs":
            await released.wait()
        else:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(misbehave, LOOPBACK, 0) as server:
        port: int = server.sockets[0].getsockname()[1]
        elsewhere = {"order": (f"{LOOPBACK}:{port}",)}
        base_url = await start_frontend(elsewhere=elsewhere, request_seconds=0.6)
        page = await new_visitor(base_url).get("/api/orders")
        released.set()
    assert page.status == status
    assert json.loads(page.html)["code"] == f"order-{code}"


async def test_spans_are_named_without_what_may_be_an_id(topology: Topology) -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))

    async with gateway_alone(topology, provider) as gateway:
        answer = await ask(gateway, "GET", "/api/payments/secret-id")
    assert answer.status == 404
    (span,) = spans.get_finished_spans()
    assert span.name == "GET /api/payments"
    assert (span.attributes or {})["http.response.status_code"] == 404


async def test_api_calls_are_in_the_figures(visitor: Visitor) -> None:
    await visitor.get("/api/notifications")
    page = await visitor.get("/mesh")
    assert ("tr", {"id": "visitors-to-notification", "class": ""}) in page.tags
