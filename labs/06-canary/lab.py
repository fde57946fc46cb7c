"""A canary that went out on Friday: nobody sees the new version, and in Istio some see errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from labs.chance import is_about
from labs.finding import Finding, judged, right, wrong
from labs.lab import Lab, MeshedExercise
from labs.meshed import MeshedShop

_SHARE = 0.1
_REQUESTS, _PAGES = 200, 60
_ASKED, _ASKED_PAGES = 20, 6
_HEADER: Mapping[str, str] = {"canary": "true"}
_COOKIE: Mapping[str, str] = {"cookie": "theme=dark; canary=true"}


class Canary(MeshedExercise):
    """Two versions of the catalogue."""

    values: ClassVar[Mapping[str, Any]] = {"services": {"product": {"variants": {"v2": 1}}}}

    async def check(self, shop: MeshedShop) -> AsyncIterator[Finding]:
        async with shop.visitor() as visitor:
            for who, headers in (("the header", _HEADER), ("the cookie", _COOKIE)):
                seen = await visitor.versions(_ASKED, headers=headers)
                yield _asked(f"with {who}", seen, shop)
                seen = await visitor.versions_behind_pages(_ASKED_PAGES, headers=headers)
                yield _asked(f"with {who} on pages", seen, shop)
            yield _share("at /api", await visitor.versions(_REQUESTS), shop)
            yield _share("on pages", await visitor.versions_behind_pages(_PAGES), shop)


def _asked(how: str, seen: Counter[str], shop: MeshedShop) -> Finding:
    """Whoever asks for v2 gets it each time."""
    return judged(
        set(seen) == {"v2"},
        f"who asks {how} is answered by v2",
        f"who asks {how} is answered by {_words(seen)}, not by v2 each time",
        f"{_routes(shop)}: which rule is taken for such a request?",
    )


def _share(where: str, seen: Counter[str], shop: MeshedShop) -> Finding:
    """Of all others v2 has its share, and nobody gets an error."""
    total = seen.total()
    if seen.keys() - {"v1", "v2"}:
        return wrong(
            f"of {total} requests {where}, {_words(seen)}: some fail",
            f"{_versions(shop)}: does it fit any pod? "
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
    return " and ".join(f"{count} times {version}" for version, count in sorted(seen.items()))


def _routes(shop: MeshedShop) -> str:
    kinds = "virtualservices" if shop.mesh == "istio" else "httproutes,grpcroutes"
    return f"kubectl -n {shop.where.namespace} get {kinds} -o yaml"


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
            "istio": "There are two faults. One makes errors: count the statuses, and compare what "
            "the routes call v2 with what the pods of v2 are called. The other makes no error.",
            "linkerd": "There are two faults, and neither makes an error. For one compare what the "
            "routes call v2 with what the pods of v2 are called.",
        },
        {
            "istio": "A subset picks pods by labels: `kubectl get pods -L version`. And of the "
            "routes in product-public the first that fits is taken: what does a route without "
            "`match` fit?",
            "linkerd": "A version's Service picks pods by labels: `kubectl get pods -L version`. "
            "And of two matches the one with the longer path wins, whatever headers the other one "
            "names.",
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
