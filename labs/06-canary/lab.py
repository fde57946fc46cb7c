"""A canary that went out on Friday: nobody sees the new version, and in Istio some see errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from labs.chance import is_about
from labs.finding import Finding, judged, right, wrong
from labs.lab import Lab, MeshedExercise
from labs.meshed import MeshedShop, Probed
from labs.visitor import CATALOGUE
from services.common import call_record

_SHARE = 0.1
# Of each kind. A share of one in ten is refused once in 14,000 times, and half of it passes once in
# 1,500 times.
_REQUESTS = 1500
_AT_ONCE = 8
_NOBODY = "no answer"
_ASKED, _ASKED_PAGES = 20, 6
_HEADER: Mapping[str, str] = {"canary": "true"}
_COOKIE: Mapping[str, str] = {"cookie": "theme=dark; canary=true"}


class Canary(MeshedExercise):
    """Two versions of the catalogue."""

    values: ClassVar[Mapping[str, Any]] = {"services": {"product": {"variants": {"v2": 1}}}}

    async def check(self, shop: MeshedShop) -> AsyncIterator[Finding]:
        async with shop.visitor() as visitor:
            # First, since testers' errors would open the circuit breaker of frontend for everybody.
            yield _share("at /api", await visitor.versions(_REQUESTS, at_once=_AT_ONCE), shop)
            yield _share("that frontend makes for pages", await _behind_pages(shop), shop)
            for who, headers in (("the header", _HEADER), ("the cookie", _COOKIE)):
                seen = await visitor.versions(_ASKED, headers=headers)
                yield _asked(f"with {who}", seen, shop)
                seen = await visitor.versions_behind_pages(_ASKED_PAGES, headers=headers)
                yield _asked(f"with {who} on pages", seen, shop)


async def _behind_pages(shop: MeshedShop) -> Counter[str]:
    """Who answers the request that frontend makes for a page, by version, or by the status of an
    error.
    """
    request = {"method": "GET", "url": f"http://product-service:3000{CATALOGUE}"}
    probed = await shop.probe("deployment/frontend", "frontend", [request] * _REQUESTS)
    return Counter(_version(each) for each in probed)


def _version(probed: Probed) -> str:
    served = call_record.decode(probed.who)
    if probed.detail == "200" and served is not None:
        return served.version
    status = probed.detail.partition(" ")[0]
    return status if status.isdecimal() else _NOBODY


def _asked(how: str, seen: Counter[str], shop: MeshedShop) -> Finding:
    """Whoever asks for v2 gets it each time."""
    return judged(
        set(seen) == {"v2"},
        f"requests {how} are answered by v2",
        f"of {seen.total()} requests {how}, {_words(seen)}, not all by v2",
        f"{_routes(shop)}: which rule applies to such a request? If it is the right one: must a "
        "request meet all conditions of its match, or one of them?",
    )


def _share(where: str, seen: Counter[str], shop: MeshedShop) -> Finding:
    """Of all others v2 has its share, and nobody gets an error."""
    total = seen.total()
    if seen.keys() - {"v1", "v2"}:
        return wrong(
            f"of {total} requests {where}, {_words(seen)}: some fail",
            f"{_versions(shop)}: which pods match? "
            f"kubectl -n {shop.where.namespace} get pods -L version",
        )
    if not is_about(seen["v2"], _SHARE, of=total):
        return wrong(
            f"{seen['v2']} of {total} requests {where} are answered by v2, not about "
            f"{total * _SHARE:.0f}",
            f"{_routes(shop)}: the weights",
        )
    return right(f"{seen['v2']} of {total} requests {where} are answered by v2, no error")


def _words(seen: Counter[str]) -> str:
    """``200 are answered by v1 and 3 fail with 503``."""
    return " and ".join(
        f"{count} fail with {version}"
        if version.isdecimal() or version == _NOBODY
        else f"{count} are answered by {version}"
        for version, count in sorted(seen.items())
    )


def _routes(shop: MeshedShop) -> str:
    routes = (
        "virtualservice/product-public virtualservice/product-service"
        if shop.mesh == "istio"
        else "httproute/product-service-repeatable grpcroute/product-service-repeatable-2000ms"
    )
    return f"kubectl -n {shop.where.namespace} get {routes} -o yaml"


def _versions(shop: MeshedShop) -> str:
    if shop.mesh == "istio":
        return "the labels of each subset in destinationrule/product-service"
    return "the selector of service/product-service-canary"


HERE = Path(__file__).parent

LAB = Lab(
    HERE,
    meshed=Canary(HERE),
    hints=(
        {
            "istio": "There are two faults. One makes errors: compare the labels by which v2 is "
            "selected with the labels of its pods. The other one makes no error.",
            "linkerd": "There are two faults, and neither makes an error. For one of them, compare "
            "the labels by which v2 is selected with the labels of its pods.",
        },
        {
            "istio": "A subset selects pods by labels: `kubectl -n ecommerce get pods -L version`. "
            "And of the routes in product-public, the first one that matches is used: what does a "
            "route without `match` match?",
            "linkerd": "A version's Service selects pods by labels: `kubectl -n ecommerce get pods "
            "-L version`. And of two matches, the one with the longer path wins, whatever headers "
            "the other one names.",
        },
        {
            "istio": "In destinationrule/product-service the subset v2 needs `version: v2`. In "
            "virtualservice/product-public the route named canary belongs before the other one.",
            "linkerd": "service/product-service-canary needs the selector `version: v2`. In "
            "httproute/product-service-repeatable the matches of the header and of the cookie need "
            "the path /api/, as the other rule has.",
        },
    ),
)
