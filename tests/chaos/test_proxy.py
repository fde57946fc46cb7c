"""A proxy changes nothing but what it is told to."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path

import aiohttp
import grpc
import grpc.aio
import pytest
from yarl import URL

from services.common.calls.grpc_client import open_channel
from services.common.topology import load_topology
from services.local.data import Process
from tests.chaos.callee import (
    HTTP_TARGET,
    RPC,
    BadAnswerError,
    Call,
    ProxiedCallee,
    grpc_caller,
    http_caller,
)
from tests.chaos.proxies import FORWARDED, NO_FAULTS, Edge, Fault, Faults, Proxies, TcpFault
from tests.testkit.customer import Client, Customer
from tests.testkit.ports import free_port
from tests.testkit.shop import Shop
from tests.testkit.waiting import eventually
from tests.unit.common.kit import TOPOLOGY

LONG_SECONDS = 600.0  # what takes that long ends only because it is told to


@pytest.fixture
def callee() -> ProxiedCallee:
    return ProxiedCallee()


@pytest.fixture
async def process(callee: ProxiedCallee) -> AsyncGenerator[Process]:
    async with callee.serving() as process:
        yield process


@pytest.fixture
async def proxies() -> AsyncGenerator[Proxies]:
    async with Proxies(TOPOLOGY, seed="1") as proxies:
        yield proxies


@pytest.fixture
def edge(proxies: Proxies, process: Process) -> Edge:
    proxies.point_at([process])
    return proxies.edge("caller", "callee")


@pytest.fixture(params=["http", "grpc"])
async def call(request: pytest.FixtureRequest, proxies: Proxies) -> AsyncGenerator[Call]:
    """A caller of each protocol."""
    edge = proxies.edge("caller", "callee")
    assert edge.http_address is not None
    assert edge.grpc_address is not None
    async with (
        http_caller(edge.http_address)
        if request.param == "http"
        else grpc_caller(edge.grpc_address) as call
    ):
        yield call


async def counted(edge: Edge, what: str) -> None:
    async def look() -> bool:
        return edge.counts[what] > 0

    await eventually(look, f"{what} has happened")


async def arrived(callee: ProxiedCallee) -> None:
    async def look() -> bool:
        return len(callee.seen) == 1

    await eventually(look, "the request has arrived")


async def is_held(edge: Edge) -> None:
    async def look() -> bool:
        return edge.held == 1

    await eventually(look, "the request is held")


async def give_up(calling: asyncio.Task[bytes]) -> None:
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling


async def works_again(call: Call) -> None:
    """A call that follows a reset may still fail: gRPC has not noticed yet, or not tried again."""

    async def works() -> bool:
        try:
            return await call(b"x") == b"re: x"
        except BadAnswerError:
            return False

    await eventually(works, "a connection can be made")


class TestWithoutFaults:
    async def test_an_http_request_passes_as_it_is(self, callee: ProxiedCallee, edge: Edge) -> None:
        url = URL(f"http://{edge.http_address}{HTTP_TARGET}", encoded=True)
        headers = {"x-own": "1", "content-type": "text/odd", "accept-encoding": "none"}
        async with (
            aiohttp.ClientSession() as session,
            session.patch(url, data=b"\x00\xff", headers=headers) as answer,
        ):
            assert (answer.status, answer.reason) == (207, "Several")
            assert answer.headers.getall("set-cookie") == ["a=1", "b=2"]
            assert answer.headers["x-own"] == "1"
            assert await answer.read() == b"re: \x00\xff"
        (seen,) = callee.seen
        assert (seen.method, seen.target, seen.body) == ("PATCH", HTTP_TARGET, b"\x00\xff")
        assert headers.items() <= {name.lower(): value for name, value in seen.headers}.items()

    async def test_a_grpc_call_passes_as_it_is(self, callee: ProxiedCallee, edge: Edge) -> None:
        sent = (("x-own", "1"), ("twice", "a"), ("twice", "b"), ("facts-bin", b"\x00\xff"))
        async with open_channel([edge.grpc_address or ""]) as channel:
            rpc: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(RPC)
            call = rpc(b"\x00", timeout=20.0, metadata=grpc.aio.Metadata(*sent))
            assert await call == b"re: \x00"
            trailing = tuple(await call.trailing_metadata())
        assert trailing == (("served-by", "callee"), ("facts-bin", b"\x00\xff"))
        (seen,) = callee.seen
        assert (seen.target, seen.body) == (RPC, b"\x00")
        assert tuple(item for item in seen.headers if item[0] != "user-agent") == sent
        assert seen.seconds_left is not None
        # Each hop rounds what is left up, to three digits.
        assert 10.0 < seen.seconds_left < 21.0

    async def test_a_grpc_error_passes_as_it_is(self, callee: ProxiedCallee, edge: Edge) -> None:
        trailing = (("served-by", "callee"), ("grpc-status-details-bin", b"\x08\x06"))
        callee.refusal = (grpc.StatusCode.ALREADY_EXISTS, "There is a „Crème“.", trailing)
        async with open_channel([edge.grpc_address or ""]) as channel:
            rpc: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(RPC)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await rpc(b"", timeout=3.0)
        assert refused.value.code() is grpc.StatusCode.ALREADY_EXISTS
        assert refused.value.details() == "There is a „Crème“."
        assert tuple(refused.value.trailing_metadata()) == trailing

    async def test_who_gives_up_is_not_waited_for(
        self, callee: ProxiedCallee, edge: Edge, call: Call
    ) -> None:
        callee.work = asyncio.Event().wait
        calling = asyncio.create_task(call())
        await arrived(callee)
        await give_up(calling)

        async def callee_knows() -> bool:
            return callee.given_up == 1

        await eventually(callee_knows, "the callee knows")

    async def test_nobody_is_there_before_it_knows_where(self, call: Call) -> None:
        with pytest.raises(BadAnswerError, match=r"503|UNAVAILABLE"):
            await call()

    async def test_one_that_refuses_is_passed_over(
        self, proxies: Proxies, process: Process, callee: ProxiedCallee, call: Call
    ) -> None:
        gone = process.model_copy(
            update={"url": f"http://127.0.0.1:{free_port()}", "grpc_port": free_port()}
        )
        proxies.point_at([gone, process])
        for _ in range(4):
            await call()
        assert len(callee.seen) == 4


class TestRequests:
    async def test_are_refused(self, callee: ProxiedCallee, edge: Edge, call: Call) -> None:
        edge.faults = Faults(error=1.0)
        said: set[str] = set()
        for _ in range(12):
            with pytest.raises(BadAnswerError) as refused:
                await call()
            said.add(str(refused.value))
        assert said in ({"500", "503"}, {"INTERNAL", "UNAVAILABLE"})
        assert callee.seen == []
        assert edge.counts == {Fault.ERROR: 12}

    async def test_lose_their_answer(self, callee: ProxiedCallee, edge: Edge, call: Call) -> None:
        edge.faults = Faults(lost_reply=1.0)
        with pytest.raises(BadAnswerError, match=r"broken|UNAVAILABLE"):
            await call()
        assert len(callee.seen) == 1
        assert edge.counts == {FORWARDED: 1, Fault.LOST_REPLY: 1}

    async def test_arrive_twice(self, callee: ProxiedCallee, edge: Edge, call: Call) -> None:
        edge.faults = Faults(duplicate=1.0, duplicate_seconds=LONG_SECONDS)
        for _ in range(8):
            assert await call(b"x") == b"re: x"
        assert len(callee.seen) >= 8
        assert len(callee.seen) < 16, "some copies come later"

        edge.heal()
        await edge.drained()
        assert [seen.body for seen in callee.seen] == [b"x"] * 16
        assert edge.counts == {FORWARDED: 16, Fault.DUPLICATE: 8}

    async def test_arrive_when_their_caller_has_gone(
        self, callee: ProxiedCallee, edge: Edge, call: Call
    ) -> None:
        edge.faults = Faults(late=1.0, late_seconds=LONG_SECONDS)
        calling = asyncio.create_task(call(b"x"))
        await is_held(edge)
        await give_up(calling)
        await counted(edge, Fault.LATE)
        assert callee.seen == []

        edge.heal()
        await edge.drained()
        assert [seen.body for seen in callee.seen] == [b"x"]
        assert edge.counts == {FORWARDED: 1, Fault.LATE: 1}

    async def test_arrive_late_by_themselves(
        self, callee: ProxiedCallee, edge: Edge, call: Call
    ) -> None:
        edge.faults = Faults(late=1.0, late_seconds=0.05)
        calling = asyncio.create_task(call())
        await is_held(edge)
        await give_up(calling)
        await arrived(callee)

    @pytest.mark.parametrize(
        "faults", [Faults(late=1.0), Faults(delay=1.0, delay_seconds=LONG_SECONDS)]
    )
    async def test_are_let_go_when_all_is_healed(
        self, callee: ProxiedCallee, edge: Edge, call: Call, faults: Faults
    ) -> None:
        edge.faults = faults
        calling = asyncio.create_task(call(b"x"))
        await is_held(edge)
        assert callee.seen == []

        edge.heal()
        assert await calling == b"re: x"
        await edge.drained()
        assert (len(callee.seen), edge.held) == (1, 0)

    async def test_pass_again_when_the_faults_are_taken_away(self, edge: Edge, call: Call) -> None:
        edge.faults = Faults(error=1.0)
        with pytest.raises(BadAnswerError):
            await call()
        edge.faults = NO_FAULTS
        await call()

    def test_meet_each_fault_as_often_as_is_said_and_the_same_for_a_seed(self) -> None:
        faults = Faults(delay=0.05, error=0.1, lost_reply=0.15, duplicate=0.2, late=0.25)

        def drawn() -> list[Fault | None]:
            dice = random.Random("1")
            return [faults.draw(dice) for _ in range(20_000)]

        counts = Counter(drawn())
        assert drawn() == drawn()
        assert [round(counts[fault] / 20_000, 2) for fault in (*Fault, None)] == [
            pytest.approx(share, abs=0.011) for share in (0.05, 0.1, 0.15, 0.2, 0.25, 0.25)
        ]

    @pytest.mark.parametrize("shares", [{"delay": 0.6, "late": 0.6}, {"error": -0.1}])
    def test_cannot_meet_what_is_no_share(self, shares: dict[str, float]) -> None:
        with pytest.raises(ValueError, match="no shares of all requests"):
            Faults(**shares)


class TestConnections:
    async def test_are_reset(self, callee: ProxiedCallee, edge: Edge, call: Call) -> None:
        answering = asyncio.Event()
        callee.work = answering.wait
        calling = asyncio.create_task(call())
        await arrived(callee)

        edge.tcp.reset_connections()
        with pytest.raises(BadAnswerError, match=r"broken|UNAVAILABLE"):
            await calling
        assert edge.counts[TcpFault.RESET] == 1

        answering.set()
        await works_again(call)

    async def test_are_reset_as_soon_as_they_are_made(self, edge: Edge, call: Call) -> None:
        edge.tcp.resets_new = True
        with pytest.raises(BadAnswerError, match=r"broken|UNAVAILABLE"):
            await call()
        assert edge.counts[TcpFault.RESET] > 0

        edge.heal()
        await works_again(call)

    async def test_end_with_a_rst(self, edge: Edge) -> None:
        edge.tcp.resets_new = True
        host, _, port = (edge.http_address or "").partition(":")
        loop = asyncio.get_running_loop()
        with socket.socket() as connection:
            connection.setblocking(False)
            await loop.sock_connect(connection, (host, int(port)))
            with pytest.raises(ConnectionResetError):
                await loop.sock_recv(connection, 1)

    async def test_become_a_black_hole(self, callee: ProxiedCallee, edge: Edge, call: Call) -> None:
        await call(b"before")
        edge.tcp.black_hole = True
        with pytest.raises(TimeoutError):
            await call(timeout_seconds=0.1)
        calling = asyncio.create_task(call(b"waiting"))
        await counted(edge, TcpFault.BLACK_HOLE)
        assert [seen.body for seen in callee.seen] == [b"before"]

        edge.tcp.black_hole = False
        assert await calling == b"re: waiting"

    async def test_become_slow(self, edge: Edge, call: Call) -> None:
        await call()
        edge.tcp.delay_seconds = 0.05
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await call(b"x") == b"re: x"
        assert loop.time() - began >= 2 * 0.05, "there and back"
        assert edge.counts[TcpFault.SLOW] >= 2

    async def test_keep_the_order_when_the_delay_changes(self, edge: Edge, call: Call) -> None:
        body = random.Random("1").randbytes(900_000)  # many pieces
        edge.tcp.delay_seconds = 0.05
        calling = asyncio.create_task(call(body))
        await counted(edge, TcpFault.SLOW)
        edge.tcp.delay_seconds = 0.0
        assert await calling == b"re: " + body

    async def test_break_when_the_callee_breaks_them(
        self, proxies: Proxies, process: Process, call: Call
    ) -> None:
        async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()
            await writer.wait_closed()

        async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
            port: int = server.sockets[0].getsockname()[1]
            proxies.point_at(
                [process.model_copy(update={"url": f"http://127.0.0.1:{port}", "grpc_port": port})]
            )
            with pytest.raises(BadAnswerError, match=r"broken|UNAVAILABLE"):
                await call()


class TestShop:
    async def test_every_declared_edge_has_a_proxy(self) -> None:
        topology = load_topology()
        async with Proxies(topology, seed="1") as proxies:
            environment = proxies.environment()
        declared = {
            (caller, setting, edge.callee)
            for caller, service in topology.services.items()
            for edge in service.calls
            for setting, calls in (("HTTP_ADDRESSES", edge.http), ("GRPC_ADDRESSES", edge.grpc))
            if calls
        }
        gateway = {
            ("frontend", "HTTP_ADDRESSES", name)
            for name, service in topology.services.items()
            if service.public and name != "frontend"
        }
        proxied = {
            (caller, setting, callee)
            for caller, settings in environment.items()
            for setting in ("HTTP_ADDRESSES", "GRPC_ADDRESSES")
            for callee in json.loads(settings[setting])
        }
        assert proxied == declared | gateway | {("payment", "HTTP_ADDRESSES", "stripe")}
        assert environment["payment"]["STRIPE_API_BASE"].startswith("http://127.0.0.1:")

    async def test_a_purchase_passes_through_the_proxies(self, tmp_path: Path) -> None:
        async with Proxies(load_topology(), seed="1") as proxies, aiohttp.ClientSession() as http:
            async with Shop(
                tmp_path, "--replicas", "payment=2", own_environment=proxies.environment()
            ) as shop:
                proxies.point_at(shop.processes())
                customer = await Customer.register(Client(http, proxies.url))
                await customer.bought({"oak-serving-board": 1})

                async def is_told() -> bool:
                    return bool(await customer.inbox())

                await eventually(is_told, "the customer is told")

            passed = {
                (edge.caller, edge.callee): edge.counts[FORWARDED]
                for edge in proxies.edges
                if edge.counts[FORWARDED]
            }
            assert {callee for caller, callee in passed if caller == "order"} == {
                edge.callee for edge in load_topology().service("order").calls
            }
            assert {("people", "frontend"), ("auth", "user"), ("payment", "stripe")} <= set(passed)
            assert set(proxies.counts) == {FORWARDED}, "nothing went wrong"
