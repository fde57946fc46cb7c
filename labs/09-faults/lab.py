"""An experiment with failing payments that went well, because it never took place."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from labs.chance import is_about
from labs.finding import Finding, are_all_right, judged, wrong
from labs.lab import Lab, MeshedExercise
from labs.meshed import MeshedShop

_SHARE = 0.3
_RPCS: Sequence[str] = ("Authorize", "Capture")  # the two of a checkout
# Of each. A share of three in ten is refused once in 15,000 times, of 15 % it passes once in a
# hundred million times, and of 20 % both pass once in 2,000 times.
_CALLS = 700
_ORDERS = 5
_PAGES = 10
_ABOUT = "/about"


class FailingPayments(MeshedExercise):
    """Istio makes the fault; in Linkerd mesh/linkerd/faulty is in payment's place."""

    async def check(self, shop: MeshedShop) -> AsyncIterator[Finding]:
        if not await shop.pods("payment-service"):
            yield wrong(
                "payment has no pod, so all calls to it fail, and not because of the fault",
                f"kubectl -n {shop.where.namespace} get pods: start the lab again",
            )
            return
        shares = [_share(rpc, failed, shop) for rpc, failed in (await _failed(shop)).items()]
        for finding in shares:
            yield finding
        if not are_all_right(shares):
            return  # what follows would not say anything about this experiment
        async with shop.visitor() as visitor:
            placed: list[str] = []
            for _ in range(_ORDERS):
                answer = await visitor.insist()
                if answer.status != 201:
                    break  # each further one would keep the student waiting for a minute
                placed.append(answer.body["order_id"])
            yield judged(
                len(placed) == _ORDERS,
                f"{len(placed)} customers have their order all the same",
                f"only {len(placed)} of {_ORDERS} customers have their order",
                "the mesh page, the edge from order to payment: do any calls succeed?",
            )
            answers = [(await visitor.send("GET", _ABOUT)).status for _ in range(_PAGES)]
            yield judged(
                set(answers) == {200},
                "everything else works as before",
                f"{_PAGES - answers.count(200)} of {_PAGES} other pages fail too",
                _rule(shop),
            )
            yield await shop.audit()
            for order_id in placed:
                await visitor.cancel(order_id)


async def _failed(shop: MeshedShop) -> Counter[str]:
    """How many of order's calls to payment fail, by RPC. Each call is empty, so that payment
    refuses it if it arrives there, and nobody is charged.
    """
    rpcs = [*_RPCS] * _CALLS
    requests = [
        {"target": "payment-service:9000", "rpc": f"/meshmart.payment.v1.PaymentService/{rpc}"}
        for rpc in rpcs
    ]
    probed = await shop.probe("deployment/order-service", "order", requests)
    failed = Counter[str](dict.fromkeys(_RPCS, 0))
    failed.update(rpc for rpc, each in zip(rpcs, probed, strict=True) if each.outcome != "answered")
    return failed


def _share(rpc: str, failed: int, shop: MeshedShop) -> Finding:
    """Whether about as many calls to an RPC fail as were meant to."""
    said = f"{failed} of {_CALLS} calls to payment's {rpc} fail"
    return judged(
        is_about(failed, _SHARE, of=_CALLS),
        f"{said}, about three in ten",
        f"{said}, not about {_CALLS * _SHARE:.0f}",
        _rule(shop),
    )


def _rule(shop: MeshedShop) -> str:
    get = f"kubectl -n {shop.where.namespace} get"
    if shop.mesh == "istio":
        return (
            f"{get} virtualservice payment-service -o yaml: which calls does the fault apply "
            "to, and to which percentage of them?"
        )
    return (
        f"{get} grpcroute payment-service-repeatable-8000ms -o yaml: which calls go to the faulty "
        "pod, which share of them, and is a failed call retried?"
    )


HERE = Path(__file__).parent

LAB = Lab(
    HERE,
    meshed=FailingPayments(HERE),
    hints=(
        "The experiment is on, and hardly any call to payment fails. Read the rule as the mesh "
        "does: which calls does it apply to, and to which share of them?",
        {
            "istio": "`percentage: {value: 0.3}` is 0.3 of a hundred: three calls in a thousand.",
            "linkerd": "A checkout calls Authorize and Capture; the rule with the faulty pod "
            "applies only to Cancel. And the route's annotations retry failed calls.",
        },
        {
            "istio": "`value: 30`, in `kubectl -n ecommerce edit virtualservice payment-service`.",
            "linkerd": "One rule with Authorize, Capture and Cancel, 70 to payment-service and 30 "
            "to faulty, and no retry.linkerd.io annotations: `kubectl -n ecommerce edit "
            "grpcroute payment-service-repeatable-8000ms`.",
        },
    ),
)
