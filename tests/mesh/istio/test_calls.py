"""Envoy has what the base says of each call: time-outs and retries, which are the topology's, and
how requests are spread and bounded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from services.common.topology import GrpcCall, HttpCall
from tests.mesh.istio.mesh import IstioMesh
from tests.testkit.matrix import TOPOLOGY

CALLERS = sorted({caller for caller, _ in TOPOLOGY.edges})


def routes_of(mesh: IstioMesh, caller: str) -> list[Any]:
    """The routes in a caller's Envoy, as it has them now."""
    (pod,) = mesh.release.pods(TOPOLOGY.services[caller].workload)[:1]
    dump = json.loads(mesh.proxy_admin(pod, "config_dump?resource=dynamic_route_configs"))
    return [
        {"port": config["route_config"]["name"], "host": host["name"], **route}
        for config in dump["configs"]
        for host in config["route_config"]["virtual_hosts"]
        for route in host["routes"]
    ]


def found(routes: list[Any], callee: str, call: HttpCall | GrpcCall) -> Iterator[Any]:
    """Those that the call takes."""
    workload = TOPOLOGY.services[callee].workload
    for route in routes:
        if not route["host"].startswith(f"{workload}."):
            continue
        match = route["match"]
        if isinstance(call, GrpcCall):
            if match.get("path") == f"/{call.rpc}":
                yield route
            continue
        methods = [
            header["string_match"].get("exact")
            for header in match.get("headers", ())
            if header["name"] == ":method"
        ]
        path = match.get("path") or match.get("safe_regex", {}).get("regex", "")
        if methods == [call.method] and path == _pattern(call.path):
            yield route


def _pattern(path: str) -> str:
    return "/".join("[^/]+" if part.startswith("{") else part for part in path.split("/"))


@pytest.mark.parametrize("caller", CALLERS)
async def test_envoy_has_what_the_topology_says(mesh: IstioMesh, caller: str) -> None:
    routes = routes_of(mesh, caller)
    for edge in TOPOLOGY.services[caller].calls:
        for call in (*edge.http, *edge.grpc):
            (route,) = found(routes, edge.callee, call)
            action = route["route"]
            assert float(action["timeout"].removesuffix("s")) < call.timeout_ms / 1000, route
            retries = action.get("retry_policy", {}).get("num_retries", 0)
            assert retries == (1 if call.idempotent else 0), route


@pytest.mark.parametrize("caller", CALLERS)
async def test_envoy_spreads_and_bounds_requests(mesh: IstioMesh, caller: str) -> None:
    (pod,) = mesh.release.pods(TOPOLOGY.services[caller].workload)[:1]
    dump = json.loads(mesh.proxy_admin(pod, "config_dump?resource=dynamic_active_clusters"))
    clusters = {each["cluster"]["name"]: each["cluster"] for each in dump["configs"]}
    for edge in TOPOLOGY.services[caller].calls:
        callee = TOPOLOGY.services[edge.callee]
        for port in (callee.http if edge.http else None, callee.grpc if edge.grpc else None):
            if port is None:
                continue
            host = f"{callee.workload}.{TOPOLOGY.namespace}.svc.cluster.local"
            cluster = clusters[f"outbound|{port.service_port}||{host}"]
            assert cluster["lb_policy"] == "LEAST_REQUEST"
            (bounds,) = cluster["circuit_breakers"]["thresholds"]
            assert (bounds["max_connections"], bounds["max_pending_requests"]) == (200, 200)
            assert bounds["retry_budget"]["budget_percent"]["value"] == 20
            ejection = cluster["outlier_detection"]
            assert ejection["consecutive_gateway_failure"] == 10
            assert ejection["max_ejection_percent"] == 50
