"""An experiment with failing payments that went well, because it never took place."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from labs.chance import is_about
from labs.finding import Finding, judged, wrong
from labs.lab import Lab, MeshedExercise
from labs.meshed import MeshedShop

_SHARE = 0.3
_RPCS = ("Authorize", "Capture")  # the two of a checkout
_CALLS = 200
_ORDERS = 5
_PAGES = 10
_ABOUT = "/about"


class FailingPayments(MeshedExercise):
    """Istio makes the fault; in Linkerd mesh/linkerd/faulty is in payment's place."""

    async def check(self, shop: MeshedShop) -> AsyncIterator[Finding]:
        if not await shop.pods("payment-service"):
            yield wrong(
                "payment has no pod, so that all of its calls fail, for another reason",
                f"kubectl -n {shop.where.namespace} get pods: start the lab again",
            )
            return
        failed = await _failed(shop)
        expected = _CALLS * _SHARE
        is_meant = is_about(failed, _SHARE, of=_CALLS)
        yield judged(
            is_meant,
            f"{failed} of {_CALLS} calls of payment fail, about three in ten",
            f"{failed} of {_CALLS} calls of payment fail, not about {expected:.0f}",
            _rule(shop),
        )
        if not is_meant:
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
                "the mesh page, the edge from order to payment: does nothing get through?",
            )
            answers = [(await visitor.send("GET", _ABOUT)).status for _ in range(_PAGES)]
            yield judged(
                set(answers) == {200},
                "what has nothing to do with payment works as ever",
                f"{_PAGES - answers.count(200)} of {_PAGES} other pages fail, too",
                _rule(shop),
            )
            yield await shop.audit()
            for order_id in placed:
                await visitor.cancel(order_id)


async def _failed(shop: MeshedShop) -> int:
    """How many of order's calls of payment fail. Each is empty, so that payment refuses it where it
    gets there, and nobody is charged.
    """
    requests = [
        {
            "target": "payment-service:9000",
            "rpc": f"/meshmart.payment.v1.PaymentService/{_RPCS[number % len(_RPCS)]}",
        }
        for number in range(_CALLS)
    ]
    probed = await shop.probe("deployment/order-service", "order", requests)
    return sum(each.outcome != "answered" for each in probed)


def _rule(shop: MeshedShop) -> str:
    get = f"kubectl -n {shop.where.namespace} get"
    if shop.mesh == "istio":
        return (
            f"{get} virtualservice payment-service -o yaml: which calls does the fault fit, and "
            "of what is `percentage` the share?"
        )
    return (
        f"{get} grpcroute payment-service-repeatable-8000ms -o yaml: which calls go to the faulty "
        "pod, how many of them, and what becomes of one that has failed?"
    )


HERE = Path(__file__).parent

LAB = Lab(
    HERE,
    meshed=FailingPayments(HERE),
    hints=(
        "The experiment is on, and hardly any call of payment fails. Read the rule as the mesh "
        "does: which calls is it about, and how many of these?",
        {
            "istio": "`percentage: {value: 0.3}` is 0.3 of a hundred: three calls in a thousand.",
            "linkerd": "A checkout calls Authorize and Capture; the rule with the faulty pod is "
            "about Cancel alone. And the route's annotations say that what fails is tried again.",
        },
        {
            "istio": "`value: 30`, as in mesh/istio/scenarios/06-fault-abort/abort.yaml.",
            "linkerd": "One rule with Authorize, Capture and Cancel, 70 to payment-service and 30 "
            "to faulty, and no retry.linkerd.io annotations, as in "
            "mesh/linkerd/scenarios/06-fault-abort/abort.yaml.",
        },
    ),
)
