"""What guards every call: a callee that is out is spared, at once, and found again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from fastapi import APIRouter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.common import context
from services.common.calls.grpc_client import GrpcEdge, open_channel
from services.common.calls.http_client import HttpEdge
from services.common.calls.outgoing import CallRefused, CallTools, observed, with_retries
from services.common.context import RequestContext
from services.common.errors import Kind, ShopError
from services.common.observing.metrics import Metrics
from services.common.serving.host import Host, hosting
from services.pb import inventory_pb2 as pb
from services.pb import inventory_pb2_grpc
from tests.testkit.metrics import values_of
from tests.testkit.ports import free_port
from tests.unit.asgi import ask
from tests.unit.common.kit import (
    COMMIT,
    EDGE,
    RESERVE,
    TOPOLOGY,
    ManualClock,
    call_tools,
    process_settings,
    serving,
    serving_grpc,
)
from tests.unit.failure import failure

OUTAGES = 5
LONGEST_FIRST_PAUSE_SECONDS = 0.6
BUDGET = 20

AWAY = ShopError(Kind.UNAVAILABLE, "away", "Away.")
LATE = ShopError(Kind.TIMEOUT, "late", "Late.")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def tools(clock: ManualClock) -> CallTools:
    return call_tools(clock)


@pytest.fixture(autouse=True)
def request_context() -> Generator[RequestContext]:
    with context.background(30.0) as current:
        yield current


async def attempt(tools: CallTools, error: Exception | None = None, **options: Any) -> None:
    """One attempt at `callee` that ends as told."""
    with observed(
        tools, callee="callee", operation="GET /things", protocol="http", **options
    ) as outcome:
        if error is not None:
            raise error
        outcome.status = "200"


async def unanswered(tools: CallTools) -> None:
    with observed(tools, callee="callee", operation="GET /x", protocol="http"):
        await asyncio.Event().wait()


async def break_circuit(tools: CallTools) -> None:
    for _ in range(OUTAGES):
        await failure(attempt(tools, AWAY))


def exposed(tools: CallTools, name: str, **labels: str) -> float | None:
    """One metric's value; None when it does not exist."""
    return values_of(tools.metrics, name).get(tuple(labels[key] for key in sorted(labels)))


class TestCircuit:
    @pytest.mark.parametrize("error", [AWAY, LATE])
    async def test_refuses_at_once_after_an_outage(
        self, tools: CallTools, error: ShopError
    ) -> None:
        for _ in range(OUTAGES):
            assert await failure(attempt(tools, error)) is error
        refused = await failure(attempt(tools))
        assert isinstance(refused, CallRefused)
        assert (refused.kind, refused.code) == (Kind.UNAVAILABLE, "callee-unavailable")
        assert refused.retry_after_seconds is not None
        assert 0 < refused.retry_after_seconds <= LONGEST_FIRST_PAUSE_SECONDS

    async def test_lets_one_probe_through_and_closes_on_its_answer(
        self, tools: CallTools, clock: ManualClock
    ) -> None:
        await break_circuit(tools)
        clock.advance(LONGEST_FIRST_PAUSE_SECONDS)
        answered = asyncio.Event()
        arrived = 0

        async def held_up() -> None:
            nonlocal arrived
            with observed(tools, callee="callee", operation="GET /x", protocol="http"):
                arrived += 1
                await answered.wait()

        calls = [asyncio.create_task(held_up()) for _ in range(50)]
        done, (probe,) = await asyncio.wait(calls, return_when=asyncio.FIRST_EXCEPTION, timeout=5)
        assert arrived == 1
        assert all(isinstance(call.exception(), CallRefused) for call in done)
        answered.set()
        await probe
        await asyncio.gather(*(attempt(tools) for _ in range(50)))

    async def test_gives_the_place_of_a_cancelled_probe_to_the_next(
        self, tools: CallTools, clock: ManualClock
    ) -> None:
        await break_circuit(tools)
        clock.advance(LONGEST_FIRST_PAUSE_SECONDS)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(unanswered(tools), 0.01)
        await attempt(tools)
        await attempt(tools)

    @pytest.mark.parametrize("kind", sorted(set(Kind) - {Kind.UNAVAILABLE, Kind.TIMEOUT}))
    async def test_takes_every_other_answer_for_a_sign_of_life(
        self, tools: CallTools, kind: Kind
    ) -> None:
        for _ in range(2):
            for _ in range(OUTAGES - 1):
                await failure(attempt(tools, AWAY))
            assert (await failure(attempt(tools, ShopError(kind, "no", "No.")))).kind is kind

    async def test_blames_no_callee_for_a_deadline_of_ours(self, tools: CallTools) -> None:
        for _ in range(3 * OUTAGES):
            assert await failure(attempt(tools, LATE, is_cut_short=True)) is LATE
        for _ in range(OUTAGES):
            assert await failure(attempt(tools, AWAY, is_cut_short=True)) is AWAY
        assert isinstance(await failure(attempt(tools)), CallRefused), "refusing needs no time"

    async def test_learns_nothing_from_a_mistake_in_the_program(self, tools: CallTools) -> None:
        for _ in range(3 * OUTAGES):
            with pytest.raises(KeyError):
                await attempt(tools, KeyError("path"))
        await attempt(tools)

    async def test_is_told_when_an_answer_is_about_one_request(self, tools: CallTools) -> None:
        async def answered() -> None:
            with observed(tools, callee="callee", operation="GET /x", protocol="http") as outcome:
                outcome.callee_works = True
                raise AWAY

        for _ in range(3 * OUTAGES):
            assert await failure(answered()) is AWAY
        await attempt(tools)

    async def test_is_each_callees_own(self, tools: CallTools) -> None:
        await break_circuit(tools)
        with observed(tools, callee="other", operation="GET /x", protocol="http"):
            pass


