"""A gateway of the Gateway API, with three mistakes that browsers and log-ins meet."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509

from labs.certificate import is_for, names_of
from labs.errors import CommandFailed
from labs.finding import Finding, judged, right, wrong
from labs.lab import Lab, MeshedExercise
from labs.meshed import MeshedShop
from labs.restoring import LAB_LABEL, gateway_api_gateway
from labs.visitor import CATALOGUE, PAGE, Answer
from labs.waiting import eventually
from tools.certificate import secret, self_signed
from tools.mesh import render

_READY_SECONDS = 90.0
_NOT_PUBLIC = ("/metrics", "/api/payments/x", "/admin")


class TheWayIn(MeshedExercise):
    """Istio: a second gateway, which the Gateway API makes. Linkerd: Traefik, its own way in."""

    async def start(self, shop: MeshedShop) -> None:
        await shop.restore()
        if shop.mesh == "istio":
            await shop.apply_of_mesh("gateway-api")
            await _wait_for_gateway(shop)
        await shop.apply(self._folder / "start" / shop.mesh)
        await _mistake_the_certificate(shop)

    async def solve(self, shop: MeshedShop) -> None:
        if shop.mesh == "istio":
            await shop.apply_of_mesh("gateway-api")
        else:
            await shop.apply_of_mesh("base/gateway.yaml")
            await shop.apply_of_mesh("../gateway-api/ingress")

    async def check(self, shop: MeshedShop) -> AsyncIterator[Finding]:
        gateway = gateway_api_gateway(shop.where)
        try:
            shown = await shop.certificate_at(gateway)
        except CommandFailed as error:
            yield wrong(
                f"this check cannot connect to {gateway.service} in {gateway.namespace} ({error})",
                f"{_gateway(shop)}: does it exist, and do its pods run? Start the lab again",
            )
            return
        yield _certificate(shop, shown)
        async with shop.visitor_at(gateway, "http") as visitor:
            plain = {path: await visitor.send("GET", path) for path in (PAGE, CATALOGUE)}
        served = {
            path: answer.status for path, answer in plain.items() if not _is_sent_on(shop, answer)
        }
        yield judged(
            not served,
            "each request over plain HTTP gets a redirect to https",
            "; ".join(
                f"{path} over plain HTTP gets {status}, and no redirect to https"
                for path, status in served.items()
            ),
            f"{_route(shop)}: to which listeners are the routes attached?",
        )
        async with shop.visitor_at(gateway) as visitor:
            order = await visitor.insist()
            yield judged(
                order.status == 201,
                "a guest can log in and buy over https",
                f"a guest who logs in and buys over https gets {order.status}",
                f"{_route(shop)}: what do its conditions say about its backends?",
            )
            if order.status == 201:
                await visitor.cancel(order.body["order_id"])
            statuses = {path: (await visitor.send("GET", path)).status for path in _NOT_PUBLIC}
        found = {path: status for path, status in statuses.items() if status not in {403, 404}}
        yield judged(
            not found,
            f"{', '.join(_NOT_PUBLIC)} cannot be reached from outside",
            f"paths that are not public are answered from outside: {found}",
            f"{_route(shop)}: which path leads there?",
        )
        yield await shop.audit()


def _is_sent_on(shop: MeshedShop, answer: Answer) -> bool:
    """Whether it leads to the shop itself, over https."""
    to = urlsplit(answer.location)
    return answer.status in {301, 308} and (to.scheme, to.hostname) == ("https", shop.where.host)


def _certificate(shop: MeshedShop, shown: x509.Certificate | None) -> Finding:
    """Whether a browser would take it, if somebody it trusts had signed it."""
    host = shop.where.host
    look = f"{_gateway(shop)}: which Secret do the certificateRefs of the listener https name?"
    if shown is None:
        return wrong("the gateway shows no certificate: the TLS handshake fails", look)
    if not is_for(shown, host):
        names = ", ".join(names_of(shown)) or shown.subject.rfc4514_string()
        return wrong(f"the certificate is for {names}, not for {host}", look)
    is_valid = shown.not_valid_before_utc <= datetime.now(UTC) <= shown.not_valid_after_utc
    if not is_valid:
        return wrong(f"the certificate is valid until {shown.not_valid_after_utc:%Y-%m-%d}", look)
    return right(f"the certificate is for {host}, until {shown.not_valid_after_utc:%Y-%m-%d}")


async def _wait_for_gateway(shop: MeshedShop) -> None:
    """Istio makes a Deployment of each Gateway, a moment after it is there."""
    gateway = gateway_api_gateway(shop.where)
    deployment = f"deployment/{gateway.service}"

    async def is_made() -> bool:
        get = ("get", deployment, "--ignore-not-found", "-o", "name")
        return bool((await shop.kubectl(*get, namespace=gateway.namespace)).strip())

    await eventually(is_made, f"Istio makes {deployment}", _READY_SECONDS, poll_seconds=1)
    await shop.kubectl(
        "rollout", "status", deployment, "--timeout=90s", namespace=gateway.namespace
    )


async def _mistake_the_certificate(shop: MeshedShop) -> None:
    """Makes a certificate for the shop's old name, and has the Gateway show it."""
    namespace, where = gateway_api_gateway(shop.where).namespace, shop.where.namespace
    made: dict[str, Any] = json.loads(
        secret(self_signed(f"old.{shop.where.host}"), namespace, shop=f"{where}-old")
    )
    made["metadata"]["labels"] = {LAB_LABEL: "15", "meshmart/shop": where}
    await shop.kubectl("apply", "-f", "-", given=json.dumps(made), namespace=namespace)
    reference = [{"name": made["metadata"]["name"]}]
    path = f"/spec/listeners/{await _https(shop)}/tls/certificateRefs"
    patch = [{"op": "replace", "path": path, "value": reference}]
    await shop.kubectl(
        *("patch", _GATEWAYS, f"{where}-gateway", "--type", "json", "-p", json.dumps(patch)),
        namespace=namespace,
    )


