"""A rate limit that exists, and refuses nobody."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

from labs.finding import Finding, judged, right, wrong
from labs.lab import Lab, MeshedExercise
from labs.meshed import MeshedShop
from labs.visitor import CATALOGUE, Visitor

_PER_SECOND = 10
_RUSH_SECONDS = 4.0
_AT_ONCE = 8
# Of one pod. A bucket may hold a second or two more than what comes in, and a limiter is no clock.
_MOST = 1.25 * (_PER_SECOND * _RUSH_SECONDS + 2 * _PER_SECOND)
_FEWEST = 0.5 * _PER_SECOND * _RUSH_SECONDS
_CUSTOMERS, _BETWEEN_SECONDS = 10, 0.25
_PAGES, _PAGE = 6, "/about"


class RateLimit(MeshedExercise):
    """Istio: an EnvoyFilter. Linkerd: an HTTPLocalRateLimitPolicy."""

    async def check(self, shop: MeshedShop) -> AsyncIterator[Finding]:
        pods = len(await shop.pods("product-service"))
        if not pods:
            yield wrong(
                "no pod of the catalogue is ready",
                f"kubectl -n {shop.where.namespace} get pods: are the probes refused?",
            )
            return
        async with shop.visitor() as visitor:
            refused = await _one_after_the_other(visitor)
            yield judged(
                not refused,
                f"{_CUSTOMERS} customers, four a second, all get the catalogue",
                f"{refused} of {_CUSTOMERS} customers, four a second, are refused the catalogue",
                f"{_limit(shop)}: how many does it allow in a second, and how many at once?",
            )
            seen, pages = await _rush(visitor)
            yield _rate(shop, seen, pods)
            yield judged(
                set(pages) == {200},
                "other pages are answered meanwhile",
                f"{_PAGES - pages[200]} of {_PAGES} other pages are refused meanwhile",
                f"{_limit(shop)}: whose requests are counted? And "
                f"kubectl -n {shop.where.gateway.namespace} get envoyfilters",
            )
            order = await visitor.insist()
            yield judged(
                order.status == 201,
                "a customer can buy",
                f"a customer cannot buy (the answer is {order.status})",
                f"{_limit(shop)}: whose requests are counted?",
            )
            if order.status == 201:
                await visitor.cancel(order.body["order_id"])


async def _one_after_the_other(visitor: Visitor) -> int:
    """Asks for the catalogue in a customer's pace. Returns how many are not answered."""
    refused = 0
    for _ in range(_CUSTOMERS):
        refused += (await visitor.send("GET", CATALOGUE)).status != 200
        await asyncio.sleep(_BETWEEN_SECONDS)  # the pace is what is tried
    return refused


async def _rush(visitor: Visitor) -> tuple[Counter[int], Counter[int]]:
    """Asks for the catalogue as often as it can, and for another page from time to time. Returns
    the statuses of both.
    """
    clock = asyncio.get_running_loop().time
    until = clock() + _RUSH_SECONDS
    seen, pages = Counter[int](), Counter[int]()

    async def hurry() -> None:
        while clock() < until:
            seen[(await visitor.send("GET", CATALOGUE)).status] += 1

    async def look_elsewhere() -> None:
        for _ in range(_PAGES):
            await asyncio.sleep(_RUSH_SECONDS / (_PAGES + 1))
            pages[(await visitor.send("GET", _PAGE)).status] += 1

    await asyncio.gather(look_elsewhere(), *(hurry() for _ in range(_AT_ONCE)))
    return seen, pages


def _rate(shop: MeshedShop, seen: Counter[int], pods: int) -> Finding:
    """Whether about as many are let in as should be, and all others told to slow down."""
    sent, let_in, refused = seen.total(), seen[200], seen[429]
    said = f"of {sent} requests in {_RUSH_SECONDS:.0f} s {let_in} were accepted"
    if seen.keys() - {200, 429}:
        others = sorted(seen.keys() - {200, 429})
        return wrong(f"{said}, and some got {others}", "the mesh page: which service fails?")
    if sent < 2 * _MOST * pods:
        return wrong(
            f"{said}: too few were sent to test the limit",
            "what else runs on this machine, and check again",
        )
    if not _FEWEST * pods <= let_in <= _MOST * pods:
        expected = f"{_PER_SECOND} a second for each of {pods} pods"
        return wrong(
            f"{said} and {refused} refused, not {expected}",
            f"{_limit(shop)}: for which time is the number, and does the limit only count?",
        )
    return right(f"{said}, and {refused} refused with 429")


def _limit(shop: MeshedShop) -> str:
    get = f"kubectl -n {shop.where.namespace} get"
    if shop.mesh == "istio":
        return f"{get} envoyfilter product-rate-limit -o yaml"
    return f"{get} httplocalratelimitpolicy product-service -o yaml"


HERE = Path(__file__).parent

LAB = Lab(
    HERE,
    meshed=RateLimit(HERE),
    hints=(
        "The limit exists, and is in the right place. Compare its numbers and their units with the "
        "task.",
        {
            "istio": "A token bucket gets `tokens_per_fill` each `fill_interval`, and holds "
            "`max_tokens`. And what does Envoy do with a request that finds no token, if "
            "`filter_enforced` is missing?",
            "linkerd": "The field is called requestsPerSecond. How many a second is 600 a minute?",
        },
        {
            "istio": "token_bucket: {max_tokens: 10, tokens_per_fill: 10, fill_interval: 1s} and "
            "filter_enforced: {default_value: {numerator: 100}}, as in "
            "mesh/istio/scenarios/12-rate-limit-at-a-service/limit.yaml.",
            "linkerd": "identity: {requestsPerSecond: 10}, as in "
            "mesh/linkerd/scenarios/12-rate-limit-at-a-service/limit.yaml.",
        },
    ),
)