class TestRetryBudget:
    async def test_pays_for_what_a_context_repeats(
        self, tools: CallTools, request_context: RequestContext
    ) -> None:
        request_context.is_retry = True
        await spend_budget(tools)
        refused = await failure(attempt(tools))
        assert isinstance(refused, CallRefused)
        assert (refused.kind, refused.code) == (Kind.UNAVAILABLE, "retry-budget-spent")
        assert refused.retry_after_seconds == 1
        request_context.is_retry = False
        await attempt(tools)  # first attempts are always made

    async def test_is_earned_by_time_and_free_for_what_succeeds(
        self, tools: CallTools, clock: ManualClock
    ) -> None:
        await spend_budget(tools)
        clock.advance(1.0)
        for _ in range(3 * BUDGET):
            await attempt(tools, is_retry=True)

    async def test_is_full_again_when_the_outage_is_over(
        self, tools: CallTools, clock: ManualClock
    ) -> None:
        await spend_budget(tools)
        await break_circuit(tools)
        clock.advance(LONGEST_FIRST_PAUSE_SECONDS)
        await attempt(tools)
        await spend_budget(tools)

    async def test_that_is_spent_leaves_the_probes_place_free(
        self, tools: CallTools, clock: ManualClock
    ) -> None:
        await break_circuit(tools)
        clock.advance(LONGEST_FIRST_PAUSE_SECONDS)
        await spend_budget(tools)
        assert (await failure(attempt(tools, is_retry=True))).code == "retry-budget-spent"
        await attempt(tools)


async def spend_budget(tools: CallTools) -> None:
    """Makes as many failing retries as a full budget has, without an outage in a row."""
    paid = 0
    while paid < BUDGET:
        error = await failure(attempt(tools, LATE, is_retry=True, is_cut_short=True))
        assert error is LATE, f"{paid} were paid"
        paid += 1


class Repeated:
    """A call that a client may repeat twice; every attempt meets the same outage."""

    def __init__(self, tools: CallTools) -> None:
        self.retries: list[bool] = []
        self._tools = tools

    async def __call__(self) -> None:
        await with_retries(self._tools.guard("callee"), 2, self._attempt)

    async def _attempt(self, is_retry: bool) -> None:
        self.retries.append(is_retry)
        await attempt(self._tools, AWAY, is_retry=is_retry)


