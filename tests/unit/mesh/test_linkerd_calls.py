"""Linkerd's routes say of each declared call what the topology says: its time-out, and whether it
may be repeated.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.common.topology import GrpcCall, HttpCall
from tests.testkit.matrix import TOPOLOGY
from tests.unit.mesh.linkerd_rules import LinkerdRules

CALLS = Path(__file__).parents[3] / "mesh/linkerd/base/calls.yaml"
RULES = LinkerdRules(CALLS)
EDGES = sorted(TOPOLOGY.edges)


def found(callee: str, call: HttpCall | GrpcCall) -> Iterator[tuple[Any, Any]]:
    """The routes, with the rule in it, that name the call."""
    is_grpc = isinstance(call, GrpcCall)
    for route in RULES.of_kind("GRPCRoute" if is_grpc else "HTTPRoute"):
        (parent,) = route["spec"]["parentRefs"]
        if parent["name"] != TOPOLOGY.services[callee].workload:
            continue
        for rule in route["spec"]["rules"]:
            for match in rule.get("matches", ()):
                if is_grpc:
                    rpc = match["method"]
                    names_it = f"{rpc['service']}/{rpc['method']}" == call.rpc
                else:
                    path = match["path"]["value"].replace("[^/]+", "x")
                    own = "/".join("x" if "{" in part else part for part in call.path.split("/"))
                    names_it = (match["method"], path) == (call.method, own)
                if names_it:
                    yield route, rule


@pytest.mark.parametrize(("caller", "callee"), EDGES)
def test_every_call_has_one_route(caller: str, callee: str) -> None:
    edge = TOPOLOGY.edge(caller, callee)
    for call in (*edge.http, *edge.grpc):
        ((route, rule),) = found(callee, call)
        told = route["metadata"].get("annotations", {})
        limit = rule.get("timeouts", {}).get("request") or told["timeout.linkerd.io/request"]
        longest_ms = max(
            other.timeout_ms
            for _, others in TOPOLOGY.callers_of(callee)
            for other in (*others.http, *others.grpc)
            if other.operation == call.operation
        )
        assert 0.9 * longest_ms < int(limit.removesuffix("ms")) < longest_ms, (call, limit)
        retried = told.get("retry.linkerd.io/grpc") or told.get("retry.linkerd.io/http")
        assert (retried is not None) == call.idempotent, (call, told)


def test_what_nobody_has_declared_reaches_the_callee() -> None:
    for _, callee in EDGES:
        service = TOPOLOGY.services[callee]
        ports = {
            parent["port"]
            for route in RULES.of_kind("HTTPRoute", "GRPCRoute")
            for parent in route["spec"]["parentRefs"]
            if parent["name"] == service.workload and {} in route["spec"]["rules"]
        }
        called = [TOPOLOGY.edge(who, callee) for who, to in EDGES if to == callee]
        expected = {service.http.service_port} if any(edge.http for edge in called) else set[int]()
        if service.grpc is not None and any(edge.grpc for edge in called):
            expected.add(service.grpc.service_port)
        assert ports == expected, callee
