"""The shop in Linkerd."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar

from tests.mesh.meshed import SETTLE_SECONDS, Layer, Mesh, Namespaced, Outcome, SickPod
from tests.testkit.cluster import ROOT, run
from tests.testkit.matrix import TOPOLOGY, Operation, is_declared
from tests.testkit.waiting import wait_until
from tools.kind import LINKERDS_ROUTES

BASE = ROOT / "mesh/linkerd/base"
_AUDIT = ROOT / "mesh/linkerd/audit"
# Linkerd lets everybody ask a pod how it is: the kubelet has no certificate.
PROBES = frozenset({("GET", "/livez"), ("GET", "/readyz")})
_IN_A_ROW = 7  # failures, then a pod is left alone
_FAILURE_ACCRUAL = "balancer.linkerd.io/failure-accrual"


class LinkerdMesh(Mesh):
    """Linkerd's own proxies, and Traefik with one of them."""

    name = "linkerd"
    proxy = "linkerd-proxy"
    way_in = Namespaced("shop-ingress", "traefik")
    entry = (BASE / "gateway.yaml", ROOT / "mesh/gateway-api/ingress")
    verifies_users = False
    egress_is_by_workload = False
    refuses_silently = "the network"  # which the proxy does not tell
    catalogue_routes = (
        "httproute/product-service-repeatable",
        "httproute/product-service-undeclared",
        "grpcroute/product-service-repeatable-2000ms",
        "grpcroute/product-service-undeclared",
    )
    partner: ClassVar[Mapping[str, Any]] = {
        "method": "GET",
        "url": "http://203.0.113.7/livez",  # of a network for documentation, RFC 5737
        "headers": {"host": "carrier.example.com"},
    }
    first_span = "traefik"

    @classmethod
    def is_installed(cls) -> bool:
        there = run("kubectl", "get", "deployments", "-A", "-o", "name").split()
        return {"deployment.apps/linkerd-destination", "deployment.apps/traefik"} <= set(there)

    def close(self) -> None:
        for part in (("--selector", "meshmart/step=servers"), ()):
            run("kubectl", "apply", "-k", str(_AUDIT), *part)
            self.namespace.kubectl("wait", *LINKERDS_ROUTES)
        self.apply(BASE)
        self._start_anew("deny")

    def open(self) -> None:
        self._start_anew("all-unauthenticated")
        self.apply(_AUDIT)
        for name in ("servers", "authorization", "callers"):  # the others refuse nobody
            self.delete(BASE / f"{name}.yaml")

    def _start_anew(self, policy: str) -> None:
        """Makes the pods anew with a default policy, and waits until the old ones are gone."""
        self.release.upgrade(f"linkerd.defaultInboundPolicy={policy}")

        def nobody_leaves() -> bool:
            pods = self.namespace.objects("pods", "app.kubernetes.io/part-of=meshmart")
            return not any("deletionTimestamp" in pod["metadata"] for pod in pods)

        wait_until(nobody_leaves, "the old pods are gone", SETTLE_SECONDS)

    def allows(self, caller: str, operation: Operation, *, user: bool) -> bool:
        return is_declared(caller, operation) or _is_probe(operation)

    def first_to_refuse(self, caller: str, operation: Operation) -> Layer | None:
        """To the network all proxies speak with each other, on one port."""
        return None if self.allows(caller, operation, user=True) else "the mesh"

    def answer_to_outsiders(self, operation: Operation) -> Outcome:
        return "answered" if _is_probe(operation) else "denied"

    def callees_judge_alone(self) -> AbstractContextManager[None]:
        """A caller's proxy refuses nothing. It would leave a pod alone that has denied seven RPCs
        in a row, but none that is the only one of its service.
        """
        return nullcontext()

    @contextmanager
    def nobody_asks_for_stock(self) -> Generator[None]:
        """A route that nobody is authorized for."""
        policy = "authorizationpolicy.policy.linkerd.io/inventory-service-grpc-for-frontend-product"
        self.namespace.kubectl("delete", policy)
        try:
            yield
        finally:
            self.apply(BASE)

    @contextmanager
    def sick_payment_pod(self) -> Generator[SickPod]:
        """The scenario's own, mesh/linkerd/faulty, and the annotation of which its text speaks."""
        annotate = ("annotate", "service", "payment-service")
        self.namespace.kubectl(*annotate, f"{_FAILURE_ACCRUAL}=consecutive")
        try:
            yield _FaultyPod(self)
        finally:
            self.namespace.kubectl(*annotate, f"{_FAILURE_ACCRUAL}-")

    def counts_answers(self) -> bool:
        return True

    def lead_to_echo(self) -> None:
        """By a route with the filters of the shop's own."""
        (filters,) = {
            json.dumps(rule["filters"])
            for rule in self.namespace.object("httproute", "shop")["spec"]["rules"]
        }
        route = {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": "echo", "namespace": self.namespace.name},
            "spec": {
                "parentRefs": [{"name": "echo"}],
                "rules": [
                    {
                        "filters": json.loads(filters),
                        "backendRefs": [{"name": "echo", "port": 8000}],
                    }
                ],
            },
        }
        self.namespace.kubectl("apply", "-f", "-", given=json.dumps(route))

    def span_service(self, workload: str) -> str:
        return workload

    def words_of_a_refusal(self, workload: str, path: str) -> Iterator[str]:
        yield from ("Request denied", f"{workload}-http", f"default.{self.namespace.name}.")


@dataclass(slots=True)
class _FaultyPod:
    mesh: LinkerdMesh
    failed: list[int] = field(default_factory=lambda: [0])

    def is_left_alone(self) -> bool:
        """It has failed requests, and not one more since it was looked at."""
        self.failed.append(self._count("failed"))
        return self.failed[-1] >= _IN_A_ROW and self.failed[-1] == self.failed[-2]

    def recover(self) -> None:
        faulty = ("deployment/faulty", "-c", "faulty")
        self.mesh.namespace.kubectl("exec", *faulty, "--", "touch", "/tmp/well")  # noqa: S108  in its container

    def is_asked_again(self) -> bool:
        return self._count("sent on") > 0

    def _count(self, what: str) -> int:
        log = self.mesh.namespace.kubectl("logs", "deployment/faulty", "-c", "faulty")
        return sum(line.startswith(f"{what} /meshmart.payment") for line in log.splitlines())


def _is_probe(operation: Operation) -> bool:
    """Where there is an internal port the kubelet asks there, and nobody on this one."""
    has_internal = TOPOLOGY.services[operation.callee].internal_port is not None
    return (operation.verb, operation.path) in PROBES and not has_internal
