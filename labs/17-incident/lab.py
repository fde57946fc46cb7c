"""An incident: customers are lost, and students find out what has been broken."""

from __future__ import annotations

import json
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from labs.crowd import POD, Crowd, customers, let_customers_in
from labs.finding import Finding, are_all_right, judged, right, wrong
from labs.lab import Lab, MeshedExercise
from labs.meshed import MeshedShop
from labs.outsider import asked_in_plain, let_outsider_in
from labs.visitor import PAGE, Visitor
from labs.waiting import eventually
from tools.mesh.render import MeshName, Object

_EVERY_SECONDS, _FOR_SECONDS = 3.0, 1800.0
_BACK_SECONDS = 150.0
_PURCHASES = 6
# An order takes well under a second, of a small node three.
_SLOW_SECONDS = 5.0
# What frontend may not ask, by whom it would ask. In Istio its proxy does not even know payment.
_UNDECLARED: Mapping[str, Mapping[str, Any]] = {
    "payment": {
        "target": "payment-service:9000",
        "rpc": "/meshmart.payment.v1.PaymentService/Capture",
    },
    "user": {"target": "user-service:9000", "rpc": "/meshmart.user.v1.UserService/GetUser"},
    "order": {"method": "GET", "url": "http://order-service:3000/metrics"},
    "product": {"method": "GET", "url": "http://product-service:3000/metrics"},
}
# Of a score of 100: a minute costs one, and so do four customers.
_CUSTOMERS_A_POINT = 4


@dataclass(frozen=True, slots=True)
class OfBase:
    """An object of the base that somebody has changed.

    :ivar told: what the check says the fault was, once it is fixed.
    """

    told: str
    kind: str
    name: str
    spoil: Callable[[Object], None]

    async def break_it(self, shop: MeshedShop) -> None:
        """Puts a spoiled one in its place."""
        each = shop.of_base(self.kind, self.name)
        self.spoil(each)
        await shop.put_back(each)

    async def mend(self, shop: MeshedShop) -> None:
        """Puts the base's own back."""
        await shop.put_back(shop.of_base(self.kind, self.name))


@dataclass(frozen=True, slots=True)
class OfChart:
    """Something that the chart has made, and that somebody has changed by hand.

    :ivar told: what the check says the fault was, once it is fixed.
    :ivar breaks: what ``kubectl`` was told; `mends` is the opposite.
    :ivar restarts: the Deployment whose pods that starts again.
    """

    told: str
    breaks: Sequence[str]
    mends: Sequence[str]
    restarts: str = ""

    async def break_it(self, shop: MeshedShop) -> None:
        """Does it."""
        await self._tell(shop, self.breaks)

    async def mend(self, shop: MeshedShop) -> None:
        """Takes it back."""
        await self._tell(shop, self.mends)

    async def _tell(self, shop: MeshedShop, arguments: Sequence[str]) -> None:
        await shop.kubectl(*arguments)
        if self.restarts:
            await shop.kubectl("rollout", "status", self.restarts, "--timeout=90s")


Fault = OfBase | OfChart


class Incident(MeshedExercise):
    """The seed says which fault. Networks are open, so that only the mesh's rules refuse."""

    values: ClassVar[Mapping[str, Any]] = {"networkPolicies": {"enabled": False}}

    async def start(self, shop: MeshedShop) -> None:
        await shop.restore(self.values)
        await drawn(shop).break_it(shop)
        await let_outsider_in(shop)
        await let_customers_in(shop, every_seconds=_EVERY_SECONDS, for_seconds=_FOR_SECONDS)

    async def solve(self, shop: MeshedShop) -> None:
        await drawn(shop).mend(shop)

        async def is_over() -> bool:
            return (await _are_served(shop)).is_right

        # Whoever has failed for long is left alone by its callers for a while, though it is well.
        await eventually(is_over, "customers are served again", _BACK_SECONDS, poll_seconds=1)

    async def check(self, shop: MeshedShop) -> AsyncIterator[Finding]:
        began_s = time.time()
        findings = [
            await _are_served(shop),
            await _is_closed(shop),
            await _is_closed_to_outsiders(shop),
            await shop.audit(),
        ]
        for finding in findings:
            yield finding
        crowd = await customers(shop)
        if not crowd.came_s:
            yield wrong("no customer has come yet", f"kubectl -n {_of(shop)} logs {POD}")
        elif are_all_right(findings):
            score, words = scored(crowd, until_s=None)
            yield right(f"score {score} of 100: {words}")
            yield right(f"the fault was: {drawn(shop).told} (seed {shop.seed})")
        else:
            score, words = scored(crowd, until_s=began_s)
            yield wrong(
                f"the incident goes on, and the score is down to {score} of 100: {words}",
                f"kubectl -n {_of(shop)} logs {POD}: where are they lost, and with which status?",
            )


