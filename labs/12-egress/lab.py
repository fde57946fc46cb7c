"""Egress that was opened for one partner, and leads everywhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from labs.finding import Finding, judged, wrong
from labs.lab import Lab, MeshedExercise
from labs.meshed import MeshedShop, Probed

# Of a network for documentation (RFC 5737): Linkerd goes by the host that a request names.
_OUTSIDE = "http://203.0.113.7/livez"
_CARRIER, _ELSEWHERE = "carrier.example.com", "elsewhere.example.com"
_ELSE = "elsewhere.example.net"

Request = Mapping[str, Any]


class Egress(MeshedExercise):
    """shipping may call the carrier; Stripe's sandbox answers at both addresses."""

    async def check(self, shop: MeshedShop) -> AsyncIterator[Finding]:
        for workload in ("shipping-service", "product-service"):
            if not await shop.pods(workload):
                yield wrong(
                    f"{workload} has no ready pod, so this check cannot send its requests",
                    f"kubectl -n {shop.where.namespace} get pods",
                )
                return
        carrier, *elsewhere = _requests(shop)
        partner, *leaks = await shop.probe(
            "deployment/shipping-service", "shipping", [carrier, *elsewhere]
        )
        yield judged(
            partner.outcome == "answered",
            "shipping reaches the carrier",
            f"shipping does not reach the carrier ({partner.detail[:60]})",
            f"{_rule(shop)}: which hosts may it reach?",
        )
        reached = _reached(elsewhere, leaks)
        yield judged(
            not reached,
            "shipping reaches nobody else outside",
            f"shipping reaches {reached}, too, which no rule lists",
            f"{_rule(shop)}: what happens to requests for other hosts?",
        )
        yield await _others(shop, carrier, elsewhere)
        async with shop.visitor() as visitor:
            order = await visitor.insist()
            yield judged(
                order.status == 201,
                "a customer can buy: payment reaches Stripe",
                f"a customer cannot buy (the answer is {order.status}): does payment reach Stripe?",
                f"{_rule(shop)}: what is closed that must be open?",
            )
            if order.status == 201:
                await visitor.cancel(order.body["order_id"])
        yield await shop.audit()


async def _others(shop: MeshedShop, carrier: Request, elsewhere: Sequence[Request]) -> Finding:
    """Whether a service that has no partner reaches anybody. Linkerd's rule about a host is the
    same for all services of the namespace, so there the carrier is not asked.
    """
    asked = [carrier, *elsewhere] if shop.mesh == "istio" else elsewhere
    probed = await shop.probe("deployment/product-service", "product", asked)
    reached = _reached(asked, probed)
    return judged(
        not reached,
        "product, which has no partner outside, reaches nobody there",
        f"product reaches {reached}, and must reach nobody outside",
        f"{_rule(shop)}: which services does it apply to?",
    )


def _reached(asked: Sequence[Request], probed: Sequence[Probed]) -> str:
    """The hosts that have answered."""
    return " and ".join(
        _name(request)
        for request, each in zip(asked, probed, strict=True)
        if each.outcome == "answered"
    )


def _requests(shop: MeshedShop) -> Sequence[Request]:
    """To the carrier first; then to others, of which a rule may have closed one by its name."""
    if shop.mesh == "istio":
        sandbox = f"stripe-sandbox.{shop.where.stripe_namespace}.svc.cluster.local"
        url = f"http://{sandbox}:12111/livez"
        return (
            {"method": "GET", "url": f"http://{_CARRIER}/livez"},
            {"method": "GET", "url": url},
            {"method": "GET", "url": url, "headers": {"host": _ELSEWHERE}},
        )
    return tuple(
        {"method": "GET", "url": _OUTSIDE, "headers": {"host": host}}
        for host in (_CARRIER, _ELSEWHERE, _ELSE)
    )


def _name(request: Request) -> str:
    """The host that a request names."""
    host: str = request.get("headers", {}).get("host") or request["url"].split("/")[2]
    return host


def _rule(shop: MeshedShop) -> str:
    get = f"kubectl -n {shop.where.namespace} get"
    if shop.mesh == "istio":
        return f"{get} sidecars,serviceentries -o yaml"
    return f"{get} egressnetworks.policy.linkerd.io,httproute/carrier -o yaml"


HERE = Path(__file__).parent

LAB = Lab(
    HERE,
    meshed=Egress(HERE),
    hints=(
        "shipping reaches the carrier, and also an address that no rule lists. A rule for one host "
        "protects only if all other hosts are refused.",
        {
            "istio": "sidecar/shipping-service lists hosts, and says in `outboundTrafficPolicy` "
            "what happens to requests for others. Compare it with another service's Sidecar.",
            "linkerd": "httproute/carrier is attached to the EgressNetwork, which denies requests "
            "that match no route. Which hosts does this route match?",
        },
        {
            "istio": "outboundTrafficPolicy: {mode: REGISTRY_ONLY} in sidecar/shipping-service, "
            "with ./carrier.example.com among its hosts, as in "
            "mesh/istio/scenarios/14-egress-lockdown/partner.yaml.",
            "linkerd": "hostnames: [carrier.example.com] in httproute/carrier, as in "
            "mesh/linkerd/scenarios/14-egress-lockdown/partner.yaml.",
        },
    ),
)
