"""Payment and MongoDB let everybody of the mesh in, until somebody reads the policies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from labs.finding import Finding, judged, right, wrong
from labs.lab import Lab, MeshedExercise
from labs.meshed import MeshedShop, Probed

_PAYMENT = "payment-service:9000"
_RPCS = ("Authorize", "Capture", "Cancel")
_METRICS: Mapping[str, Any] = {"method": "GET", "url": "http://payment-service:3000/metrics"}
_MONGODB: Mapping[str, Any] = {"database": "mongodb:27017"}
# Those of start/pods, by the service whose identity they have.
_TAKEN_OVER = {"frontend": "taken-over-frontend", "shipping": "taken-over-shipping"}
_KEEPS_A_DATABASE = {"shipping"}


class WhoMayCallWhom(MeshedExercise):
    """Only the mesh's rules are judged, so the network's, which refuse most of this, are away."""

    # A connection that is open keeps the rules it began with until Istio's proxy has drained it,
    # which may take 45 seconds.
    settle_seconds = 60.0
    values: ClassVar[Mapping[str, Any]] = {"networkPolicies": {"enabled": False}}

    async def solve(self, shop: MeshedShop) -> None:
        await shop.apply_of_mesh("base/authorization.yaml")

    async def check(self, shop: MeshedShop) -> AsyncIterator[Finding]:
        async with shop.visitor() as visitor:
            order = await visitor.insist()
            yield judged(
                order.status == 201,
                "a customer can buy: what is declared is let through",
                f"a customer cannot buy (the answer is {order.status}): what is declared is "
                "refused, too",
                "payment's policy: it has to let order-service in",
            )
            if order.status == 201:
                await visitor.cancel(order.body["order_id"])
        for service, pod in _TAKEN_OVER.items():
            *rpcs, metrics, database = await shop.probe(pod, "shell", _requests())
            yield _refused(service, rpcs, "payment's RPCs", _payments_policy(shop))
            yield _refused(service, [metrics], "payment's metrics", _payments_policy(shop))
            yield _reached(shop, service, database, is_declared=service in _KEEPS_A_DATABASE)
        yield await shop.audit()


def _requests() -> list[Mapping[str, Any]]:
    rpcs = [f"/meshmart.payment.v1.PaymentService/{name}" for name in _RPCS]
    return [*({"target": _PAYMENT, "rpc": rpc} for rpc in rpcs), _METRICS, _MONGODB]


def _refused(service: str, probed: list[Probed], what: str, look: str) -> Finding:
    """Whether the mesh refuses it, and not something on the way there."""
    if any(each.outcome == "answered" for each in probed):
        return wrong(f"a taken-over {service} is answered when it asks for {what}", look)
    failed = [each.detail for each in probed if each.outcome == "failed"]
    if failed:
        return wrong(
            f"a taken-over {service} does not even reach payment ({failed[0][:80]}), so that its "
            "policy is not asked",
            "the NetworkPolicies, and whether payment has a pod: start the lab again",
        )
    return right(f"a taken-over {service} is refused {what}")


def _reached(shop: MeshedShop, service: str, probed: Probed, *, is_declared: bool) -> Finding:
    """Whether MongoDB answers those who keep a database, and nobody else."""
    look = f"{_policy(shop, 'mongodb')}: who may connect?"
    if is_declared:
        return judged(
            probed.outcome == "answered",
            f"MongoDB answers {service}, which keeps a database",
            f"MongoDB does not answer {service}, which keeps a database",
            look,
        )
    return judged(
        probed.outcome != "answered",
        f"MongoDB does not answer a taken-over {service}",
        f"MongoDB answers a taken-over {service}, which keeps no database",
        look,
    )


def _payments_policy(shop: MeshedShop) -> str:
    istio = shop.mesh == "istio"
    return _policy(shop, "payment-service" if istio else "payment-service-grpc-for-order")


def _policy(shop: MeshedShop, name: str) -> str:
    """The command that shows a policy. Both meshes call theirs AuthorizationPolicy."""
    group = "security.istio.io" if shop.mesh == "istio" else "policy.linkerd.io"
    return f"kubectl -n {shop.where.namespace} get authorizationpolicies.{group} {name} -o yaml"


HERE = Path(__file__).parent

LAB = Lab(
    HERE,
    meshed=WhoMayCallWhom(HERE),
    hints=(
        "Two callees let too many in: payment and mongodb. Read the AuthorizationPolicy of each, "
        "as the README shows it, and ask of each line: who is that, here?",
        {
            "istio": "An ALLOW policy is a list of rules, and one that fits is enough. What does "
            "payment's second rule say about who asks? And who has the namespace that mongodb's "
            "names?",
            "linkerd": "A policy is as narrow as its MeshTLSAuthentication: `kubectl get "
            "meshtlsauthentication shop -o yaml`. Which identities fit `*`?",
        },
        {
            "istio": "`from` and `to` belong into one rule, with one dash. mongodb names the "
            "principals of the services that keep a database, and no namespace: "
            "mesh/istio/base/authorization.yaml has both.",
            "linkerd": "base/callers.yaml has a MeshTLSAuthentication `order`, and one `mongodb` "
            "for those that keep a database: name these in requiredAuthenticationRefs, as "
            "mesh/linkerd/base/authorization.yaml does.",
        },
    ),
)
