"""One of two payment pods fails every request, and its callers keep using it."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from labs.errors import CommandFailed
from labs.finding import Finding, judged, right, wrong
from labs.lab import Lab, MeshedExercise
from labs.meshed import MeshedShop
from labs.visitor import Visitor

_MOST_FAILURES = "balancer.linkerd.io/failure-accrual-consecutive-max-failures"
# A cluster of Envoy: outbound|PORT|SUBSET|HOST.
_OF_PAYMENT = re.compile(r"outbound\|9000\|[^|]*\|payment-service\.")
# Linkerd counts a pod that failure accrual keeps from requests as "pending".
_UNAVAILABLE = re.compile(
    r'outbound_http_balancer_endpoints\{(?=[^}]*endpoint_state="pending")'
    r'(?=[^}]*backend_name="payment-service")(?=[^}]*backend_port="9000")[^}]*\} [1-9]'
)
_PROXY_METRICS = """
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:4191/metrics").read().decode())
"""
_ORDERS = 6
# An order calls payment twice or more. An ejected pod gets single tries, to see whether it works.
_TRIES = 3


class SickPod(MeshedExercise):
    """Istio: a pod with the label `sick`. Linkerd: mesh/linkerd/faulty, in payment's place."""

    values: ClassVar[Mapping[str, Any]] = {"services": {"payment": {"replicas": 2}}}

    async def start(self, shop: MeshedShop) -> None:
        await super().start(shop)
        if shop.mesh == "istio":
            pod = (await shop.pods("payment-service"))[0]["metadata"]["name"]
            await shop.kubectl("label", "pod", pod, "sick=true")
        else:
            await shop.kubectl("annotate", "service", "payment-service", f"{_MOST_FAILURES}=1000")

    async def solve(self, shop: MeshedShop) -> None:
        if shop.mesh == "istio":
            await super().solve(shop)
        else:
            await shop.kubectl("annotate", "service", "payment-service", f"{_MOST_FAILURES}-")

    async def check(self, shop: MeshedShop) -> AsyncIterator[Finding]:
        if not await _is_there(shop):
            yield wrong(
                "payment does not have a sick pod and a healthy one: one was cured or removed",
                "the task in README.md: the pod stays sick, and the callers must stop using it. "
                "Start the lab again",
            )
            return
        yield right("one pod of payment is sick, and another one is healthy")
        async with shop.visitor() as visitor:
            placed = await _orders(visitor, _ORDERS)
            before = await _asked(shop)
            is_ejected = False
            for _ in range(_ORDERS):
                placed += await _orders(visitor, 1)
                # After a pause it is tried again, so a single look may miss it.
                is_ejected = is_ejected or await _is_ejected(shop)
            asked = await _asked(shop) - before
            for order_id in placed:
                await visitor.cancel(order_id)
        yield judged(
            len(placed) == 2 * _ORDERS,
            f"{len(placed)} orders were paid meanwhile",
            f"only {len(placed)} of {2 * _ORDERS} orders were paid",
            "payment's pods: is the healthy one ejected, too?",
        )
        yield judged(
            asked <= _TRIES,
            f"the sick pod is not used: {asked} requests reached it during {_ORDERS} orders",
            f"the sick pod is still used: {asked} requests reached it during {_ORDERS} orders",
            _rule(shop),
        )
        if asked <= _TRIES:
            yield judged(
                is_ejected,
                "that is because it failed: order's proxy has ejected it",
                "that is not because it failed: order's proxy has not ejected it, and would use "
                "the next pod that fails",
                _rule(shop),
            )
        yield await shop.audit()


async def _orders(visitor: Visitor, count: int) -> list[str]:
    """Places some orders, up to the first that cannot be paid. Returns the ids of the others."""
    paid: list[str] = []
    for _ in range(count):
        answer = await visitor.insist()
        if answer.status != 201:
            break  # each further one would keep the student waiting for a minute
        paid.append(answer.body["order_id"])
    return paid


