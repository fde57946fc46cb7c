"""Istio's AuthorizationPolicies say what the topology says, by a small model of their meaning.

A request passes when a rule of an ALLOW policy of its callee fits; a policy that selects the callee
and has no rules fits none (https://istio.io/latest/docs/reference/config/security/authorization-policy/).
The tests in tests/mesh ask Istio itself the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

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

ISTIO = Path(__file__).parents[3] / "mesh/istio"
GATEWAYS = {
    "base": "cluster.local/ns/istio-system/sa/istio-ingressgateway-service-account",
    "gateway-api": "cluster.local/ns/shop-ingress/sa/ecommerce-gateway-istio",
}
MONGODB = "mongodb"

Rule = Mapping[str, Any]


@cache
def policies(overlay: str) -> list[Any]:
    text = (ISTIO / overlay / "authorization.yaml").read_text(encoding="utf-8")
    found = list(yaml.load_all(text, Loader=yaml.CSafeLoader))
    assert all(policy["metadata"]["namespace"] == TOPOLOGY.namespace for policy in found)
    return found


def rules(overlay: str, workload: str) -> Iterator[Rule]:
    """All that may let a request to a workload pass."""
    for policy in policies(overlay):
        spec = policy["spec"]
        selected = spec.get("selector", {}).get("matchLabels", {}).get("app.kubernetes.io/name")
        if selected in {None, workload}:
            assert spec.get("action", "ALLOW") == "ALLOW"
            yield from spec.get("rules", ())


def fits(rule: Rule, principal: str, port: int, method: str, path: str, *, user: bool) -> bool:
    assert rule.keys() <= {"from", "to"}, rule
    sources = [each["source"] for each in rule.get("from", ())]
    if sources and not any(_is_from(source, principal, user=user) for source in sources):
        return False
    return any(
        str(port) in operation["ports"]
        and method in operation.get("methods", [method])
        and any(_matches(each, path) for each in operation.get("paths", [path]))
        for operation in (each["operation"] for each in rule["to"])
    )


def _is_from(source: Mapping[str, Any], principal: str, *, user: bool) -> bool:
    assert source.keys() <= {"principals", "requestPrincipals"}, source
    return principal in source["principals"] and (user or "requestPrincipals" not in source)


def _matches(template: str, path: str) -> bool:
    pattern = re.escape(template).replace(r"\{\*\*\}", ".*").replace(r"\{\*\}", "[^/]+")
    return re.fullmatch(pattern, path) is not None


def passes(overlay: str, caller: str, operation: Operation, *, user: bool) -> bool:
    callee = TOPOLOGY.services[operation.callee]
    if operation.verb == RPC:
        assert callee.grpc is not None
        port, method, path = callee.grpc.port, "POST", f"/{operation.path}"
    else:
        port, method, path = callee.http.port, operation.verb, sample(operation.path)
    principal = principal_of(caller, overlay)
    return any(
        fits(rule, principal, port, method, path, user=user)
        for rule in rules(overlay, callee.workload)
    )


def principal_of(caller: str, overlay: str = "base") -> str:
    if caller == GATEWAY:
        return GATEWAYS[overlay]
    workload = caller if caller == STRANGER else TOPOLOGY.services[caller].workload
    return f"cluster.local/ns/{TOPOLOGY.namespace}/sa/{workload}"


@pytest.mark.parametrize("caller", [*TOPOLOGY.services, GATEWAY, STRANGER])
def test_the_base_allows_what_is_declared_and_nothing_else(caller: str) -> None:
    for operation in operations():
        if operation.callee == caller:
            continue
        for user in (True, False):
            declared = is_declared(caller, operation) and (user or not operation.needs_user)
            assert passes("base", caller, operation, user=user) == declared, (operation, user)


def test_the_gateway_api_overlay_lets_its_gateway_have_the_same() -> None:
    for operation in operations():
        for user in (True, False):
            expected = TOPOLOGY.public_service(operation.verb, operation.path) is not None and (
                user or not operation.needs_user
            )
            assert passes("gateway-api", GATEWAY, operation, user=user) == expected, operation


def test_the_database_takes_those_who_keep_one() -> None:
    for name, service in TOPOLOGY.services.items():
        found = [
            rule
            for rule in rules("base", MONGODB)
            if fits(rule, principal_of(name), 27017, "", "", user=False)
        ]
        assert bool(found) == service.database, name
        assert not any(
            fits(rule, principal_of(name), 3000, "GET", "/", user=True)
            for rule in rules("base", MONGODB)
        )


def test_all_else_is_denied() -> None:
    (deny,) = (policy for policy in policies("base") if "selector" not in policy["spec"])
    assert deny["spec"] == {}