class TestClientRetries:
    async def test_come_after_growing_pauses(self, tools: CallTools) -> None:
        call = Repeated(tools)
        began_seconds = time.monotonic()
        assert await failure(call()) is AWAY
        assert call.retries == [False, True, True]
        assert time.monotonic() - began_seconds >= 0.5 * (0.05 + 0.1)

    async def test_are_not_waited_for_beyond_the_deadline(self, tools: CallTools) -> None:
        call = Repeated(tools)
        with context.background(0.02):  # less than the shortest pause
            assert await failure(call()) is AWAY
        assert call.retries == [False]

    async def test_end_when_the_circuit_opens(self, tools: CallTools) -> None:
        for _ in range(OUTAGES - 1):
            await failure(attempt(tools, AWAY))
        call = Repeated(tools)
        assert await failure(call()) is AWAY, "what it met says more than a refusal"
        assert call.retries == [False]
        assert isinstance(await failure(call()), CallRefused)
        assert call.retries == [False, False]

    async def test_end_when_the_budget_is_spent(self, tools: CallTools) -> None:
        await spend_budget(tools)
        call = Repeated(tools)
        assert (await failure(call())).code == "retry-budget-spent"
        assert call.retries == [False, True]


class TestRefusals:
    async def test_are_shown_as_calls_that_were_not_made(
        self, request_context: RequestContext
    ) -> None:
        spans = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(spans))
        tools = CallTools(caller="caller", tracer=provider.get_tracer("test"), metrics=Metrics())
        await break_circuit(tools)
        await failure(attempt(tools))
        assert [call.status for call in request_context.log.calls] == [
            *["unavailable"] * OUTAGES,
            "refused",
        ]
        labels = {"callee": "callee", "callee_version": "", "operation": "GET /things"}
        assert exposed(tools, "meshmart_call_seconds_count", **labels, status="refused") == 1
        assert exposed(tools, "meshmart_call_seconds_count", **labels, status="unavailable") == 5
        assert len(spans.get_finished_spans()) == OUTAGES

    async def test_are_counted_by_reason(
        self, tools: CallTools, request_context: RequestContext
    ) -> None:
        await attempt(tools)

        def counted() -> list[float | None]:
            return [
                exposed(tools, "meshmart_call_refusals_total", callee="callee", reason=reason)
                for reason in ("circuit-open", "retry-budget-spent")
            ]

        assert counted() == [0, 0], "a series that exists from the start can be watched"
        await spend_budget(tools)
        await failure(attempt(tools, is_retry=True))
        await break_circuit(tools)
        await failure(attempt(tools))
        await failure(attempt(tools))
        assert counted() == [2, 1]


async def test_the_retry_budget_is_shown_while_nothing_is_called(
    tools: CallTools, clock: ManualClock
) -> None:
    def shown() -> float | None:
        return exposed(tools, "meshmart_call_retry_budget_ratio", callee="callee")

    await attempt(tools)
    assert shown() == 1
    await spend_budget(tools)
    assert shown() == 0
    clock.advance(5.0)
    assert shown() == 5 / BUDGET
    clock.advance(1000.0)
    assert shown() == 1


async def test_an_outage_is_shown_and_logged_once(
    tools: CallTools, clock: ManualClock, capsys: pytest.CaptureFixture[str]
) -> None:
    def shown() -> float | None:
        return exposed(tools, "meshmart_circuit_open", callee="callee")

    await attempt(tools)
    assert shown() == 0
    await break_circuit(tools)
    assert shown() == 1
    for _ in range(3):
        clock.advance(5.0)
        await failure(attempt(tools, AWAY))
    assert shown() == 1
    clock.advance(5.0)
    await attempt(tools)
    assert shown() == 0
    logged = capsys.readouterr().out
    assert [logged.count(event) for event in ("circuit.opened", "circuit.closed")] == [1, 1]


