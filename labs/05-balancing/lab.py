"""One of three inventory pods does all the work, since its caller keeps one connection."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from labs.finding import Finding, judged, right, wrong
from labs.lab import Lab, MeshedExercise
from labs.meshed import MeshedShop
from labs.visitor import CATALOGUE, PAGE, Answer, Visitor
from tools.mesh.render import MeshName

HERE = Path(__file__).parent
# Keeps what product sends to other services' gRPC port from its proxy.
_PAST_THE_PROXY: Mapping[MeshName, str] = {
    "istio": "traffic.sidecar.istio.io/excludeOutboundPorts",
    "linkerd": "config.linkerd.io/skip-outbound-ports",
}
_GRPC_PORT = "9000"
_PODS = 3
_REQUESTS, _AT_ONCE = 90, 6
# Both meshes draw two of the pods and take the better one. So even one that always wins gets no
# more than this, but once in 30,000 times.
_DRAWN = 2 / _PODS
_STANDARD_DEVIATIONS = 4
# By chance alone, all these users reach the same one of three pods once in 170,000 times.
_USERS, _PAGES = 12, 3
_COOKIE = "__Host-meshmart-access"


class Balancing(MeshedExercise):
    """What product asks inventory for: the stock, by gRPC."""

    async def start(self, shop: MeshedShop) -> None:
        annotations = {_PAST_THE_PROXY[shop.mesh]: _GRPC_PORT}
        # Another version's pods would have connections of their own.
        product = {
            "pod": {"annotations": annotations},
            "variants": {"v2": 0},
            "environment": {"STOCK_MAX_AGE_SECONDS": "0"},  # each page asks inventory
        }
        await shop.restore({"services": {"inventory": {"replicas": _PODS}, "product": product}})
        await shop.apply(HERE / "start" / shop.mesh)

    async def solve(self, shop: MeshedShop) -> None:
        await shop.take_annotation_off("product-service", _PAST_THE_PROXY[shop.mesh])
        if shop.mesh == "istio":
            await super().solve(shop)
            kinds = "peerauthentications.security.istio.io,authorizationpolicies.security.istio.io"
        else:
            kinds = "authorizationpolicies.policy.linkerd.io"
        await shop.kubectl("delete", kinds, "--selector", "meshmart/lab=05")

    async def check(self, shop: MeshedShop) -> AsyncIterator[Finding]:
        pods = len(await shop.pods("inventory-service"))
        yield judged(
            pods >= _PODS,
            f"ready pods of inventory: {pods}",
            f"ready pods of inventory: {pods}, not {_PODS} or more",
            f"kubectl -n {shop.where.namespace} get pods",
        )
        async with shop.visitor() as visitor:
            yield _spread(await _everybody(visitor), pods, shop)
            if shop.mesh == "istio":
                yield _affinity(await _each_user(visitor), shop)
            order = await visitor.insist()
            yield judged(
                order.status == 201,
                "a customer can buy",
                f"a customer cannot buy (the answer is {order.status})",
                "what you have changed for inventory: order calls it, too",
            )
            if order.status == 201:
                await visitor.cancel(order.body["order_id"])
        yield await shop.audit()


async def _everybody(visitor: Visitor) -> Counter[str]:
    """Which pods tell the stock to people whom nobody knows, some of whom ask at once. By pod;
    where nobody has told it, by nothing.
    """
    seen: Counter[str] = Counter()
    for _ in range(_REQUESTS // _AT_ONCE):
        asked = [visitor.send("GET", CATALOGUE) for _ in range(_AT_ONCE)]
        for answer in await asyncio.gather(*asked):
            seen.update(_pods_of(answer) or [""])
    return seen


async def _each_user(visitor: Visitor) -> Sequence[set[str]]:
    """Which pods tell the stock for the pages of some users, by user; nothing where a user gets no
    token.
    """
    users: list[set[str]] = []
    for _ in range(_USERS):
        guest = {"email": f"{uuid.uuid4().hex}@example.com", "name": "Ada"}
        session = await visitor.send("POST", "/api/auth/guest", json=guest)
        if session.status != 201:
            return ()
        headers = {"cookie": f"{_COOKIE}={session.body['access_token']}"}
        pages = [await visitor.send("GET", PAGE, headers=headers) for _ in range(_PAGES)]
        users.append({pod for page in pages for pod in _pods_of(page) or [""]})
    return users


def _pods_of(answer: Answer) -> list[str]:
    """The inventory pods that were asked for an answer."""
    return [call.instance for call in answer.calls if call.callee == "inventory"]


def _spread(seen: Counter[str], pods: int, shop: MeshedShop) -> Finding:
    """Whether all pods have work."""
    total = seen.total()
    if seen[""]:
        return wrong(
            f"{seen['']} of {total} requests for the stock got no answer",
            "inventory's policies and pods: may product call it?",
        )
    most = max(seen.values())
    expected = total * _DRAWN
    deviation = math.sqrt(expected * (1 - _DRAWN))
    if most > expected + _STANDARD_DEVIATIONS * deviation:
        return wrong(
            f"{most} of {total} requests for the stock were answered by one of {pods} inventory "
            "pods",
            _caller(shop),
        )
    counts = ", ".join(str(count) for count in sorted(seen.values(), reverse=True))
    return right(f"{total} requests for the stock are spread over inventory's pods: {counts}")


def _affinity(users: Sequence[set[str]], shop: MeshedShop) -> Finding:
    """Whether each user has one pod, and not all of them the same one."""
    look = (
        f"kubectl -n {shop.where.namespace} get destinationrule inventory-service -o yaml: how "
        "does it choose a pod?"
    )
    if not users or any("" in pods for pods in users):
        return wrong("a customer's page came without the stock, or not at all", look)
    several = sum(len(pods) > 1 for pods in users)
    if several:
        return wrong(
            f"of {len(users)} customers {several} were answered by more than one inventory pod",
            look,
        )
    return judged(
        len(set[str]().union(*users)) > 1,
        f"each of {len(users)} customers is answered by one inventory pod, and not all by the same",
        f"all of {len(users)} customers are answered by the same inventory pod",
        look,
    )


def _caller(shop: MeshedShop) -> str:
    return (
        f"kubectl -n {shop.where.namespace} get deployment product-service -o yaml: do its gRPC "
        "calls go through its proxy? If they do, how does the proxy choose a pod?"
    )


LAB = Lab(
    HERE,
    meshed=Balancing(HERE),
    hints=(
        "A Service spreads connections, a proxy spreads requests. Whose proxy should spread these "
        "requests, and does it see them?",
        {
            "istio": "Look at the annotations in the template of deployment/product-service: one "
            "of them makes a port bypass the proxy. Then look at destinationrule/"
            "inventory-service: `loadBalancer` says how the proxy chooses a pod. The header "
            "`user-id` says who the user is.",
            "linkerd": "Look at the annotations in the template of deployment/product-service: one "
            "of them makes a port bypass the proxy.",
        },
        {
            "istio": "`kubectl -n ecommerce edit deployment product-service`: delete "
            f"{_PAST_THE_PROXY['istio']}. Then `kubectl apply -k "
            "mesh/istio/scenarios/10-consistent-hash`.",
            "linkerd": "`kubectl -n ecommerce edit deployment product-service`: delete "
            f"{_PAST_THE_PROXY['linkerd']}.",
        },
    ),
)
