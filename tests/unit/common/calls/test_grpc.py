"""Calls over gRPC, from a real client through a real server and back."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from services.common import call_record
from services.common import context as contexts
from services.common.calls.grpc_client import GrpcEdge, open_channel
from services.common.calls.outgoing import CallTools
from services.common.context import RequestContext
from services.common.errors import ConfigurationError, Kind, ShopError
from services.common.observing.telemetry import trace_id
from services.common.serving.host import Host
from services.pb import inventory_pb2 as pb
from services.pb import inventory_pb2_grpc, shared_pb2
from tests.testkit.ports import free_port
from tests.testkit.waiting import eventually
from tests.unit.common.kit import (
    COMMIT,
    EDGE,
    RESERVE,
    Running,
    call_tools,
    serving_grpc,
)
from tests.unit.failure import failure

FULL_NAME = pb.DESCRIPTOR.services_by_name["InventoryService"].full_name
LEAK = "a secret that stands in the exception's text"

Behaviour = Callable[[], Awaitable[None]]


class GrpcCallee(inventory_pb2_grpc.InventoryServiceServicer):
    """Does as it is told, and keeps what it saw."""

    def __init__(self) -> None:
        self.seen: list[RequestContext] = []
        self.seconds_left: list[float] = []
        self.trace_ids: list[str] = []
        self.behave: Behaviour = self._nothing

    async def _nothing(self) -> None:
        return

    def fails(self, error: Exception) -> None:
        """Raises this each time."""

        async def behave() -> None:
            raise error

        self.behave = behave

    async def Reserve(self, request: pb.ReserveRequest, context: Any) -> pb.ReserveResponse:
        await self._serve()
        return pb.ReserveResponse()

    async def Commit(self, request: pb.CommitRequest, context: Any) -> pb.CommitResponse:
        await self._serve()
        return pb.CommitResponse()

    async def GetStock(self, request: pb.GetStockRequest, context: Any) -> pb.GetStockResponse:
        raise NotImplementedError

    async def Release(self, request: pb.ReleaseRequest, context: Any) -> pb.ReleaseResponse:
        raise NotImplementedError

    async def _serve(self) -> None:
        current = contexts.current()
        self.seen.append(current)
        self.seconds_left.append(current.seconds_left)
        self.trace_ids.append(trace_id())
        await self.behave()


@pytest.fixture
def callee() -> GrpcCallee:
    return GrpcCallee()


@pytest.fixture
async def running(callee: GrpcCallee) -> AsyncGenerator[Running]:
    async def wire(host: Host) -> None:
        host.serve_grpc(
            inventory_pb2_grpc.add_InventoryServiceServicer_to_server, callee, FULL_NAME
        )

    async with serving_grpc(wire, request_timeout_seconds=5.0, version="v2") as running:
        yield running


@pytest.fixture
def tools() -> CallTools:
    return call_tools()


@pytest.fixture
async def edge(running: Running, tools: CallTools) -> AsyncGenerator[GrpcEdge]:
    async with open_channel([running.grpc_address]) as channel:
        yield GrpcEdge(EDGE, channel, tools)


@pytest.fixture(autouse=True)
def request_context() -> Generator[RequestContext]:
    with contexts.background(5.0) as current:
        yield current


async def reserve(edge: GrpcEdge, order_id: str = "ord_1") -> pb.ReserveResponse:
    rpc = edge.rpc(RESERVE, pb.ReserveRequest, pb.ReserveResponse)
    line = shared_pb2.Line(product_id="oak-board", quantity=2)
    return await rpc(pb.ReserveRequest(order_id=order_id, lines=[line]))


async def commit(edge: GrpcEdge) -> pb.CommitResponse:
    rpc = edge.rpc(COMMIT, pb.CommitRequest, pb.CommitResponse)
    return await rpc(pb.CommitRequest(order_id="ord_1"))


@pytest.mark.parametrize("kind", Kind)
async def test_an_error_arrives_as_it_was_raised(
    callee: GrpcCallee, edge: GrpcEdge, kind: Kind
) -> None:
    callee.fails(
        ShopError(
            kind,
            "out-of-stock",
            "Only 2 of „Crème brûlée“ are left.",
            retry_after_seconds=1.5,
            fields={"product_id": "oak-board"},
        )
    )
    error = await failure(reserve(edge))
    assert (error.kind, error.code) == (kind, "out-of-stock")
    assert error.detail == "Only 2 of „Crème brûlée“ are left."
    assert error.retry_after_seconds == 1.5
    assert error.fields == {"product_id": "oak-board"}


async def test_an_unexpected_error_does_not_show_its_text(
    callee: GrpcCallee, edge: GrpcEdge
) -> None:
    callee.fails(RuntimeError(LEAK))
    error = await failure(reserve(edge))
    assert (error.kind, error.code) == (Kind.INTERNAL, "internal")
    assert LEAK not in str(error.__cause__)


async def test_the_context_arrives(callee: GrpcCallee, edge: GrpcEdge, tools: CallTools) -> None:
    request = RequestContext(
        deadline=asyncio.get_running_loop().time() + 60,
        request_id="req-1",
        routing={"canary": "true", "x-user-group": "beta"},
        token="the-token",
    )
    with contexts.serving(request), tools.tracer.start_as_current_span("page") as span:
        await reserve(edge)
        assert callee.trace_ids == [f"{span.get_span_context().trace_id:032x}"]
    (seen,) = callee.seen
    assert (seen.request_id, seen.token) == ("req-1", "the-token")
    assert seen.routing == {"canary": "true", "x-user-group": "beta"}


async def test_the_deadline_shrinks_on_its_way(callee: GrpcCallee, edge: GrpcEdge) -> None:
    await reserve(edge)
    assert callee.seconds_left[0] <= 2.0, "the edge's own patience"
    with contexts.background(0.5):
        await reserve(edge)
    assert callee.seconds_left[1] <= 0.5


async def test_without_time_nothing_is_sent(callee: GrpcCallee, edge: GrpcEdge) -> None:
    with contexts.background(-1.0):
        assert (await failure(reserve(edge))).kind is Kind.TIMEOUT
    assert callee.seen == []


async def test_a_late_answer_is_a_timeout(callee: GrpcCallee, edge: GrpcEdge) -> None:
    async def never() -> None:
        await asyncio.sleep(60)

    callee.behave = never
    with contexts.background(0.1):
        assert (await failure(reserve(edge))).kind is Kind.TIMEOUT


async def test_the_callee_gives_up_at_its_own_limit(callee: GrpcCallee) -> None:
    async def never() -> None:
        await asyncio.sleep(60)

    async def wire(host: Host) -> None:
        host.serve_grpc(
            inventory_pb2_grpc.add_InventoryServiceServicer_to_server, callee, FULL_NAME
        )

    callee.behave = never
    async with (
        serving_grpc(wire, request_timeout_seconds=0.05) as running,
        open_channel([running.grpc_address]) as channel,
    ):
        error = await failure(reserve(GrpcEdge(EDGE, channel, call_tools())))
    assert (error.kind, error.code) == (Kind.TIMEOUT, "deadline-passed")


async def test_a_request_that_its_caller_gives_up_is_counted(
    callee: GrpcCallee, running: Running, edge: GrpcEdge
) -> None:
    arrived = asyncio.Event()

    async def never_answers() -> None:
        arrived.set()
        await asyncio.Event().wait()

    callee.behave = never_answers
    calling = asyncio.create_task(reserve(edge))
    await arrived.wait()
    calling.cancel()

    async def is_counted() -> bool:
        return b'status="cancelled"} 1.0' in running.host.metrics.exposition()

    await eventually(is_counted, "the request is counted")


async def test_nobody_there_is_unavailable() -> None:
    async with open_channel([f"127.0.0.1:{free_port()}"]) as channel:
        error = await failure(reserve(GrpcEdge(EDGE, channel, call_tools())))
    assert (error.kind, error.code) == (Kind.UNAVAILABLE, "callee-unavailable")


async def test_one_that_is_slow_to_connect_is_waited_for(running: Running) -> None:
    """As on a busy machine: half a second until the connection says anything."""
    host, _, port = running.grpc_address.rpartition(":")
    lines: set[asyncio.Task[None]] = set()

    async def lead_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.5)
        callee_reader, callee_writer = await asyncio.open_connection(host, int(port))
        for line in (lead_on(reader, callee_writer), lead_on(callee_reader, writer)):
            lines.add(asyncio.create_task(line))

    async with await asyncio.start_server(slow, "127.0.0.1", 0) as server:
        _, slow_port = server.sockets[0].getsockname()
        async with open_channel([f"127.0.0.1:{slow_port}"]) as channel:
            await reserve(GrpcEdge(EDGE, channel, call_tools()))
        await asyncio.gather(*lines)


async def test_one_that_refuses_is_passed_over(callee: GrpcCallee, running: Running) -> None:
    addresses = [f"127.0.0.1:{free_port()}", running.grpc_address]
    async with open_channel(addresses) as channel:
        edge = GrpcEdge(EDGE, channel, call_tools())
        for _ in range(6):
            await reserve(edge)
    assert len(callee.seen) == 6


class Stranger(grpc.GenericRpcHandler):
    """Answers each call with a bare status, as a connection that breaks makes gRPC do."""

    def __init__(self, code: grpc.StatusCode) -> None:
        self.asked = 0
        self._code = code

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes]:
        return grpc.unary_unary_rpc_method_handler(self._refuse)

    async def _refuse(self, _: bytes, call: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        self.asked += 1
        await call.abort(self._code, "Received RST_STREAM")


@asynccontextmanager
async def answered_by(stranger: Stranger) -> AsyncGenerator[GrpcEdge]:
    """An edge that leads to a server which is none of the shop's."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((stranger,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with open_channel([f"127.0.0.1:{port}"]) as channel:
            yield GrpcEdge(EDGE, channel, call_tools())
    finally:
        await server.stop(None)


