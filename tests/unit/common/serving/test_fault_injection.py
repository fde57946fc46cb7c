"""Faults for a demonstration: what they do to requests, and whom they leave alone."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import grpc
import grpc.aio
import pytest
from fastapi import APIRouter
from grpc_health.v1 import health_pb2
from structlog.testing import capture_logs

from services.common.call_record import HEADER
from services.common.calls.grpc_client import GrpcEdge, open_channel
from services.common.context import background
from services.common.errors import ConfigurationError, Kind, ShopError
from services.common.serving.fault_injection import InjectedFaults
from services.common.serving.host import Host, hosting
from services.common.settings import ProcessSettings, read_settings
from services.pb import inventory_pb2 as pb
from services.pb import inventory_pb2_grpc
from tests.unit.common.kit import (
    COMMIT,
    EDGE,
    RESERVE,
    TOPOLOGY,
    call_tools,
    process_settings,
    serving,
    serving_grpc,
)

FULL_NAME = pb.DESCRIPTOR.services_by_name["InventoryService"].full_name
THINGS, OTHERS = "GET /things/{thing}", "GET /others"


class QuickInventory(inventory_pb2_grpc.InventoryServiceServicer):
    async def Reserve(self, request: pb.ReserveRequest, context: Any) -> pb.ReserveResponse:
        return pb.ReserveResponse()

    async def Commit(self, request: pb.CommitRequest, context: Any) -> pb.CommitResponse:
        return pb.CommitResponse()

    async def GetStock(self, request: pb.GetStockRequest, context: Any) -> pb.GetStockResponse:
        raise NotImplementedError

    async def Release(self, request: pb.ReleaseRequest, context: Any) -> pb.ReleaseResponse:
        raise NotImplementedError


async def wire(host: Host) -> None:
    router = APIRouter()

    @router.get("/things/{thing}")
    async def get_thing(thing: str) -> str:
        return thing

    @router.get("/others")
    async def get_others() -> str:
        return "others"

    host.serve_http(router)
    host.serve_grpc(
        inventory_pb2_grpc.add_InventoryServiceServicer_to_server, QuickInventory(), FULL_NAME
    )


class TestHttp:
    async def test_a_failure_is_a_problem_that_says_what_it_is(
        self, http: aiohttp.ClientSession
    ) -> None:
        async with serving(wire, fault_error_share=1.0) as running:
            async with http.get(f"{running.url}/things/lamp") as answer:
                problem = await answer.json()
            metrics = running.host.metrics.exposition().decode()

        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert problem["code"] == "demonstration-fault"
        assert "for a demonstration" in problem["detail"]
        assert HEADER in answer.headers
        assert f'operation="{THINGS}",protocol="http",status="503"' in metrics

    async def test_probes_and_metrics_are_left_alone(self, http: aiohttp.ClientSession) -> None:
        async with serving(
            wire, fault_error_share=1.0, fault_latency_seconds=9.0, serve_recent=True
        ) as running:
            for path in ("/livez", "/readyz", "/metrics", "/recent?seconds=60"):
                async with asyncio.timeout(5), http.get(running.url + path) as answer:
                    assert answer.status == 200

    async def test_answers_are_slower(self, http: aiohttp.ClientSession) -> None:
        async with serving(wire, fault_latency_seconds=0.2) as running:
            began = time.monotonic()
            async with http.get(f"{running.url}/things/lamp") as answer:
                assert answer.status == 200
            assert time.monotonic() - began >= 0.2

    async def test_other_operations_are_left_alone(self, http: aiohttp.ClientSession) -> None:
        async with serving(wire, fault_error_share=1.0, fault_operations=(THINGS,)) as running:
            async with http.get(f"{running.url}/others") as answer:
                assert answer.status == 200
            async with http.head(f"{running.url}/things/lamp") as answer:
                assert answer.status == 503


class TestGrpc:
    async def test_fails_as_an_outage_with_its_code(self) -> None:
        async with (
            serving_grpc(
                wire, fault_error_share=1.0, fault_operations=("InventoryService/Reserve",)
            ) as running,
            open_channel([running.grpc_address]) as channel,
        ):
            edge = GrpcEdge(EDGE, channel, call_tools())
            reserve = edge.rpc(RESERVE, pb.ReserveRequest, pb.ReserveResponse)
            commit = edge.rpc(COMMIT, pb.CommitRequest, pb.CommitResponse)
            with background(5.0):
                with pytest.raises(ShopError) as failed:
                    await reserve(pb.ReserveRequest())
                await commit(pb.CommitRequest())
        assert (failed.value.kind, failed.value.code) == (Kind.UNAVAILABLE, "demonstration-fault")

    async def test_health_is_left_alone(self) -> None:
        async with (
            serving_grpc(wire, fault_error_share=1.0, fault_latency_seconds=9.0) as running,
            grpc.aio.insecure_channel(running.grpc_address) as channel,
        ):
            check = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            answer = await check(health_pb2.HealthCheckRequest(), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


class TestFaultSettings:
    def test_without_any_there_are_none(self) -> None:
        assert InjectedFaults.of(process_settings()) is None

    async def test_without_any_no_route_depends_on_them(self) -> None:
        async def dependencies(**settings: Any) -> int:
            process = process_settings(**settings)
            async with hosting("callee", wire, topology=TOPOLOGY, process=process) as host:
                found: list[int] = []
                host.app_setup(lambda app: found.append(len(app.router.dependencies)))
                return found[0]

        assert await dependencies(fault_latency_seconds=0.1) == await dependencies() + 1

    async def test_the_log_warns_of_them(self) -> None:
        with capture_logs() as logs:
            async with serving(wire, fault_error_share=0.2):
                pass
        (warning,) = [one for one in logs if one["event"] == "faults.on"]
        assert warning["log_level"] == "warning"
        assert (warning["error_share"], warning["operations"]) == (0.2, "all")

    async def test_an_operation_that_is_not_served_is_refused(self) -> None:
        with pytest.raises(ConfigurationError) as refused:
            async with serving(wire, fault_error_share=0.2, fault_operations=("GET /nowhere",)):
                pass
        sentence = str(refused.value)
        assert sentence.startswith("The setting FAULT_OPERATIONS names 'GET /nowhere', which ")
        assert {THINGS, "InventoryService/Reserve"} <= set(
            sentence.removesuffix(".").partition("it serves ")[2].split(", ")
        )

    def test_operations_have_commas_between_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FAULT_OPERATIONS", f"{THINGS}, InventoryService/Reserve,")
        process = read_settings(ProcessSettings)
        assert process.fault_operations == (THINGS, "InventoryService/Reserve")

    def test_the_share_is_that_of_the_requests(self) -> None:
        rolls = iter([0.0, 0.19, 0.2, 0.99])
        faults = InjectedFaults(0.0, 0.2, frozenset(), chance=lambda: next(rolls))

        async def fails() -> bool:
            try:
                await faults.strike(THINGS)
            except ShopError:
                return True
            return False

        async def four() -> list[bool]:
            return [await fails() for _ in range(4)]

        assert asyncio.run(four()) == [True, True, False, False]
