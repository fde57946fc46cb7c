"""Calls over HTTP: what is sent, what is made of the answer, and of none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.common import call_record, context
from services.common.calls.http_client import HttpEdge
from services.common.calls.outgoing import CallTools
from services.common.context import RequestContext
from services.common.errors import ConfigurationError, Kind, ShopError
from services.common.protocols.problem import shop_error_response
from tests.testkit.ports import free_port
from tests.unit.common.kit import EDGE, call_tools
from tests.unit.failure import failure

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HttpCallee:
    """A server that keeps each request and answers as it is told."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.answer: Handler = self._ok

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.bodies.append(await request.read())
        return await self.answer(request)

    async def _ok(self, _: web.Request) -> web.Response:
        return web.json_response({"ok": True})

    def replies(self, **response: Any) -> None:
        """Answers this to everything."""

        async def answer(_: web.Request) -> web.Response:
            return web.Response(**response)

        self.answer = answer


@pytest.fixture
def callee() -> HttpCallee:
    return HttpCallee()


@pytest.fixture
async def address(callee: HttpCallee) -> AsyncGenerator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", callee.handle)
    async with TestServer(app) as server:
        yield str(server.make_url("/")).removeprefix("http://").removesuffix("/")


@pytest.fixture
def tools() -> CallTools:
    return call_tools()


@pytest.fixture
def edge(address: str, http: aiohttp.ClientSession, tools: CallTools) -> HttpEdge:
    return HttpEdge(EDGE, [address], http, tools)


@pytest.fixture(autouse=True)
def request_context() -> Generator[RequestContext]:
    with context.background(5.0) as current:
        yield current


async def test_an_answer_comes_back(callee: HttpCallee, edge: HttpEdge) -> None:
    callee.replies(status=201, text='{"id": 7}', headers={"etag": '"a"'})
    reply = await edge.route("GET", "/things/{thing}")(path={"thing": "x"})
    assert (reply.status, reply.json(), reply.headers["ETag"]) == (201, {"id": 7}, '"a"')


async def test_path_query_and_body_are_encoded(callee: HttpCallee, edge: HttpEdge) -> None:
    await edge.route("GET", "/things/{thing}")(
        path={"thing": "a/b?c=d#e %ü"}, query={"q": "x&y=z", "limit": 3}
    )
    request = callee.requests[0]
    assert request.raw_path.split("?")[0] == "/things/a%2Fb%3Fc%3Dd%23e%20%25%C3%BC"
    assert dict(request.query) == {"q": "x&y=z", "limit": "3"}
    await edge.route("POST", "/things")(json={"name": "Zoë"})
    assert callee.bodies[1].decode() == '{"name":"Zoë"}'
    assert callee.requests[1].content_type == "application/json"


@pytest.mark.parametrize("value", ["", ".", ".."])
async def test_a_value_never_leads_to_another_path(
    callee: HttpCallee, edge: HttpEdge, value: str
) -> None:
    error = await failure(edge.route("GET", "/things/{thing}")(path={"thing": value}))
    assert error.kind is Kind.NOT_FOUND
    assert callee.requests == []


async def test_the_context_goes_along(callee: HttpCallee, edge: HttpEdge, tools: CallTools) -> None:
    request = RequestContext(
        deadline=asyncio.get_running_loop().time() + 60,
        request_id="req-1",
        routing={"canary": "true"},
        token="the-token",
    )
    with context.serving(request), tools.tracer.start_as_current_span("page") as span:
        await edge.route("GET", "/things/{thing}")(path={"thing": "x"}, headers={"x-own": "1"})
        trace_id = f"{span.get_span_context().trace_id:032x}"
    sent = callee.requests[0].headers
    assert sent["x-request-id"] == "req-1"
    assert sent["canary"] == "true"
    assert sent["authorization"] == "Bearer the-token"
    assert sent["x-own"] == "1"
    assert 0 < int(sent["x-deadline-ms"]) <= 2000, (
        "the edge's own patience is less than what is left"
    )
    assert sent["traceparent"].split("-")[1] == trace_id


async def test_the_callee_gets_no_more_time_than_is_left(
    callee: HttpCallee, edge: HttpEdge
) -> None:
    with context.background(0.5):
        await edge.route("GET", "/things/{thing}")(path={"thing": "x"})
    assert int(callee.requests[0].headers["x-deadline-ms"]) <= 500


async def test_without_time_nothing_is_sent(callee: HttpCallee, edge: HttpEdge) -> None:
    with context.background(-1.0):
        error = await failure(edge.route("GET", "/things/{thing}")(path={"thing": "x"}))
    assert error.kind is Kind.TIMEOUT
    assert callee.requests == []