def scored(crowd: Crowd, *, until_s: float | None) -> tuple[int, str]:
    """A score from 0 to 100, and what it is made of.

    :param until_s: now, in Unix seconds, while the fault is not fixed; None once it is: then it was
        fixed when the last lost customer came.
    """
    first_s = min(crowd.came_s)
    last_s = max((came_s for came_s, _ in crowd.lost), default=first_s)
    if until_s is not None:
        # Nobody is lost any more once the stream has ended.
        last_s = min(until_s, max(crowd.came_s) + _EVERY_SECONDS)
    minutes = max(0.0, last_s - first_s) / 60
    lost = len(crowd.lost)
    score = max(0, 100 - math.ceil(minutes) - math.ceil(lost / _CUSTOMERS_A_POINT))
    end = "fixed after" if until_s is None else "not fixed after"
    return score, f"{lost} of {len(crowd.came_s)} customers were lost, {end} {minutes:.1f} minutes"


def drawn(shop: MeshedShop) -> Fault:
    """The fault that the seed draws."""
    faults = FAULTS[shop.mesh]
    return faults[shop.seed % len(faults)]


async def _are_served(shop: MeshedShop) -> Finding:
    """Whether several customers, one after the other, get all that they came for at once."""
    async with shop.visitor() as visitor:
        for number in range(1, _PURCHASES + 1):
            visitor.leave()
            lost = await _lost(visitor)
            if lost:
                return wrong(
                    f"this check sent customers, and the {_ordinal(number)} was lost {lost}",
                    f"https://{shop.where.host}/mesh: which edge is red? Then send the same "
                    "request from inside, to one service after the other",
                )
    return right(f"{_PURCHASES} customers were served at once, one after the other")


async def _lost(visitor: Visitor) -> str:
    """Where a customer was lost; empty when they were served."""
    page = await visitor.send("GET", PAGE)
    if page.status != 200:
        return f"at the catalogue: {page.status}"
    began = time.monotonic()
    order = await visitor.buy()
    seconds = time.monotonic() - began
    if order.status != 201:
        return f"at the log-in or the order: {order.status}"
    await visitor.cancel(order.body["order_id"])
    return f"at an order that took {seconds:.0f} s" if seconds > _SLOW_SECONDS else ""


async def _is_closed(shop: MeshedShop) -> Finding:
    """Whether the fault was fixed without opening the shop to everybody."""
    probed = await shop.probe("deployment/frontend", "frontend", [*_UNDECLARED.values()])
    outcomes = {name: each.outcome for name, each in zip(_UNDECLARED, probed, strict=True)}
    answering = [name for name, outcome in outcomes.items() if outcome == "answered"]
    return judged(
        not answering,
        "what was closed is closed: frontend gets no answer where it may not call",
        f"the shop was opened: {' and '.join(answering)} answered calls that frontend may not make",
        "the authorization policies: which of them were there before?",
    )


async def _is_closed_to_outsiders(shop: MeshedShop) -> Finding:
    """Whether the fault was fixed without serving callers that have no certificate."""
    answers = await asked_in_plain(shop)
    if answers is None:
        return wrong(
            "the pod outsider does not run, so this check cannot send plain text",
            "the pod outsider: start the lab again",
        )
    answering = [
        name
        for name, probed in answers.items()
        if any(each.outcome == "answered" for each in probed)
    ]
    return judged(
        not answering,
        "what was closed is closed: no service answers a caller without a certificate",
        f"the shop was opened: {' and '.join(answering)} answered a caller without a certificate",
        "the rules about mTLS, and the authorization policies: which of them were there before?",
    )