class TestHttpCallee:
    """A real server that goes away, and returns on the same port."""

    @asynccontextmanager
    async def listening(self, port: int) -> AsyncGenerator[list[str]]:
        asked: list[str] = []

        async def answer(request: web.Request) -> web.Response:
            asked.append(request.path)
            return web.json_response({})

        app = web.Application()
        app.router.add_post("/things", answer)
        async with TestServer(app, port=port):
            yield asked

    async def test_that_went_away_is_spared_and_found_again(
        self, tools: CallTools, clock: ManualClock
    ) -> None:
        port = free_port()
        async with aiohttp.ClientSession() as session:
            route = HttpEdge(EDGE, [f"127.0.0.1:{port}"], session, tools).route("POST", "/things")
            async with self.listening(port):
                assert (await route()).status == 200
            for _ in range(OUTAGES):
                assert not isinstance(await failure(route()), CallRefused)
            async with self.listening(port) as asked:
                refused = await asyncio.gather(*(failure(route()) for _ in range(20)))
                assert all(isinstance(error, CallRefused) for error in refused)
                assert asked == [], "nothing was sent"
                clock.advance(LONGEST_FIRST_PAUSE_SECONDS)
                for _ in range(3):
                    assert (await route()).status == 200
                assert len(asked) == 3

    async def test_and_its_grpc_side_share_a_circuit(self, tools: CallTools) -> None:
        nobody = f"127.0.0.1:{free_port()}"
        async with aiohttp.ClientSession() as session, open_channel([nobody]) as channel:
            route = HttpEdge(EDGE, [nobody], session, tools).route("GET", "/things/{thing}")
            for _ in range(OUTAGES):
                await failure(route(path={"thing": "x"}))
            rpc = GrpcEdge(EDGE, channel, tools).rpc(RESERVE, pb.ReserveRequest, pb.ReserveResponse)
            assert isinstance(await failure(rpc(pb.ReserveRequest())), CallRefused)

    async def test_that_hangs_is_out_only_when_it_had_its_time(self, tools: CallTools) -> None:
        async def hang(_: web.Request) -> web.Response:
            await asyncio.Event().wait()
            raise AssertionError("nobody wakes it")

        app = web.Application()
        app.router.add_post("/things", hang)
        async with TestServer(app) as server, aiohttp.ClientSession() as session:
            address = str(server.make_url("/")).removeprefix("http://").removesuffix("/")
            edge = HttpEdge(EDGE, [address], session, tools)
            route = edge.route("POST", "/things")  # declared with 200 ms
            with context.background(0.1):
                hurried = await asyncio.gather(*(failure(route()) for _ in range(2 * OUTAGES)))
            # On a busy machine some of them begin when their time has passed already.
            codes = {error.code for error in hurried} - {"deadline-passed"}
            assert codes == {"callee-timeout"}
            assert tools.guard("callee").circuit.is_closed
            await asyncio.gather(*(failure(route()) for _ in range(OUTAGES)))
            assert isinstance(await failure(route()), CallRefused)


class FlakyInventory(inventory_pb2_grpc.InventoryServiceServicer):
    """Answers, or fails as told."""

    def __init__(self) -> None:
        self.served = 0
        self.error: ShopError | None = None

    async def Reserve(self, request: pb.ReserveRequest, context: Any) -> pb.ReserveResponse:
        self._serve()
        return pb.ReserveResponse()

    async def Commit(self, request: pb.CommitRequest, context: Any) -> pb.CommitResponse:
        self._serve()
        return pb.CommitResponse()

    async def GetStock(self, request: pb.GetStockRequest, context: Any) -> pb.GetStockResponse:
        raise NotImplementedError

    async def Release(self, request: pb.ReleaseRequest, context: Any) -> pb.ReleaseResponse:
        raise NotImplementedError

    async def wire(self, host: Host) -> None:
        name = pb.DESCRIPTOR.services_by_name["InventoryService"].full_name
        host.serve_grpc(inventory_pb2_grpc.add_InventoryServiceServicer_to_server, self, name)

    def _serve(self) -> None:
        self.served += 1
        if self.error is not None:
            raise self.error


