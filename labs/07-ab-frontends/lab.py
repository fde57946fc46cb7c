"""Three looks of the pages, of which one group of visitors never sees theirs."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from labs.finding import Finding, judged, wrong
from labs.lab import Lab, MeshedExercise
from labs.meshed import MeshedShop

HERE = Path(__file__).parent
_STABLE, _MOBILE, _BETA = _LOOKS = ("stable", "mobile-optimized", "beta-features")
_PAGE = "/about"  # asks no other service
# That a look drawn by chance from three is the right one each time happens once in five million.
_PAGES = 14
_DESKTOP = "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0"
_ANDROID = (
    "Mozilla/5.0 (Linux; Android 16) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 "
    "Mobile Safari/537.36"
)
_IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like "
    "Gecko) Version/18.6 Mobile/15E148 Safari/604.1"
)


class Visitors(NamedTuple):
    """Some visitors, and the look that is meant for them.

    :ivar group: what their browser says in x-user-group.
    """

    who: str
    agent: str
    group: str
    look: str

    @property
    def headers(self) -> Mapping[str, str]:
        """What their browser sends."""
        group = {"x-user-group": self.group} if self.group else {}
        return {"user-agent": self.agent, **group}


VISITORS: Sequence[Visitors] = (
    Visitors("on an Android telephone", _ANDROID, "", _MOBILE),
    Visitors("on an iPhone", _IPHONE, "", _MOBILE),
    Visitors("of the beta group", _DESKTOP, "beta", _BETA),
    Visitors("of the beta group on a telephone", _ANDROID, "beta", _BETA),
    Visitors("at a desk", _DESKTOP, "", _STABLE),
    Visitors("of another group at a desk", _DESKTOP, "staff", _STABLE),
    Visitors("of another group on a telephone", _ANDROID, "staff", _MOBILE),
)


class AbFrontends(MeshedExercise):
    """All three looks of frontend are deployed."""

    values: ClassVar[Mapping[str, Any]] = {
        "services": {"frontend": {"variants": {_MOBILE: 1, _BETA: 1}}}
    }

    async def check(self, shop: MeshedShop) -> AsyncIterator[Finding]:
        pods = await shop.pods("frontend")
        missing = set(_LOOKS) - {pod["metadata"]["labels"]["version"] for pod in pods}
        if missing:
            yield wrong(
                f"no pod of the variant {', '.join(sorted(missing))} is ready",
                f"kubectl -n {shop.where.namespace} get pods -L version: start the lab again",
            )
            return
        async with shop.visitor() as visitor:
            for visitors in VISITORS:
                seen = await visitor.versions(_PAGES, path=_PAGE, headers=visitors.headers)
                yield _judged(visitors, seen, shop)
            order = await visitor.insist()
            yield judged(
                order.status == 201,
                "a customer can buy",
                f"a customer cannot buy (the answer is {order.status})",
                "the routes for /api, which this lab does not change",
            )
            if order.status == 201:
                await visitor.cancel(order.body["order_id"])
        yield await shop.audit()


def _judged(visitors: Visitors, seen: Counter[str], shop: MeshedShop) -> Finding:
    """Whether they see their look each time."""
    words = " and ".join(f"{count} times {look}" for look, count in sorted(seen.items()))
    kind = "virtualservice frontend-public" if shop.mesh == "istio" else "httproutes"
    return judged(
        set(seen) == {visitors.look},
        f"visitors {visitors.who} see {visitors.look}",
        f"visitors {visitors.who} see {words}, not {visitors.look} each time",
        f"kubectl -n {shop.where.namespace} get {kind} -o yaml: which rule applies to them?",
    )


LAB = Lab(
    HERE,
    meshed=AbFrontends(HERE),
    hints=(
        "Read the rules as the proxy does, for the headers of one visitor. Does the rule for "
        "telephones match what a real telephone sends, from the first character to the last?",
        {
            "istio": "A regex must match the whole value, not a part of it. Once it does, a "
            "visitor of the beta group with a telephone matches two routes: the first one is used.",
            "linkerd": "A RegularExpression must match the whole value, not a part of it. Once it "
            "does, a visitor of the beta group with a telephone matches two rules with one header "
            "each: the first one is used.",
        },
        {
            "istio": "In virtualservice/frontend-public: `regex: .*Mobile.*`, and the route named "
            "beta before the one named mobile.",
            "linkerd": "In httproute/frontend-looks: `value: .*Mobile.*`, and the rule for "
            "x-user-group before the one for user-agent.",
        },
    ),
)
