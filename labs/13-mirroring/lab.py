"""Copies of real traffic for a new version, which never arrive."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from labs.finding import Finding, judged, right, wrong
from labs.lab import Lab, MeshedExercise
from labs.meshed import MeshedShop
from labs.visitor import CATALOGUE, PRODUCT
from labs.waiting import at_rest

# What reads the catalogue at the gateway, and what the service calls it.
_READS: Mapping[str, str] = {
    CATALOGUE: "GET /api/products",
    f"/api/products/{PRODUCT}": "GET /api/products/{product_id}",
}
_REQUESTS = 60
_PAGES = 20
# Nobody waits for a copy, so it may arrive after the answer.
_REST_SECONDS, _PAUSE_SECONDS = 10.0, 0.5


class Mirroring(MeshedExercise):
    """Two versions of the catalogue."""

    values: ClassVar[Mapping[str, Any]] = {"services": {"product": {"variants": {"v2": 1}}}}

    async def check(self, shop: MeshedShop) -> AsyncIterator[Finding]:
        pods = await shop.pods("product-service")
        new = [
            pod["metadata"]["name"] for pod in pods if pod["metadata"]["labels"]["version"] == "v2"
        ]
        if len(new) != 1:
            yield wrong(
                f"v2 has {len(new)} ready pods, not one",
                f"kubectl -n {shop.where.namespace} get pods -L version: start the lab again",
            )
            return
        yield right("v2 has one ready pod")

        for path, operation in _READS.items():
            async for finding in _copied(shop, new[0], path, operation):
                yield finding
        async with shop.visitor() as visitor:
            behind_pages = await visitor.versions_behind_pages(_PAGES)
        yield judged(
            set(behind_pages) == {"v1"},
            f"v1 answers what {_PAGES} pages request from the catalogue",
            f"what {_PAGES} pages request from the catalogue is answered {_said(behind_pages)}: v2 "
            "is not for customers yet",
            f"kubectl -n {shop.where.namespace} get virtualservice/product-service -o yaml: which "
            "version gets requests from frontend?",
        )
        yield await shop.audit()


async def _copied(shop: MeshedShop, pod: str, path: str, operation: str) -> AsyncGenerator[Finding]:
    """Whether v1 answers a path for everybody, and v2 gets a copy of each request."""

    async def served() -> int:
        return (await shop.done(pod, "product", operation)).requests

    before = await served()
    async with shop.visitor() as visitor:
        seen = await visitor.versions(_REQUESTS, path=path)
    where = path.partition("?")[0]
    yield judged(
        set(seen) == {"v1"},
        f"{_REQUESTS} customers are answered by v1 at {where}",
        f"{_REQUESTS} customers are answered {_said(seen)} at {where}: v2 is not for them yet",
        f"{_rule(shop)}: which version gets a request, and which its copy?",
    )
    copies = await at_rest(served, "v2", _REST_SECONDS, _PAUSE_SECONDS) - before
    yield judged(
        copies == _REQUESTS,
        f"v2 got {copies} copies of {_REQUESTS} requests at {where}",
        f"v2 got {copies} copies of {_REQUESTS} requests at {where}",
        f"{_rule(shop)}: which requests are copied, which share of them, and which pods does the "
        f"subset have? kubectl -n {shop.where.namespace} get pods -L version",
    )


def _said(seen: Mapping[str, int]) -> str:
    """Who has answered how often, in words."""
    return " and ".join(f"{count} times {version}" for version, count in sorted(seen.items()))


def _rule(shop: MeshedShop) -> str:
    get = f"kubectl -n {shop.where.namespace} get"
    return f"{get} virtualservice/product-public destinationrule/product-service -o yaml"


HERE = Path(__file__).parent

LAB = Lab(
    HERE,
    meshed=Mirroring(HERE),
    not_in={
        "linkerd": "Linkerd does not copy requests "
        "(mesh/linkerd/scenarios/13-mirroring/README.md says what to do instead)"
    },
    hints=(
        "Nobody gets an error, since the proxy drops the answers to copies, and so their errors. "
        "Count at v2 how many copies arrive, and compare their destination with v2's pods.",
        "A copy goes to a subset, and a subset selects pods by labels: `kubectl -n ecommerce get "
        "pods -L version`. And `mirrorPercentage` says how many of a hundred requests are copied.",
        "In destinationrule/product-service the subset v2 needs `version: v2`; in "
        "virtualservice/product-public `mirrorPercentage: {value: 100}`.",
    ),
)