@pytest.mark.parametrize("kind", Kind)
async def test_a_problem_is_the_callees_error(
    callee: HttpCallee, edge: HttpEdge, kind: Kind
) -> None:
    told = ShopError(
        kind, "some-code", "Some detail.", retry_after_seconds=4, fields={"fact": "yes"}
    )
    answer = shop_error_response(told)
    callee.replies(
        status=answer.status_code, body=bytes(answer.body), headers=dict(answer.headers.items())
    )
    error = await failure(edge.route("GET", "/things/{thing}")(path={"thing": "x"}))
    assert (error.kind, error.code, error.detail) == (kind, "some-code", "Some detail.")
    assert (error.retry_after_seconds, error.fields) == (4, {"fact": "yes"})


async def test_a_late_answer_is_a_timeout(callee: HttpCallee, edge: HttpEdge) -> None:
    async def never(_: web.Request) -> web.Response:
        await asyncio.sleep(60)
        raise AssertionError("the client has gone long before")

    callee.answer = never
    error = await failure(edge.route("POST", "/things")(json={}))
    assert (error.kind, error.code) == (Kind.TIMEOUT, "callee-timeout")


async def test_nobody_there_is_unavailable(http: aiohttp.ClientSession) -> None:
    edge = HttpEdge(EDGE, [f"127.0.0.1:{free_port()}"], http, call_tools())
    error = await failure(edge.route("POST", "/things")(json={}))
    assert (error.kind, error.code) == (Kind.UNAVAILABLE, "callee-unavailable")
    assert error.retry_after_seconds is not None


