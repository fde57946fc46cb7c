"""One workload is out of the mesh, and what was opened for it is open. Customers keep buying."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from labs.crowd import POD, Crowd, customers, let_customers_in
from labs.finding import Finding, judged, wrong
from labs.lab import Lab, MeshedExercise
from labs.meshed import MONGODB, MeshedShop
from labs.waiting import eventually
from tools.mesh.render import MeshName

_WORKLOAD = "inventory-service"
_EVERY_SECONDS, _FOR_SECONDS = 2.0, 2400.0
_ENOUGH_CUSTOMERS = 10
# One in fifty may have met a machine that was busy.
_LOST_SHARE = 0.02
_KNOWN_SECONDS = 60.0
_GONE_SECONDS = 90.0

_STOCK: Mapping[str, Any] = {
    "target": "inventory-service:9000",
    "rpc": "/meshmart.inventory.v1.InventoryService/GetStock",
}

_PROXY: Mapping[MeshName, str] = {"istio": "istio-proxy", "linkerd": "linkerd-proxy"}
# Of the pods, in the Deployment: where a mesh reads whether it may give them a proxy.
_ASKS: Mapping[MeshName, tuple[str, str, str, str]] = {
    "istio": ("labels", "sidecar.istio.io/inject", "true", "false"),
    "linkerd": ("annotations", "linkerd.io/inject", "enabled", "disabled"),
}
# What start/ has made, which bears the label.
_LABEL = "meshmart/lab=16"
_HOLES: Mapping[MeshName, str] = {
    "istio": "peerauthentications.security.istio.io,authorizationpolicies.security.istio.io",
    "linkerd": "authorizationpolicies.policy.linkerd.io,networkauthentications.policy.linkerd.io",
}
_POLICIES: Mapping[MeshName, str] = {
    "istio": "authorizationpolicies.security.istio.io",
    "linkerd": "authorizationpolicies.policy.linkerd.io",
}


class InAndOut(MeshedExercise):
    """Only the mesh's rules are judged, so the network's, which refuse most of this, are away."""

    values: ClassVar[Mapping[str, Any]] = {"networkPolicies": {"enabled": False}}

    async def start(self, shop: MeshedShop) -> None:
        await super().start(shop)
        await _roll_out(shop, has_proxy=False)
        await let_customers_in(shop, every_seconds=_EVERY_SECONDS, for_seconds=_FOR_SECONDS)

    async def solve(self, shop: MeshedShop) -> None:
        await _roll_out(shop, has_proxy=True)
        await shop.kubectl("delete", _HOLES[shop.mesh], "--selector", _LABEL)

    async def check(self, shop: MeshedShop) -> AsyncIterator[Finding]:
        began_s = time.time()
        async with shop.visitor() as visitor:
            order = await visitor.insist()
            yield judged(
                order.status == 201,
                "a customer can buy",
                f"a customer cannot buy (the answer is {order.status})",
                f"kubectl -n {shop.where.namespace} logs deployment/{_WORKLOAD}: does it reach "
                "MongoDB?",
            )
            if order.status == 201:
                await visitor.cancel(order.body["order_id"])
        stock, database = await shop.probe(POD, POD, [_STOCK, MONGODB])
        yield judged(
            stock.outcome != "answered",
            "inventory does not answer callers outside the mesh",
            "inventory answers a caller outside the mesh, in plain text",
            f"kubectl -n {shop.where.namespace} get pods -l app.kubernetes.io/name={_WORKLOAD} -o "
            "yaml: do they have a proxy? If not, what does the Deployment say about injection?",
        )
        yield judged(
            database.outcome != "answered",
            "MongoDB does not answer callers outside the mesh",
            "MongoDB answers a caller outside the mesh, in plain text",
            f"kubectl -n {shop.where.namespace} get {_HOLES[shop.mesh]}: which of them lets in "
            "callers without a certificate?",
        )
        yield await _is_closed(shop)
        yield _were_served(shop, await _known(shop, began_s))
        yield await shop.audit()


async def _is_closed(shop: MeshedShop) -> Finding:
    """Whether the policy is gone that lets in whoever comes. As long as MongoDB takes mTLS only,
    that is still everybody who has a certificate, and no request from outside of the mesh tells.
    """
    left = await shop.objects(_POLICIES[shop.mesh], _LABEL)
    names = ", ".join(each["metadata"]["name"] for each in left)
    return judged(
        not left,
        "no policy is left that was made while inventory had no proxy",
        f"a policy is left that was made while inventory had no proxy: {names}",
        f"kubectl -n {shop.where.namespace} get {_POLICIES[shop.mesh]} -l {_LABEL} -o yaml: whom "
        "does it let in?",
    )


def _were_served(shop: MeshedShop, crowd: Crowd) -> Finding:
    """Whether customers have noticed nothing since the lab began."""
    came, lost = len(crowd.came_s), len(crowd.lost)
    where = ", ".join(f"{count} {why}" for why, count in crowd.reasons.most_common(3))
    look = f"kubectl -n {shop.where.namespace} logs {POD}: when was that?"
    if came < _ENOUGH_CUSTOMERS or crowd.waiting:
        return wrong(f"{came} customers were served or lost, {crowd.waiting} still wait", look)
    return judged(
        lost <= max(1, came * _LOST_SHARE),
        f"{came - lost} of {came} customers were served meanwhile",
        f"{lost} of {came} customers were lost meanwhile ({where}); at most one in fifty may be",
        f"{look} Then start the lab again, since lost customers stay lost",
    )


async def _known(shop: MeshedShop, moment_s: float) -> Crowd:
    """The customers, once it is known what became of all who came until a moment, or their time is
    over.
    """
    until = time.monotonic() + _KNOWN_SECONDS

    async def is_known() -> bool:
        crowd = await customers(shop)
        is_enough = len(crowd.came_s) >= _ENOUGH_CUSTOMERS
        return (is_enough and crowd.is_known_until(moment_s)) or time.monotonic() > until

    await eventually(is_known, "customers come", 2 * _KNOWN_SECONDS, poll_seconds=1)
    return await customers(shop)


async def _roll_out(shop: MeshedShop, *, has_proxy: bool) -> None:
    """Has the workload's pods made again with a proxy or without, and waits until the others have
    gone: they are asked for some seconds after they were told to go.
    """
    field, name, yes, no = _ASKS[shop.mesh]
    template = {"metadata": {field: {name: yes if has_proxy else no}}}
    patch = json.dumps({"spec": {"template": template}})
    await shop.kubectl("patch", "deployment", _WORKLOAD, "--type", "merge", "-p", patch)
    await shop.kubectl("rollout", "status", f"deployment/{_WORKLOAD}", "--timeout=90s")

    async def are_gone() -> bool:
        pods = await shop.objects("pods", f"app.kubernetes.io/name={_WORKLOAD}")
        return all((_PROXY[shop.mesh] in _containers(pod)) is has_proxy for pod in pods)

    await eventually(are_gone, "the pods of before have gone", _GONE_SECONDS, poll_seconds=1)


def _containers(pod: Any) -> Sequence[str]:
    """The names of a pod's containers; a proxy may be an init container that stays."""
    spec = pod["spec"]
    return [each["name"] for each in (*spec.get("initContainers", ()), *spec["containers"])]