class TestGrpcCallee:
    async def test_that_went_away_is_spared_and_found_again(
        self, tools: CallTools, clock: ManualClock
    ) -> None:
        port, inventory = free_port(), FlakyInventory()
        async with open_channel([f"127.0.0.1:{port}"]) as channel:
            rpc = GrpcEdge(EDGE, channel, tools).rpc(RESERVE, pb.ReserveRequest, pb.ReserveResponse)
            async with serving_grpc(inventory.wire, grpc_port=port):
                await rpc(pb.ReserveRequest())
            for _ in range(OUTAGES):
                assert not isinstance(await failure(rpc(pb.ReserveRequest())), CallRefused)
            async with serving_grpc(inventory.wire, grpc_port=port):
                for _ in range(20):
                    assert isinstance(await failure(rpc(pb.ReserveRequest())), CallRefused)
                assert inventory.served == 1, "nothing was sent"
                await channel.channel_ready()
                clock.advance(LONGEST_FIRST_PAUSE_SECONDS)
                for _ in range(3):
                    await rpc(pb.ReserveRequest())
                assert inventory.served == 4

    async def test_whose_own_callee_is_out_is_out_too(self, tools: CallTools) -> None:
        inventory = FlakyInventory()
        inventory.error = CallRefused("stripe", "stripe-unavailable", 2.5)
        async with (
            serving_grpc(inventory.wire) as running,
            open_channel([running.grpc_address]) as channel,
        ):
            rpc = GrpcEdge(EDGE, channel, tools).rpc(COMMIT, pb.CommitRequest, pb.CommitResponse)
            codes = [(await failure(rpc(pb.CommitRequest()))).code for _ in range(3)]
        assert inventory.served == OUTAGES
        assert codes == ["stripe-unavailable", "stripe-unavailable", "callee-unavailable"], (
            "the second call's last attempt opened the circuit; it still says what it met"
        )


class TestRetryAfter:
    """A waiting time arrives in whole seconds, never shorter than it was told."""

    @asynccontextmanager
    async def caller(self, router: APIRouter, **addresses: str) -> AsyncGenerator[Host]:
        settings = process_settings(
            **{protocol: {"callee": [address]} for protocol, address in addresses.items()}
        )

        async def wire(host: Host) -> None:
            host.serve_http(router)

        async with hosting("caller", wire, topology=TOPOLOGY, process=settings) as host:
            yield host

    @pytest.mark.parametrize(("told_seconds", "header"), [(0.0004, "1"), (1.0, "1"), (2.3, "3")])
    async def test_comes_through_grpc_and_http(self, told_seconds: float, header: str) -> None:
        inventory, router = FlakyInventory(), APIRouter()
        inventory.error = CallRefused("stripe", "stripe-unavailable", told_seconds)

        @router.get("/reserve")
        async def reserve() -> None:
            rpc = host.grpc("callee").rpc(RESERVE, pb.ReserveRequest, pb.ReserveResponse)
            await rpc(pb.ReserveRequest())

        async with (
            serving_grpc(inventory.wire) as running,
            self.caller(router, grpc_addresses=running.grpc_address) as host,
        ):
            answer = await ask(host.app(), "GET", "/reserve")
        assert (answer.status, answer.json()["code"]) == (503, "stripe-unavailable")
        assert answer.headers["retry-after"] == header

    async def test_comes_through_http_twice(self) -> None:
        outer, inner = APIRouter(), APIRouter()

        @inner.get("/flaky")
        async def refuse() -> None:
            raise CallRefused("stock", "stock-unavailable", 2.3)

        async def wire(host: Host) -> None:
            host.serve_http(inner)

        @outer.get("/thing")
        async def pass_on() -> None:
            await host.http("callee").route("GET", "/flaky")()

        async with (
            serving(wire) as running,
            self.caller(outer, http_addresses=running.url.removeprefix("http://")) as host,
        ):
            answer = await ask(host.app(), "GET", "/thing")
        assert (answer.status, answer.json()["code"]) == (503, "stock-unavailable")
        assert answer.headers["retry-after"] == "3"