def _ordinal(number: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(number, f"{number}th")


def _of(shop: MeshedShop) -> str:
    return shop.where.namespace


def _payment_for_another(policy: Object) -> None:
    source = policy["spec"]["rules"][0]["from"][0]["source"]
    source["principals"] = [each.removesuffix("-service") for each in source["principals"]]


def _in_plain_text(rule: Object) -> None:
    rule["spec"]["trafficPolicy"]["tls"] = {"mode": "DISABLE"}


def _in_two_milliseconds(route: Object) -> None:
    for each in route["spec"]["http"]:
        each["timeout"] = "2ms"


def _for_another_audience(tokens: Object) -> None:
    for rule in tokens["spec"]["jwtRules"]:
        rule["audiences"] = ["meshmart"]


def _without_payment(sidecar: Object) -> None:
    (egress,) = sidecar["spec"]["egress"]
    egress["hosts"] = [host for host in egress["hosts"] if "payment-service." not in host]


def _order_renamed(callers: Object) -> None:
    for each in callers["spec"]["identityRefs"]:
        each["name"] = each["name"].removesuffix("-service")


def _waits_two_milliseconds(route: Object) -> None:
    route["metadata"]["annotations"]["timeout.linkerd.io/request"] = "2ms"


def _of_other_pods(server: Object) -> None:
    server["spec"]["podSelector"]["matchLabels"] = {"app.kubernetes.io/name": "payment"}


def _to_a_canary_that_is_gone(route: Object) -> None:
    for rule in route["spec"]["rules"]:
        rule["backendRefs"] = [{"name": "payment-service-canary", "port": 9000}]


def _selector(version: str | None) -> str:
    return json.dumps({"spec": {"selector": {"version": version}}})


_BAD_RELEASE = OfChart(
    "a release of user that fails four requests in five (FAULT_ERROR_SHARE of its Deployment)",
    breaks=("set", "env", "deployment/user-service", "FAULT_ERROR_SHARE=0.8"),
    mends=("set", "env", "deployment/user-service", "FAULT_ERROR_SHARE-"),
    restarts="deployment/user-service",
)
_NO_PODS = OfChart(
    "the Service of product selects pods of a version that does not exist",
    breaks=("patch", "service", "product-service", "--type", "merge", "-p", _selector("v3")),
    mends=("patch", "service", "product-service", "--type", "merge", "-p", _selector(None)),
)

# By the seed, which begins again at the end.
FAULTS: Mapping[MeshName, Sequence[Fault]] = {
    "istio": (
        OfBase(
            "callers of inventory send plain text (tls of its DestinationRule), and inventory "
            "accepts only mTLS",
            "DestinationRule",
            "inventory-service",
            _in_plain_text,
        ),
        _BAD_RELEASE,
        OfBase(
            "payment's policy lets in a ServiceAccount `order`, which no pod has",
            "AuthorizationPolicy",
            "payment-service",
            _payment_for_another,
        ),
        _NO_PODS,
        OfBase(
            "the time-out of calls to shipping is 2 milliseconds (its VirtualService)",
            "VirtualService",
            "shipping-service",
            _in_two_milliseconds,
        ),
        OfBase(
            "order accepts only tokens for another audience (its RequestAuthentication)",
            "RequestAuthentication",
            "order-service",
            _for_another_audience,
        ),
        OfBase(
            "order's proxy does not know payment (egress of its Sidecar)",
            "Sidecar",
            "order-service",
            _without_payment,
        ),
    ),
    "linkerd": (
        OfBase(
            "the policies for order's calls let in a ServiceAccount `order`, which no pod has "
            "(its MeshTLSAuthentication)",
            "MeshTLSAuthentication",
            "order",
            _order_renamed,
        ),
        _BAD_RELEASE,
        OfBase(
            "the Server of payment's gRPC port selects pods by a label that no pod has, so the "
            "default refuses every caller",
            "Server",
            "payment-service-grpc",
            _of_other_pods,
        ),
        _NO_PODS,
        OfBase(
            "the time-out of calls to shipping is 2 milliseconds (an annotation of its GRPCRoute)",
            "GRPCRoute",
            "shipping-service-repeatable-3000ms",
            _waits_two_milliseconds,
        ),
        OfBase(
            "the route to payment leads to a canary that does not exist",
            "GRPCRoute",
            "payment-service-repeatable-8000ms",
            _to_a_canary_that_is_gone,
        ),
    ),
}

HERE = Path(__file__).parent

LAB = Lab(
    HERE,
    meshed=Incident(HERE),
    hints=(
        "Find the step first: where are customers lost, with which status, and all of them or "
        "only a share? `kubectl -n ecommerce logs customers` has a line for each.",
        "Then find the two services: the mesh page, `/mesh`, shows failing edges in red, and the "
        "caller's logs say which call failed, and how (`kubectl -n ecommerce logs "
        "deployment/order-service -c order`). 403 is a policy. 503 at once is a Service without "
        "pods, or two sides of which only one uses mTLS. 504 is a time-out. 503 for a share of "
        "the requests is one pod of several, or a program that fails.",
        {
            "istio": "Then compare the real state with the declared one: `kubectl diff -k "
            "mesh/istio/base` for the mesh's objects, and `helm get manifest shop -n ecommerce | "
            "kubectl -n ecommerce diff -f -` for the chart's. Judge each difference: the values of "
            "this lab make some of them.",
            "linkerd": "Then compare the real state with the declared one: `kubectl diff -k "
            "mesh/linkerd/base` for the mesh's objects, and `helm get manifest shop -n ecommerce | "
            "kubectl -n ecommerce diff -f -` for the chart's. Judge each difference: the values of "
            "this lab make some of them.",
        },
    ),
)