HERE = Path(__file__).parent

LAB = Lab(
    HERE,
    meshed=InAndOut(HERE),
    hints=(
        "Two things are wrong: inventory has no proxy, and MongoDB accepts everybody. The order in "
        "which you fix them decides whether customers notice. Which caller is refused if you fix "
        "one before the other?",
        {
            "istio": "The pods' label `sidecar.istio.io/inject`, in the template of "
            "deployment/inventory-service, asks for a proxy. PERMISSIVE accepts both, so pods "
            "with and without a proxy can run at the same time. When the last pod without a proxy "
            "has gone, nothing needs PERMISSIVE, nor the policy beside it.",
            "linkerd": "The pods' annotation `linkerd.io/inject`, in the template of "
            "deployment/inventory-service, asks for a proxy. A Server with two policies lets in "
            "the callers that one of them allows, so pods with and without a proxy can run at the "
            "same time. When the last pod without one has gone, nothing needs the wider policy.",
        },
        {
            "istio": "`kubectl -n ecommerce patch deployment inventory-service --type merge -p "
            '\'{"spec": {"template": {"metadata": {"labels": {"sidecar.istio.io/inject": '
            '"true"}}}}}\'`, then `kubectl -n ecommerce rollout status '
            "deployment/inventory-service`, and when the old pod has gone: `kubectl -n ecommerce "
            "delete peerauthentication/mongodb "
            "authorizationpolicies.security.istio.io/mongodb-for-inventory`",
            "linkerd": "`kubectl -n ecommerce patch deployment inventory-service --type merge -p "
            '\'{"spec": {"template": {"metadata": {"annotations": {"linkerd.io/inject": '
            '"enabled"}}}}}\'`, then `kubectl -n ecommerce rollout status '
            "deployment/inventory-service`, and when the old pod has gone: `kubectl -n ecommerce "
            "delete authorizationpolicies.policy.linkerd.io/mongodb-for-inventory "
            "networkauthentications/anywhere`",
        },
    ),
)