@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN])
class TestABrokenConnection:
    async def test_is_an_outage(self, code: grpc.StatusCode) -> None:
        async with answered_by(Stranger(code)) as edge:
            for _ in range(5):
                error = await failure(reserve(edge))
                assert (error.kind, error.code) == (Kind.UNAVAILABLE, "callee-unavailable")
                assert error.retry_after_seconds == 1
            assert not edge.tools.guard("callee").circuit.is_closed

    async def test_is_met_with_the_declared_retries_only(self, code: grpc.StatusCode) -> None:
        """The call may have had its effect."""
        stranger = Stranger(code)
        async with answered_by(stranger) as edge:
            await failure(reserve(edge))
            assert stranger.asked == 1
            await failure(commit(edge))
            assert stranger.asked == 1 + 3


async def test_an_unexpected_error_is_no_outage(callee: GrpcCallee, edge: GrpcEdge) -> None:
    callee.fails(RuntimeError(LEAK))
    assert (await failure(reserve(edge))).kind is Kind.INTERNAL
    for _ in range(4):
        assert (await failure(commit(edge))).kind is Kind.INTERNAL
    assert len(callee.seen) == 1 + 4, "it is not repeated"
    assert edge.tools.guard("callee").circuit.is_closed


class TestGrpcRetries:
    async def test_happen_where_they_are_declared(self, callee: GrpcCallee, edge: GrpcEdge) -> None:
        async def third_time_lucky() -> None:
            if len(callee.seen) < 3:
                raise ShopError(Kind.UNAVAILABLE, "away", "Away.")

        callee.behave = third_time_lucky
        await commit(edge)
        assert len(callee.seen) == 3

    async def test_are_for_outages_only(self, callee: GrpcCallee, edge: GrpcEdge) -> None:
        callee.fails(ShopError(Kind.CONFLICT, "late", "Too late."))
        await failure(commit(edge))
        assert len(callee.seen) == 1

    async def test_happen_nowhere_else(self, callee: GrpcCallee, edge: GrpcEdge) -> None:
        callee.fails(ShopError(Kind.UNAVAILABLE, "away", "Away."))
        await failure(reserve(edge))
        assert len(callee.seen) == 1