async def _https(shop: MeshedShop) -> int:
    """Which of the Gateway's listeners has TLS."""
    get = ("get", _GATEWAYS, f"{shop.where.namespace}-gateway", "-o", "json")
    namespace = gateway_api_gateway(shop.where).namespace
    listeners = json.loads(await shop.kubectl(*get, namespace=namespace))["spec"]["listeners"]
    return [each["name"] for each in listeners].index("https")


# Istio has a kind of that name, too.
_GATEWAYS = "gateways.gateway.networking.k8s.io"


def _gateway(shop: MeshedShop) -> str:
    gateway: render.IngressGateway = gateway_api_gateway(shop.where)
    name = f"{shop.where.namespace}-gateway"
    return f"kubectl -n {gateway.namespace} get {_GATEWAYS} {name} -o yaml"


def _route(shop: MeshedShop) -> str:
    return f"kubectl -n {shop.where.namespace} get httproutes shop shop-redirect -o yaml"


HERE = Path(__file__).parent

LAB = Lab(
    HERE,
    meshed=TheWayIn(HERE),
    changes_the_gateway=True,
    hints=(
        "There are three mistakes, each in another field: which certificate the Gateway uses, to "
        "which listeners a route is attached, and to which Service the route leads. `curl -k` "
        "hides the first.",
        "A Gateway names its Secret, an HTTPRoute its listeners (parentRefs) and its Services "
        "(backendRefs). The route's status has what the gateway says about the route: `kubectl -n "
        "ecommerce get httproute shop -o jsonpath='{.status.parents[*].conditions}'`. A route "
        "without sectionName is attached to all listeners of its Gateway.",
        {
            "istio": "In httproute/shop: `sectionName: https` beside the Gateway's name, and "
            "auth-service instead of auth. In the Gateway: the Secret `ecommerce-tls-secret` in "
            "the namespace istio-system, which the ReferenceGrant there allows. All three are "
            "right in mesh/istio/gateway-api.",
            "linkerd": "In httproute/shop: `sectionName: https` beside the Gateway's name, and "
            "auth-service instead of auth. In the Gateway: the Secret `ecommerce-tls-secret`. All "
            "three are right in mesh/linkerd/base/gateway.yaml and mesh/gateway-api/ingress.",
        },
    ),
)
