"""The NetworkPolicies let through what the topology declares, and nothing else.

Some clusters do not enforce them, so what they mean is worked out here, by the rules of
https://kubernetes.io/docs/concepts/services-networking/network-policies/: a connection passes when
the policies of both its ends allow it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from services.common.topology import load_topology
from tests.cluster.test_goldens import HERE
from tests.harness.cluster import Object, render

TOPOLOGY = load_topology()
MONGODB, MONGODB_PORT = "mongodb", 27017
OUTSIDE = "somebody-elses-pod"
_NAME = "app.kubernetes.io/name"

Connection = tuple[str, str, int]


class Policies:
    """All NetworkPolicies of a rendered chart."""

    def __init__(self, manifests: list[Object]) -> None:
        self._specs = [each["spec"] for each in manifests if each["kind"] == "NetworkPolicy"]

    def allow(self, source: str, target: str, port: int) -> bool:
        """Whether a pod of the workload `source` may connect to one of `target`."""
        return self._passes("egress", source, target, port) and self._passes(
            "ingress", target, source, port
        )

    def _passes(self, direction: str, pod: str, peer: str, port: int) -> bool:
        if pod == OUTSIDE:
            return True  # no policy of ours is about it
        of_pod = [
            spec
            for spec in self._specs
            if direction.capitalize() in spec["policyTypes"] and _selects(spec["podSelector"], pod)
        ]
        assert of_pod, "default-deny selects every pod"
        return any(
            _matches(rule, direction, peer, port)
            for spec in of_pod
            for rule in spec.get(direction, ())
        )


def _selects(selector: Mapping[str, Any], pod: str) -> bool:
    labels = selector.get("matchLabels", {})
    assert labels.keys() <= {_NAME}, labels
    return labels.get(_NAME, pod) == pod


def _matches(rule: Mapping[str, Any], direction: str, peer: str, port: int) -> bool:
    ports = [each["port"] for each in rule.get("ports", ())]
    if ports and port not in ports:
        return False
    peers = rule.get("from" if direction == "ingress" else "to")
    if peers is None:
        return True
    return any(
        # The namespaces named are others than the shop's.
        "namespaceSelector" not in each
        and "podSelector" in each
        and peer != OUTSIDE
        and _selects(each["podSelector"], peer)
        for each in peers
    )


def declared(*, serves_api: bool) -> Iterator[Connection]:
    """What must be possible."""
    services = TOPOLOGY.services
    for name, service in services.items():
        for edge in service.calls:
            callee = services[edge.callee]
            if edge.http or (name == "frontend" and serves_api and callee.public):
                yield service.workload, callee.workload, callee.http.port
            if edge.grpc and callee.grpc is not None:
                yield service.workload, callee.workload, callee.grpc.port
        if service.database:
            yield service.workload, MONGODB, MONGODB_PORT
    frontend = services["frontend"]
    for source in (*(service.workload for service in services.values()), MONGODB, OUTSIDE):
        # People come in from anywhere; of the shop's own pods none has a way out to it.
        if source == OUTSIDE:
            yield source, frontend.workload, frontend.http.port


@pytest.mark.parametrize("case", ["default", "istio", "linkerd"])
def test_they_are_the_topology(case: str) -> None:
    values = HERE / "values" / f"{case}.yaml"
    policies = Policies(render("--values", str(values)))
    workloads = [service.workload for service in TOPOLOGY.services.values()]
    possible = {
        (source, target, port)
        for source in (*workloads, MONGODB, OUTSIDE)
        for target in (*workloads, MONGODB)
        for port in (3000, 3001, 9000, MONGODB_PORT)
        if source != target and policies.allow(source, target, port)
    }
    assert possible == set(declared(serves_api=case != "istio"))


def test_without_them_there_are_none() -> None:
    made = render("--set", "networkPolicies.enabled=false")
    assert not [each for each in made if each["kind"] == "NetworkPolicy"]