async def _is_there(shop: MeshedShop) -> bool:
    pods = await shop.pods("payment-service")
    if shop.mesh == "istio":
        sick = [pod for pod in pods if pod["metadata"]["labels"].get("sick") == "true"]
        return len(sick) == 1 and len(pods) > 1
    is_faulty = [pod["metadata"]["labels"]["version"] == "sick" for pod in pods]
    return set(is_faulty) == {True, False} and not await _is_well(shop)


async def _is_well(shop: MeshedShop) -> bool:
    """Whether somebody has told the faulty pod to be so."""
    try:
        await shop.kubectl(*_FAULTY, "test", "-e", "/tmp/well")  # noqa: S108  in its container
    except CommandFailed:
        return False
    return True


_FAULTY = ("exec", "deployment/faulty", "-c", "faulty", "--")


async def _asked(shop: MeshedShop) -> int:
    """How many requests have reached the sick pod."""
    if shop.mesh == "linkerd":
        log = await shop.kubectl("logs", "deployment/faulty", "-c", "faulty")
        return sum(line.startswith("failed /meshmart.payment") for line in log.splitlines())
    return sum(
        int(stat.get("value", 0))
        for host in await _as_orders_proxy_sees_it(shop)
        for stat in host["stats"]
        if stat["name"] == "rq_total"
    )


async def _is_ejected(shop: MeshedShop) -> bool:
    """Whether order's proxy has ejected the sick pod at this moment, because it has failed."""
    if shop.mesh == "linkerd":
        order = ("exec", "deployment/order-service", "-c", "order", "--", "python", "-c")
        text = await shop.kubectl(*order, _PROXY_METRICS)
        return any(_UNAVAILABLE.match(line) for line in text.splitlines())
    return any(
        host["health_status"].get("failed_outlier_check", False)
        for host in await _as_orders_proxy_sees_it(shop)
    )


async def _as_orders_proxy_sees_it(shop: MeshedShop) -> list[Any]:
    """What Envoy says of the sick pod as a host of payment's gRPC port, in whichever subset."""
    pods = await shop.objects("pods", "app.kubernetes.io/name=payment-service,sick=true")
    address = pods[0]["status"]["podIP"]
    envoy = ("exec", "deployment/order-service", "-c", "istio-proxy", "--", "pilot-agent")
    said = json.loads(await shop.kubectl(*envoy, "request", "GET", "clusters?format=json"))
    return [
        host
        for cluster in said["cluster_statuses"]
        if _OF_PAYMENT.match(cluster["name"])
        for host in cluster.get("host_statuses", ())
        if host["address"].get("socket_address", {}).get("address") == address
    ]


def _rule(shop: MeshedShop) -> str:
    get = f"kubectl -n {shop.where.namespace} get"
    if shop.mesh == "istio":
        return (
            f"{get} destinationrule payment-service -o yaml: which errors does outlierDetection "
            "count, and how many are too many?"
        )
    return f"{get} service payment-service -o yaml: how many failures in a row are too many?"


HERE = Path(__file__).parent

LAB = Lab(
    HERE,
    meshed=SickPod(HERE),
    hints=(
        "Do not cure or delete the pod: the callers of payment must notice that it fails, and stop "
        "using it. Which object has this rule?",
        {
            "istio": "destinationrule/payment-service has outlierDetection, but 0 means that such "
            "errors do not count. UNAVAILABLE in gRPC counts as a gateway error.",
            "linkerd": "One annotation of the Service switches failure accrual on, and another one "
            "says after how many failures in a row. The default is 7.",
        },
        {
            "istio": "consecutiveGatewayErrors: 3, as in "
            "mesh/istio/scenarios/08-circuit-breaking/ejection.yaml.",
            "linkerd": "`kubectl -n ecommerce annotate service payment-service "
            f"{_MOST_FAILURES}-` removes the annotation.",
        },
    ),
)