class TestRecordOfGrpcCalls:
    async def test_holds_the_call_with_what_was_called_for_it(
        self, callee: GrpcCallee, edge: GrpcEdge, request_context: RequestContext
    ) -> None:
        deeper = call_record.Call("stock", "StockService/Get", "v1", "stock-1", 1.0, "ok")

        async def call_deeper() -> None:
            contexts.current().log.add(deeper)

        callee.behave = call_deeper
        await reserve(edge)
        (call,) = request_context.log.calls
        assert (call.callee, call.operation) == ("callee", "InventoryService/Reserve")
        assert (call.version, call.instance, call.status) == ("v2", "callee-1", "ok")
        (within,) = call.calls
        assert within == replace(deeper, start_milliseconds=within.start_milliseconds)
        assert 0 <= within.start_milliseconds <= call.milliseconds

    async def test_holds_failures_with_who_failed(
        self, callee: GrpcCallee, edge: GrpcEdge, request_context: RequestContext
    ) -> None:
        callee.fails(ShopError(Kind.CONFLICT, "late", "Too late."))
        await failure(reserve(edge))
        (call,) = request_context.log.calls
        assert (call.status, call.instance) == ("conflict", "callee-1")


class TestServer:
    async def test_tells_its_health_and_that_it_drains(self, running: Running) -> None:
        async with grpc.aio.insecure_channel(running.grpc_address) as channel:
            check: grpc.aio.UnaryUnaryMultiCallable[
                health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
            ] = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            for name in ("", FULL_NAME):
                answer = await check(health_pb2.HealthCheckRequest(service=name))
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
            await running.host.drain()
            answer = await check(health_pb2.HealthCheckRequest(service=FULL_NAME))
            assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
            await reserve(GrpcEdge(EDGE, channel, call_tools()))  # whoever still comes is served

    async def test_lists_its_services(self, running: Running) -> None:
        async with grpc.aio.insecure_channel(running.grpc_address) as channel:
            info: grpc.aio.StreamStreamMultiCallable[
                reflection_pb2.ServerReflectionRequest, reflection_pb2.ServerReflectionResponse
            ] = channel.stream_stream(
                "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
                response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
            )
            asked = reflection_pb2.ServerReflectionRequest(list_services="")
            names = {
                service.name
                async for answer in info(iter([asked]))
                for service in answer.list_services_response.service
            }
        assert {FULL_NAME, "grpc.health.v1.Health"} <= names

    async def test_says_when_its_address_is_taken(self, running: Running) -> None:
        async def wire(_: Host) -> None:
            return

        with pytest.raises(ConfigurationError, match=rf"{running.grpc_address} cannot be used"):
            async with serving_grpc(wire, grpc_port=running.process.grpc_port):
                raise AssertionError("it cannot have started")


