"""Payment and MongoDB let everybody of the mesh in, until somebody reads the policies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from labs.errors import CommandFailed
from labs.finding import Finding, judged, right, wrong
from labs.lab import Lab, MeshedExercise
from labs.meshed import MONGODB, MeshedShop, Probed
from services.common.topology import load_topology

_PAYMENT = "payment-service:9000"
_RPCS = ("Authorize", "Capture", "Cancel")
_METRICS: Mapping[str, Any] = {"method": "GET", "url": "http://payment-service:3000/metrics"}
# Those of start/pods, by whom they are called.
_TAKEN_OVER_SHIPPING = "a taken-over shipping"
_PODS: Mapping[str, str] = {
    "a taken-over frontend": "taken-over-frontend",
    _TAKEN_OVER_SHIPPING: "taken-over-shipping",
    "a stranger of the namespace": "intruder",
}


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
                _payments_policy(shop),
            )
            if order.status == 201:
                await visitor.cancel(order.body["order_id"])
        asked = await asyncio.gather(
            *(shop.probe(pod, "shell", _requests()) for pod in _PODS.values())
        )
        for who, (*rpcs, metrics, database) in zip(_PODS, asked, strict=True):
            yield _refused(who, rpcs, "payment's RPCs", _payments_policy(shop))
            yield _refused(who, [metrics], "payment's metrics", _payments_policy(shop))
            if who != _TAKEN_OVER_SHIPPING:  # which keeps a database
                yield _kept_out(shop, who, database)
        yield await _keepers_reach_it(shop)
        yield await shop.audit()


def _requests() -> list[Mapping[str, Any]]:
    rpcs = [f"/meshmart.payment.v1.PaymentService/{name}" for name in _RPCS]
    return [*({"target": _PAYMENT, "rpc": rpc} for rpc in rpcs), _METRICS, MONGODB]


def _refused(who: str, probed: Sequence[Probed], what: str, look: str) -> Finding:
    """Whether the mesh refuses it, and not something on the way there."""
    if any(each.outcome == "answered" for each in probed):
        return wrong(f"{who} gets an answer from {what}", look)
    failed = [each.detail for each in probed if each.outcome == "failed"]
    if failed:
        return wrong(
            f"{who} does not reach payment ({failed[0][:80]}), so this check does not test its "
            "policy",
            "the NetworkPolicies, and whether payment has a pod: start the lab again",
        )
    return right(f"{who} is refused by {what}")


def _kept_out(shop: MeshedShop, who: str, probed: Probed) -> Finding:
    """Whether MongoDB does not answer somebody who keeps no database."""
    return judged(
        probed.outcome != "answered",
        f"MongoDB does not answer {who}",
        f"MongoDB answers {who}, which keeps no database",
        _databases_policy(shop),
    )


async def _keepers_reach_it(shop: MeshedShop) -> Finding:
    """Whether MongoDB answers each service that keeps a database. A service that is connected
    already notices only later that it may not be, so each makes a connection of its own.
    """
    keepers = [
        (name, service.workload)
        for name, service in load_topology().services.items()
        if service.database
    ]

    async def is_answered(name: str, workload: str) -> bool:
        try:
            (greeting,) = await shop.probe(f"deployment/{workload}", name, [MONGODB])
        except CommandFailed:  # it has no pod, or its pod starts again and again
            return False
        return greeting.outcome == "answered"

    answered = await asyncio.gather(*(is_answered(*keeper) for keeper in keepers))
    shut_out = [name for (name, _), is_in in zip(keepers, answered, strict=True) if not is_in]
    return judged(
        not shut_out,
        f"MongoDB answers the {len(keepers)} services that keep a database",
        f"MongoDB does not answer services that keep a database: {', '.join(shut_out)}",
        _databases_policy(shop),
    )


def _databases_policy(shop: MeshedShop) -> str:
    return f"{_policy(shop, 'mongodb')}: who may connect?"


def _payments_policy(shop: MeshedShop) -> str:
    istio = shop.mesh == "istio"
    name = "payment-service" if istio else "payment-service-grpc-for-order"
    return f"{_policy(shop, name)}: who may call?"


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
        "with the commands of README.md. Whom does each line let in?",
        {
            "istio": "An ALLOW policy is a list of rules, and one that matches is enough. What "
            "does payment's second rule say about the caller? And who is in the namespace that "
            "mongodb's policy names?",
            "linkerd": "A policy is as narrow as its MeshTLSAuthentication: `kubectl -n ecommerce "
            "get meshtlsauthentication shop -o yaml`. Which identities match `*`?",
        },
        {
            "istio": "`from` and `to` belong in one rule, with one dash. mongodb names the "
            "principals of the services that keep a database, and no namespace. These are the "
            "services with a Secret NAME-database (`kubectl -n ecommerce get secrets`). A "
            "principal is cluster.local/ns/NAMESPACE/sa/SERVICEACCOUNT, without spiffe://. "
            "mesh/istio/base/authorization.yaml has both policies.",
            "linkerd": "mesh/linkerd/base/callers.yaml has a MeshTLSAuthentication `order`, and "
            "one `mongodb` for the services that keep a database. Name them in "
            "requiredAuthenticationRefs, as mesh/linkerd/base/authorization.yaml does.",
        },
    ),
)
