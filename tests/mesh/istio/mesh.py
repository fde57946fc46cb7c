"""The shop in Istio."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from tests.mesh.meshed import (
    ECHO_HOST,
    SETTLE_SECONDS,
    Layer,
    Mesh,
    Namespaced,
    Outcome,
    SickPod,
)
from tests.testkit.cluster import ROOT, run
from tests.testkit.matrix import STRANGER, TOPOLOGY, Operation, is_declared
from tests.testkit.waiting import wait_until
from tools.kind import ISTIO_ENTRY
from tools.mesh import render

BASE = ROOT / "mesh/istio/base"
# Applied with Istio itself, and there for every shop of the cluster.
_SHARED = BASE.parent / "shared"
_GET_STOCK = "/meshmart.inventory.v1.InventoryService/GetStock"
_ENTRY = (_SHARED, *(BASE / name for name in ISTIO_ENTRY))


class IstioMesh(Mesh):
    """Sidecars of Envoy, and Istio's ingress gateway."""

    name = "istio"
    proxy = "istio-proxy"
    way_in = Namespaced("istio-system", "istio-ingressgateway")
    namespace_labels = ("istio-injection=enabled",)
    entry = _ENTRY
    verifies_users = True
    egress_is_by_workload = True
    refuses_silently = "the caller's proxy"
    catalogue_routes = ("virtualservice/product-service",)
    echo_port = "https"
    partner: ClassVar[Mapping[str, Any]] = {
        "method": "GET",
        "url": "http://carrier.example.com/livez",
    }
    first_span = "istio-ingressgateway"

    @classmethod
    def is_installed(cls) -> bool:
        return "istiod" in run("kubectl", "get", "deployments", "-n", "istio-system", "-o", "name")

    def close(self) -> None:
        self.apply(BASE)

    def open(self) -> None:
        self.run_steps("kubectl delete -f mesh/istio/base/authorization.yaml")

    def allows(self, caller: str, operation: Operation, *, user: bool) -> bool:
        return is_declared(caller, operation) and (user or not operation.needs_user)

    def first_to_refuse(self, caller: str, operation: Operation) -> Layer | None:
        """A service's own proxy knows only whom the service calls: base/egress.yaml."""
        if caller != STRANGER:
            known = {edge.callee for edge in TOPOLOGY.services[caller].calls}
            if operation.callee not in known:
                return "the caller's proxy"
        return super().first_to_refuse(caller, operation)

    def answer_to_outsiders(self, operation: Operation) -> Outcome:
        return "failed"  # without TLS nobody is listened to

    @contextmanager
    def callees_judge_alone(self) -> Generator[None]:
        """Every proxy knows everybody."""
        self.delete(BASE / "egress.yaml")
        stranger_to = {"method": "GET", "url": "http://payment-service.ecommerce:3000/metrics"}

        def reaches_payment() -> bool:
            return self.probe("deployment/frontend", [stranger_to])[0].outcome == "denied"

        wait_until(reaches_payment, "frontend's proxy knows payment", SETTLE_SECONDS)
        yield
        self.apply(BASE / "egress.yaml")

    @contextmanager
    def nobody_asks_for_stock(self) -> Generator[None]:
        """What one policy denies no other one allows."""
        policy = {
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": {"name": "no-stock", "namespace": self.namespace.name},
            "spec": {
                "selector": {"matchLabels": {"app.kubernetes.io/name": "inventory-service"}},
                "action": "DENY",
                "rules": [{"to": [{"operation": {"ports": ["9000"], "paths": [_GET_STOCK]}}]}],
            },
        }
        self.namespace.kubectl("apply", "-f", "-", given=json.dumps(policy))
        try:
            yield
        finally:
            self.namespace.kubectl("delete", "authorizationpolicy.security.istio.io/no-stock")

    @contextmanager
    def sick_payment_pod(self) -> Generator[SickPod]:
        """A label makes it so: 08-circuit-breaking/sick.yaml."""
        workload = "deployment/payment-service"
        self.namespace.kubectl("scale", workload, "--replicas=2")
        self.namespace.roll_out(workload)
        (order_pod,) = self.release.pods("order-service")
        sick = _LabelledPod(self, self.release.pods("payment-service")[0], order_pod)
        assert not sick.is_left_alone()
        self.namespace.kubectl("label", "pod", sick.name, "sick=true")
        try:
            yield sick
        finally:
            self.namespace.kubectl("scale", workload, "--replicas=1")
            self.namespace.roll_out(workload)

    def counts_answers(self) -> bool:
        """Istio's own build of Envoy does."""
        (pod, *_) = self.release.pods("product-service")
        return "istio_requests_total" in self.proxy_admin(pod, "stats/prometheus")

    def lead_to_echo(self) -> None:
        """It does: manifests.yaml. What is dropped is dropped by the gateway itself, for a host of
        which base/edge.yaml speaks.
        """
        of_echo = render.Shop(namespace="echo", host=ECHO_HOST)
        edge = [each for each in render.rendered(of_echo, "base") if each["kind"] == "EnvoyFilter"]
        run("kubectl", "apply", "-f", "-", given=render.text_of(edge))

    def forget_echos_edge(self) -> None:
        """The echo's host is one of which the gateway's filters do not speak."""
        self._forget_at_the_gateway("envoyfilter/echo-edge-headers")

    def remove(self) -> None:
        super().remove()
        self.delete(_SHARED)
        self._forget_at_the_gateway("envoyfilter/echo-edge-headers", "secret/echo-tls-secret")

    def _forget_at_the_gateway(self, *names: str) -> None:
        run("kubectl", "-n", self.way_in.namespace, "delete", *names, "--ignore-not-found")

    def span_service(self, workload: str) -> str:
        return f"{workload}.{self.namespace.name}"

    def words_of_a_refusal(self, workload: str, path: str) -> Iterator[str]:
        yield from (path, "rbac_access_denied")

    def upstream_hosts(self, pod: str, service: str) -> list[Any]:
        """Whom a pod's Envoy sends requests for a service to, and how it finds them."""
        clusters = json.loads(self.proxy_admin(pod, "clusters?format=json"))["cluster_statuses"]
        return [
            host
            for cluster in clusters
            if cluster["name"].startswith("outbound|") and service in cluster["name"]
            for host in cluster.get("host_statuses", ())
        ]

    def proxy_admin(self, pod: str, path: str, *, method: str = "GET") -> str:
        """What the admin interface of a pod's Envoy says."""
        return self.namespace.kubectl(
            *("exec", pod, "-c", self.proxy, "--", "pilot-agent", "request", method, path)
        )


@dataclass(frozen=True, slots=True)
class _LabelledPod:
    mesh: IstioMesh
    name: str
    order_pod: str

    def is_left_alone(self) -> bool:
        return self._ejected() == 1

    def recover(self) -> None:
        self.mesh.namespace.kubectl("label", "pod", self.name, "sick-")

    def is_asked_again(self) -> bool:
        return self._ejected() == 0

    def _ejected(self) -> int:
        hosts = self.mesh.upstream_hosts(self.order_pod, "9000||payment-service")
        return sum(host["health_status"].get("failed_outlier_check", False) for host in hosts)
