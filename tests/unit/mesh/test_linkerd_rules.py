"""Linkerd's policies say what the topology says, by a small model of their meaning, and what they
refer to exists.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import yaml

from tests.testkit.matrix import (
    GATEWAY,
    RPC,
    STRANGER,
    TOPOLOGY,
    Operation,
    is_declared,
    operations,
    sample,
)
from tests.unit.mesh import test_istio_rules as istio
from tests.unit.mesh.linkerd_rules import KUBELET, LinkerdRules
from tools.mesh.__main__ import OBSERVERS

MESH = Path(__file__).parents[3] / "mesh"
BASE = MESH / "linkerd/base"
RULES = LinkerdRules(*(path for path in BASE.glob("*.yaml") if path.stem != "kustomization"))
CALLERS = [*TOPOLOGY.services, GATEWAY, STRANGER]
# The kubelet asks them without a certificate, and so anybody may.
PROBES = {("GET", "/livez"), ("GET", "/readyz")}


def identity_of(caller: str) -> str:
    if caller == GATEWAY:
        return "shop-ingress/traefik"
    workload = caller if caller == STRANGER else TOPOLOGY.services[caller].workload
    return f"{TOPOLOGY.namespace}/{workload}"


def passes(identity: str, operation: Operation) -> bool:
    workload = TOPOLOGY.services[operation.callee].workload
    if operation.verb == RPC:
        return RULES.passes(identity, workload, "grpc", "POST", f"/{operation.path}")
    return RULES.passes(identity, workload, "http", operation.verb, sample(operation.path))


@pytest.mark.parametrize("caller", CALLERS)
def test_the_base_allows_what_is_declared_and_nothing_else(caller: str) -> None:
    for operation in operations():
        if operation.callee != caller and (operation.verb, operation.path) not in PROBES:
            expected = is_declared(caller, operation)
            assert passes(identity_of(caller), operation) == expected, operation


def test_both_meshes_allow_the_same() -> None:
    asked = [
        (caller, operation)
        for caller, operation in product(CALLERS, operations())
        if operation.callee != caller and (operation.verb, operation.path) not in PROBES
    ]
    different = [
        (caller, operation)
        for caller, operation in asked
        if len(
            {
                istio.passes("base", caller, operation, user=True),
                passes(identity_of(caller), operation),
                is_declared(caller, operation),
            }
        )
        != 1
    ]
    print(
        f"Istio's manifests, Linkerd's and the topology: {len(CALLERS)} callers, {len(asked)} "
        f"edges; differences: {len(different)}"
    )
    assert not different


@pytest.mark.parametrize("name", TOPOLOGY.services)
def test_the_kubelet_may_ask_how_a_pod_is_and_nothing_else(name: str) -> None:
    service = TOPOLOGY.services[name]
    asked, other = ("internal", "http") if service.internal_port else ("http", "internal")
    for method, path in PROBES:
        assert RULES.passes(KUBELET, service.workload, asked, method, path)
        if service.internal_port:
            assert not RULES.passes(KUBELET, service.workload, other, method, path)
            assert not RULES.passes(KUBELET, service.workload, asked, "GET", "/metrics")
    if service.grpc is not None:
        health = "/grpc.health.v1.Health/Check"
        is_asked = not service.public
        assert RULES.passes(KUBELET, service.workload, "grpc", "POST", health) == is_asked
    assert not any(
        passes(KUBELET, operation)
        for operation in operations()
        if operation.callee == name and (operation.verb, operation.path) not in PROBES
    )


def test_no_probe_is_a_path_of_the_shop() -> None:
    public = {route.path for each in TOPOLOGY.services.values() for route in each.public}
    assert public.isdisjoint(path for _, path in PROBES)


def test_the_database_takes_those_who_keep_one() -> None:
    for name, service in TOPOLOGY.services.items():
        assert RULES.passes(identity_of(name), "mongodb", "tcp-mongo") == service.database, name
    assert not RULES.passes(KUBELET, "mongodb", "tcp-mongo")


def test_observers_are_whom_the_charts_network_policies_let_in() -> None:
    values = yaml.safe_load((MESH.parent / "helm/values.yaml").read_text(encoding="utf-8"))
    elsewhere = {"istio-system"}  # never in Linkerd
    assert {*OBSERVERS, *elsewhere} == set(values["observability"]["namespaces"])


@pytest.mark.parametrize("name", TOPOLOGY.services)
def test_observers_read_what_is_counted_and_nothing_else(name: str) -> None:
    service = TOPOLOGY.services[name]
    port = "internal" if service.internal_port else "http"
    for namespace in OBSERVERS:
        observer = f"{namespace}/prometheus"
        assert RULES.passes(observer, service.workload, port, "GET", "/metrics")
        assert not RULES.passes(observer, service.workload, port, "GET", "/docs")
        assert not RULES.passes(observer, service.workload, port, "POST", "/metrics")
        assert not any(
            passes(observer, operation)
            for operation in operations()
            if operation.callee == name
            and (operation.verb, operation.path) not in {*PROBES, ("GET", "/metrics")}
        )
    for other in (KUBELET, "elsewhere/prometheus", *map(identity_of, CALLERS)):
        assert not RULES.passes(other, service.workload, port, "GET", "/metrics"), other


@pytest.mark.parametrize("workload", [*(s.workload for s in TOPOLOGY.services.values()), "mongodb"])
def test_a_proxys_own_port_is_for_probes_and_metrics(workload: str) -> None:
    """Of everybody who can connect: a Prometheus without a proxy, and the kubelet."""
    for path in ("/metrics", "/live", "/ready"):
        assert RULES.passes(KUBELET, workload, "linkerd-admin", "GET", path)
    for method, path in (
        ("GET", "/proxy-log-level"),
        ("PUT", "/proxy-log-level"),
        ("POST", "/shutdown"),
    ):
        assert not RULES.passes(KUBELET, workload, "linkerd-admin", method, path)
        assert not RULES.passes("linkerd-viz/prometheus", workload, "linkerd-admin", method, path)


def test_every_reference_resolves() -> None:
    there = {(each["kind"], each["metadata"]["name"]) for each in RULES.objects}
    named = {
        (each["kind"], each["name"])
        for policy in RULES.of_kind("AuthorizationPolicy")
        for each in (policy["spec"]["targetRef"], *policy["spec"]["requiredAuthenticationRefs"])
    }
    named |= {
        (parent["kind"], parent["name"])
        for route in RULES.of_kind("HTTPRoute", "GRPCRoute")
        for parent in route["spec"]["parentRefs"]
        if parent.get("kind", "Gateway") == "Server"
    }
    assert named - there == set()


def test_no_route_is_longer_than_the_gateway_api_takes() -> None:
    for file in MESH.rglob("*.yaml"):
        for document in yaml.safe_load_all(file.read_text(encoding="utf-8")):
            if document and document.get("kind") in {"HTTPRoute", "GRPCRoute"}:
                rules = document.get("spec", {}).get("rules", ())  # a patch may have none
                matches = [len(rule.get("matches", ())) for rule in rules]
                where = f"{file.relative_to(MESH)}: {document['metadata']['name']}"
                assert len(matches) <= 16, where
                assert max(matches, default=0) <= 64, where
                assert sum(matches) <= 128, where


def test_every_server_is_a_port_that_pods_have() -> None:
    ports = {("mongodb", "tcp-mongo"), ("meshmart", "linkerd-admin")}  # of every proxy
    for service in TOPOLOGY.services.values():
        ports.add((service.workload, "http"))
        if service.internal_port is not None:
            ports.add((service.workload, "internal"))
        if service.grpc is not None:
            ports.add((service.workload, "grpc"))
    guarded = [
        (*server["spec"]["podSelector"]["matchLabels"].values(), server["spec"]["port"])
        for server in RULES.of_kind("Server")
    ]
    assert sorted(guarded) == sorted(ports)
    assert {server["spec"]["accessPolicy"] for server in RULES.of_kind("Server")} == {"deny"}


def test_every_route_on_a_service_names_a_port_of_it() -> None:
    ports = {
        (service.workload, port.service_port)
        for service in TOPOLOGY.services.values()
        for port in (service.http, service.grpc)
        if port is not None
    }
    found = {
        (parent["name"], parent["port"])
        for route in RULES.of_kind("HTTPRoute", "GRPCRoute")
        for parent in route["spec"]["parentRefs"]
        if parent.get("kind") == "Service"
    }
    assert found
    assert found <= ports