async def test_an_ipv6_address_is_listened_on(callee: GrpcCallee) -> None:
    async def wire(host: Host) -> None:
        host.serve_grpc(
            inventory_pb2_grpc.add_InventoryServiceServicer_to_server, callee, FULL_NAME
        )

    async with (
        serving_grpc(wire, host="::1") as running,
        open_channel([f"[::1]:{running.process.grpc_port}"]) as channel,
    ):
        await reserve(GrpcEdge(EDGE, channel, call_tools()))
    assert len(callee.seen) == 1


@pytest.mark.parametrize(
    ("instances", "is_first"), [("[::1]:{port}", True), ("127.0.0.1:{port}", False)]
)
async def test_instances_may_be_of_both_families(
    callee: GrpcCallee, instances: str, is_first: bool
) -> None:
    """One of them answers; the other is at an address of the other family, and refuses."""

    async def wire(host: Host) -> None:
        host.serve_grpc(
            inventory_pb2_grpc.add_InventoryServiceServicer_to_server, callee, FULL_NAME
        )

    nobody = f"127.0.0.1:{free_port()}" if "::" in instances else f"[::1]:{free_port()}"
    async with serving_grpc(wire, host="::") as running:
        answering = instances.format(port=running.process.grpc_port)
        addresses = [answering, nobody] if is_first else [nobody, answering]
        async with open_channel(addresses) as channel:
            edge = GrpcEdge(EDGE, channel, call_tools())
            for _ in range(4):
                await reserve(edge)
    assert len(callee.seen) == 4


@pytest.mark.parametrize("wrong", ["callee-2:9000", "127.0.0.1", "[::1]"])
async def test_several_instances_are_addresses(wrong: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"'{re.escape(wrong)}' is wrong: "):
        open_channel(["127.0.0.1:9000", wrong])


async def test_an_undeclared_rpc_stops_the_start() -> None:
    async with open_channel(["127.0.0.1:1"]) as channel:
        edge = GrpcEdge(EDGE, channel, call_tools())
        with pytest.raises(ConfigurationError, match=r"^caller calls callee.*/Release.*\.$"):
            edge.rpc(
                "meshmart.inventory.v1.InventoryService/Release",
                pb.ReleaseRequest,
                pb.ReleaseResponse,
            )