async def test_a_connection_that_breaks_is_unavailable(callee: HttpCallee, edge: HttpEdge) -> None:
    async def hang_up(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    callee.answer = hang_up
    error = await failure(edge.route("GET", "/things/{thing}")(path={"thing": "x"}))
    assert error.kind is Kind.UNAVAILABLE


async def test_a_redirect_is_not_followed(callee: HttpCallee, edge: HttpEdge) -> None:
    callee.replies(status=302, headers={"location": "http://127.0.0.1:1/"})
    reply = await edge.route("GET", "/things/{thing}")(path={"thing": "x"})
    assert reply.status == 302


async def test_a_huge_answer_is_refused(callee: HttpCallee, edge: HttpEdge) -> None:
    callee.replies(body=bytes(4 * 1024 * 1024 + 1))
    error = await failure(edge.route("GET", "/things/{thing}")(path={"thing": "x"}))
    assert (error.kind, error.code) == (Kind.UNAVAILABLE, "bad-answer")


async def test_what_is_no_json_is_refused_when_it_is_read(
    callee: HttpCallee, edge: HttpEdge
) -> None:
    callee.replies(text="<html>")
    reply = await edge.route("GET", "/things/{thing}")(path={"thing": "x"})
    with pytest.raises(ShopError) as refused:
        reply.json()
    assert (refused.value.kind, refused.value.code) == (Kind.UNAVAILABLE, "bad-answer")


async def test_one_that_refuses_is_passed_over(
    callee: HttpCallee, address: str, http: aiohttp.ClientSession
) -> None:
    edge = HttpEdge(EDGE, [f"127.0.0.1:{free_port()}", address], http, call_tools())
    for _ in range(4):
        await edge.route("POST", "/things")(json={})
    assert len(callee.requests) == 4


async def test_addresses_take_turns(address: str, http: aiohttp.ClientSession) -> None:
    edge = HttpEdge(EDGE, ["a:1", "b:2"], http, call_tools())
    assert [edge.instances.in_turn()[0] for _ in range(4)] == ["a:1", "b:2", "a:1", "b:2"]


class TestHttpRetries:
    async def test_happen_where_they_are_declared(self, callee: HttpCallee, edge: HttpEdge) -> None:
        async def third_time_lucky(_: web.Request) -> web.Response:
            return web.Response(status=200 if len(callee.requests) == 3 else 503)

        callee.answer = third_time_lucky
        assert (await edge.route("GET", "/flaky")()).status == 200
        assert len(callee.requests) == 3

    async def test_end(self, callee: HttpCallee, edge: HttpEdge) -> None:
        callee.replies(status=503)
        error = await failure(edge.route("GET", "/flaky")())
        assert error.kind is Kind.UNAVAILABLE
        assert len(callee.requests) == 3

    @pytest.mark.parametrize("status", [401, 404, 409, 422, 429, 500])
    async def test_are_for_outages_only(
        self, callee: HttpCallee, edge: HttpEdge, status: int
    ) -> None:
        callee.replies(status=status)
        await failure(edge.route("GET", "/flaky")())
        assert len(callee.requests) == 1

    async def test_happen_nowhere_else(self, callee: HttpCallee, edge: HttpEdge) -> None:
        callee.replies(status=503)
        await failure(edge.route("GET", "/things/{thing}")(path={"thing": "x"}))
        assert len(callee.requests) == 1


class TestRecordOfHttpCalls:
    async def test_holds_each_call_with_what_was_called_for_it(
        self, callee: HttpCallee, edge: HttpEdge, request_context: RequestContext
    ) -> None:
        deeper = call_record.Call("stock", "StockService/Get", "v1", "stock-1", 1.0, "ok")
        # Longer than the call takes: its own calls are then where the answer says.
        answer = call_record.Served("callee", "v2", "callee-7", 9000.0, (deeper,), dropped=2)
        callee.replies(headers={call_record.HEADER: call_record.encode(answer)})
        await edge.route("GET", "/things/{thing}")(path={"thing": "x"})
        (call,) = request_context.log.calls
        assert (call.callee, call.operation) == ("callee", "GET /things/{thing}")
        assert (call.version, call.instance, call.status) == ("v2", "callee-7", "200")
        assert call.milliseconds > 0
        assert call.calls == (deeper,)
        assert request_context.log.dropped == 2

    async def test_tells_a_mesh_that_denies_from_a_service_that_does(
        self, callee: HttpCallee, edge: HttpEdge, tools: CallTools
    ) -> None:
        route = edge.route("GET", "/things/{thing}")
        callee.replies(status=403)  # as Istio: "RBAC: access denied", and nothing of the shop's
        await failure(route(path={"thing": "x"}))
        answer = call_record.Served("callee", "v2", "callee-7", 3.0)
        callee.replies(status=403, headers={call_record.HEADER: call_record.encode(answer)})
        for _ in range(2):
            await failure(route(path={"thing": "x"}))
        tallies = {way.version: way.tally for way in tools.metrics.recent.report(60).ways}
        assert (tallies[""].denied, tallies[""].denied_before) == (0, 1)
        assert (tallies["v2"].denied, tallies["v2"].denied_before) == (2, 0)

    async def test_holds_when_each_call_began(
        self, callee: HttpCallee, edge: HttpEdge, request_context: RequestContext
    ) -> None:
        for _ in range(2):
            await edge.route("GET", "/things/{thing}")(path={"thing": "x"})
        first, second = request_context.log.calls
        assert first.start_milliseconds > 0
        assert second.start_milliseconds >= first.start_milliseconds + first.milliseconds

    @pytest.mark.parametrize(("status", "recorded"), [(404, "not-found"), (503, "unavailable")])
    async def test_holds_failures_with_who_failed(
        self,
        callee: HttpCallee,
        edge: HttpEdge,
        request_context: RequestContext,
        status: int,
        recorded: str,
    ) -> None:
        answer = call_record.Served("callee", "v2", "callee-7", 3.0)
        callee.replies(status=status, headers={call_record.HEADER: call_record.encode(answer)})
        await failure(edge.route("GET", "/things/{thing}")(path={"thing": "x"}))
        (call,) = request_context.log.calls
        assert (call.status, call.instance) == (recorded, "callee-7")

    async def test_holds_each_attempt(
        self, callee: HttpCallee, edge: HttpEdge, request_context: RequestContext
    ) -> None:
        callee.replies(status=503)
        await failure(edge.route("GET", "/flaky")())
        assert [call.status for call in request_context.log.calls] == ["unavailable"] * 3

    async def test_does_without_what_it_cannot_read(
        self, callee: HttpCallee, edge: HttpEdge, request_context: RequestContext
    ) -> None:
        callee.replies(headers={call_record.HEADER: "nonsense"})
        await edge.route("GET", "/things/{thing}")(path={"thing": "x"})
        (call,) = request_context.log.calls
        assert (call.status, call.version, call.instance) == ("200", "", "")

    async def test_and_metrics_agree(
        self, callee: HttpCallee, edge: HttpEdge, tools: CallTools
    ) -> None:
        await edge.route("GET", "/things/{thing}")(path={"thing": "x"})
        line = (
            'meshmart_call_seconds_count{callee="callee",callee_version="",'
            'operation="GET /things/{thing}",status="200"} 1.0'
        )
        assert line in tools.metrics.exposition().decode().splitlines()


@pytest.mark.parametrize(("method", "path"), [("GET", "/other"), ("DELETE", "/things")])
def test_an_undeclared_call_stops_the_start(method: str, path: str) -> None:
    edge = HttpEdge(EDGE, [], None, call_tools())  # pyright: ignore[reportArgumentType]  not used
    with pytest.raises(ConfigurationError, match=rf"^caller calls callee.* {method} {path}.*\.$"):
        edge.route(method, path)
