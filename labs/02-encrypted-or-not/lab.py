"""Everybody has a proxy, and yet some requests cross the network in plain text."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from labs.errors import CommandFailed
from labs.finding import Finding, judged, right, wrong
from labs.lab import Lab, MeshedExercise
from labs.meshed import MeshedShop, Probed
from labs.outsider import asked_in_plain, let_outsider_in
from labs.visitor import CATALOGUE, Visitor

HERE = Path(__file__).parent
_WIRE = HERE / "wire.py"
_WIRE_SECONDS = 6.0
_PAUSE_SECONDS = 0.2
_SKIPPED = "config.linkerd.io/skip-inbound-ports"
# What aiohttp says of a connection that was not made, or at which nothing came. When a proxy hangs
# up it says something else.
_NOT_REACHED = re.compile(r"(ClientConnector|ConnectionTimeout|SocketTimeout|Timeout)Error\(")


class Wire(NamedTuple):
    """What was to be seen of some requests on the network: see wire.py.

    :ivar statuses: of their answers.
    """

    encrypted: int
    readable: Sequence[str]
    statuses: Counter[int]


class Encrypted(MeshedExercise):
    """Only the mesh is judged, so the network's rules, which keep outsiders away, are off. Of
    product there is one pod, so that all that is asked passes the one wire that is looked at.
    """

    values: ClassVar[Mapping[str, Any]] = {
        "networkPolicies": {"enabled": False},
        "services": {"product": {"variants": {"v2": 0}}},
    }

    async def start(self, shop: MeshedShop) -> None:
        await super().start(shop)
        await let_outsider_in(shop)
        if shop.mesh == "istio":  # who may call whom is another lab's question
            await shop.kubectl("delete", "authorizationpolicies.security.istio.io", "--all")

    async def solve(self, shop: MeshedShop) -> None:
        if shop.mesh == "istio":
            await shop.apply_of_mesh("base/destinations/product")
            await shop.apply_of_mesh("base/mtls.yaml")
            return
        await shop.apply_of_mesh("base/authorization.yaml")
        await shop.take_annotation_off("product-service", _SKIPPED)

    async def check(self, shop: MeshedShop) -> AsyncIterator[Finding]:
        async with shop.visitor() as visitor:
            wire, plain = await asyncio.gather(_wire(shop, visitor), asked_in_plain(shop))
            yield _catalogue(wire.statuses, shop)
            yield _encryption(wire, shop)
            yield _outsider(plain, shop)
            if (await visitor.send("GET", CATALOGUE)).status == 200:
                order = await visitor.insist()
                yield judged(
                    order.status == 201,
                    "a customer can buy",
                    f"a customer cannot buy (the answer is {order.status})",
                    _tls(shop),
                )
                if order.status == 201:
                    await visitor.cancel(order.body["order_id"])
        yield await shop.audit()


async def _wire(shop: MeshedShop, visitor: Visitor) -> Wire:
    """Searches the catalogue for a word for some seconds, and the wire to product for it. Nothing
    is seen where nobody can read along.
    """
    word = uuid.uuid4().hex
    pod = ("exec", "deployment/product-service", "-c", "wire", "--")
    reads = asyncio.create_task(
        shop.kubectl(
            *(*pod, "python", "-c", _WIRE.read_text(encoding="utf-8")), str(_WIRE_SECONDS), word
        )
    )
    statuses: Counter[int] = Counter()
    while True:
        statuses[(await visitor.send("GET", f"{CATALOGUE}&q={word}")).status] += 1
        if reads.done():
            break
        await asyncio.sleep(_PAUSE_SECONDS)
    try:
        seen = json.loads(await reads)
    except CommandFailed:
        return Wire(0, (), statuses)
    return Wire(seen["encrypted"], seen["readable"], statuses)


def _catalogue(statuses: Counter[int], shop: MeshedShop) -> Finding:
    return judged(
        set(statuses) == {200},
        f"{statuses.total()} searches of the catalogue were answered",
        f"searches of the catalogue are answered {_counted(statuses)}, not always 200",
        f"{_tls(shop)} And what does the callee accept?",
    )


def _encryption(wire: Wire, shop: MeshedShop) -> Finding:
    """Whether what people search for can be read on the way to product."""
    if not (wire.encrypted or wire.readable):
        return wrong(
            "no traffic to product was seen, so this check cannot say whether it is encrypted",
            "product's pods: is one running, with the container `wire`? Start the lab again",
        )
    return judged(
        not wire.readable,
        f"what people search for cannot be read on the network: {wire.encrypted} pieces of TLS, "
        "no plain text",
        f"what people search for can be read on the network: {' '.join(wire.readable)[:60]} …",
        _tls(shop),
    )


def _outsider(plain: Mapping[str, Sequence[Probed]] | None, shop: MeshedShop) -> Finding:
    """Whether plain text is served."""
    if plain is None:
        return wrong(
            "the pod outsider does not run, so this check cannot send plain text",
            "the pod outsider: start the lab again",
        )
    if unreached := _named(plain, lambda each: _NOT_REACHED.match(each.detail) is not None):
        return wrong(
            f"the outsider does not reach {unreached}, so this check does not test the mesh",
            "the NetworkPolicies, and whether all pods run: start the lab again",
        )
    if served := _named(plain, lambda each: each.outcome == "answered"):
        return wrong(
            f"the outsider, who has no certificate, is answered in plain text by {served}",
            _plain_text(shop),
        )
    heard = _named(plain, lambda each: each.outcome in {"denied", "refused"})
    if heard and shop.mesh == "istio":
        return wrong(
            f"the outsider is refused, but only after {heard} has read the request in plain text",
            _plain_text(shop),
        )
    does = "reads a request from" if shop.mesh == "istio" else "answers"
    return right(f"none of {len(plain)} services {does} a caller without a certificate")


def _named(plain: Mapping[str, Sequence[Probed]], is_so: Callable[[Probed], bool]) -> str:
    """The services of which it is so for one of their answers."""
    return ", ".join(name for name, answers in plain.items() if any(map(is_so, answers)))


def _counted(statuses: Counter[int]) -> str:
    return " and ".join(f"{count} times {status}" for status, count in sorted(statuses.items()))


def _tls(shop: MeshedShop) -> str:
    """Where it is said whether requests to product are encrypted."""
    get = f"kubectl -n {shop.where.namespace} get"
    if shop.mesh == "istio":
        return f"{get} destinationrule product-service -o yaml: which TLS do its callers use?"
    return f"{get} deployment product-service -o yaml: which of its ports bypass the proxy?"


def _plain_text(shop: MeshedShop) -> str:
    """Where it is said whether plain text is served."""
    get = f"kubectl -n {shop.where.namespace} get"
    if shop.mesh == "istio":
        return f"{get} peerauthentications -o yaml: what do the proxies accept?"
    return (
        f"{get} authorizationpolicies.policy.linkerd.io -o yaml: which require a "
        "NetworkAuthentication, and are not for the kubelet? At a port that bypasses the proxy, "
        "no policy applies"
    )


LAB = Lab(
    HERE,
    meshed=Encrypted(HERE),
    hints=(
        "There are two sides. A caller encrypts or not, and a callee accepts plain text or not. "
        "Each side has its own setting, and both are wrong here.",
        {
            "istio": "A DestinationRule says what callers do, a PeerAuthentication what the "
            "callee accepts: `kubectl -n ecommerce get destinationrules,peerauthentications -o "
            "yaml`, the field `mode`.",
            "linkerd": "Between two proxies everything is encrypted. So look for what bypasses the "
            "proxy: an annotation of product's pods. And look for what requires no certificate: a "
            "policy of inventory.",
        },
        {
            "istio": "First the caller: remove `tls` from destinationrule/product-service. Then "
            "the callee: `mode: STRICT` in peerauthentication/default.",
            "linkerd": "`kubectl -n ecommerce edit deployment product-service`: delete the "
            f"annotation {_SKIPPED}. And inventory-service-grpc-for-frontend-product must name "
            "the MeshTLSAuthentication frontend-product, as mesh/linkerd/base/authorization.yaml "
            "does.",
        },
    ),
)
