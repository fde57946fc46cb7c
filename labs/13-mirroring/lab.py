"""Copies of real traffic for a new version, which never arrive."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from labs.finding import Finding, judged, right, wrong
from labs.lab import Lab, MeshedExercise
from labs.meshed import MeshedShop
from labs.waiting import at_rest

_OPERATION = "GET /api/products"
_REQUESTS = 60
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
                f"there are {len(new)} pods of v2 that are ready, and not one",
                f"kubectl -n {shop.where.namespace} get pods -L version: start the lab again",
            )
            return
        yield right("a pod of v2 is there")

        async def served() -> int:
            return (await shop.done(new[0], "product", _OPERATION)).requests

        before = await served()
        async with shop.visitor() as visitor:
            seen = await visitor.versions(_REQUESTS)
        said = " and ".join(f"{count} times {version}" for version, count in sorted(seen.items()))
        yield judged(
            set(seen) == {"v1"},
            f"{_REQUESTS} customers are answered by v1",
            f"{_REQUESTS} customers are answered {said}: v2 is not for them yet",
            f"{_rule(shop)}: to whom does a request go, and to whom its copy?",
        )

        copies = await at_rest(served, "v2", _REST_SECONDS, _PAUSE_SECONDS) - before
        yield judged(
            copies == _REQUESTS,
            f"v2 has got {copies} copies of {_REQUESTS} requests",
            f"v2 has got {copies} copies of {_REQUESTS} requests",
            f"{_rule(shop)}: which share is copied, and which pods are the subset? "
            f"kubectl -n {shop.where.namespace} get pods -L version",
        )


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
        "Nobody gets an error, since the answer to a copy is thrown away, an error too. So count "
        "at v2 what arrives there, and compare the copy's destination with v2's pods.",
        "A copy goes to a subset, and a subset picks pods by labels: `kubectl -n ecommerce get "
        "pods -L version`. And `mirrorPercentage` says how many of a hundred requests are copied.",
        "In destinationrule/product-service the subset v2 needs `version: v2`; in "
        "virtualservice/product-public `mirrorPercentage: {value: 100}`.",
    ),
)
