"""A slow catalogue, and callers that try five times and wait for none of the answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from labs.finding import Finding, judged, right, wrong
from labs.lab import Lab, MeshedExercise
from labs.meshed import Done, MeshedShop
from labs.waiting import at_rest

_OPERATION = "GET /api/products"
_LATENCY_SECONDS = 1.0
_CUSTOMERS, _AT_ONCE = 200, 25
# One answer in ten is an error. Nobody tries again: about 20 customers get it, and less than nine
# once in 700 times. Each tries once more: about two, and more than eight once in 4,000 times.
_ERROR_SHARE = 0.1
_MOST_ERRORS = 8
# Of the catalogue's own answers. Among 200 there are less than four once in 300,000 times.
_STILL_FAILS_SHARE = 0.02
# With one more try for each error it is 1.1.
_MOST_ASKED = 1.5 * _CUSTOMERS
_REST_SECONDS, _PAUSE_SECONDS = 20.0, 1.2 * _LATENCY_SECONDS


class RetryStorm(MeshedExercise):
    """The catalogue takes a second, and fails for one request in ten."""

    values: ClassVar[Mapping[str, Any]] = {
        "services": {
            "product": {
                "environment": {
                    "FAULT_LATENCY_SECONDS": str(_LATENCY_SECONDS),
                    "FAULT_ERROR_SHARE": str(_ERROR_SHARE),
                    "FAULT_OPERATIONS": _OPERATION,
                },
                "variants": {"v2": 0},  # one pod gets all requests, and counts them
            }
        }
    }

    async def solve(self, shop: MeshedShop) -> None:
        if shop.mesh == "istio":
            await shop.apply_of_mesh("base/destinations/product")
            await shop.apply_of_mesh("base/routes.yaml")
        else:
            await shop.apply_of_mesh("base/calls.yaml")

    async def check(self, shop: MeshedShop) -> AsyncIterator[Finding]:
        before = await _at_rest(shop)
        async with shop.visitor() as visitor:
            statuses = await visitor.statuses(_CUSTOMERS, at_once=_AT_ONCE)
        after = await _at_rest(shop)
        asked = after.requests - before.requests
        if not asked or after.seconds - before.seconds < asked * _LATENCY_SECONDS * 0.9:
            yield wrong(
                f"the catalogue got {asked} requests, and is not slow any more: it was fixed, or "
                "no request reaches it",
                "the task in README.md: the catalogue stays slow, and its callers must cope. Start "
                "the lab again",
            )
            return
        failed = after.errors - before.errors
        if failed < asked * _STILL_FAILS_SHARE:
            yield wrong(
                f"of {asked} answers of the catalogue {failed} are errors, not one in ten: it was "
                "fixed",
                "the task in README.md: the catalogue still fails, and its callers must cope. "
                "Start the lab again",
            )
            return
        yield right("the catalogue still takes a second for an answer, and fails now and then")
        yield judged(
            asked <= _MOST_ASKED,
            f"{_CUSTOMERS} customers make {asked} requests of the catalogue",
            f"{_CUSTOMERS} customers make {asked} requests of the catalogue, "
            f"{asked / _CUSTOMERS:.1f} for each",
            f"{_routes(shop)}: how long does a try last, and how many retries follow?",
        )
        errors = _CUSTOMERS - statuses[200]
        yield judged(
            errors <= _MOST_ERRORS,
            f"{_CUSTOMERS - errors} of {_CUSTOMERS} customers get the catalogue",
            f"{errors} of {_CUSTOMERS} customers do not get the catalogue ({_words(statuses)})",
            f"{_routes(shop)}: is there time for an answer (if not: 504), and a retry after an "
            "error (if not: 503)?",
        )


async def _at_rest(shop: MeshedShop) -> Done:
    """What the catalogue has done once it does nothing any more, also for those who are gone."""
    # What is under way ends between two looks.
    return await at_rest(lambda: _done(shop), "the catalogue", _REST_SECONDS, _PAUSE_SECONDS)


async def _done(shop: MeshedShop) -> Done:
    """What all pods of the catalogue have done."""
    pods = [pod["metadata"]["name"] for pod in await shop.pods("product-service")]
    each = [await shop.done(pod, "product", _OPERATION) for pod in pods]
    return Done(
        sum(done.requests for done in each),
        sum(done.seconds for done in each),
        sum(done.errors for done in each),
    )


def _words(statuses: Mapping[int, int]) -> str:
    return " and ".join(
        f"{count} times {status or 'no answer'}"
        for status, count in sorted(statuses.items())
        if status != 200
    )


def _routes(shop: MeshedShop) -> str:
    get = f"kubectl -n {shop.where.namespace} get"
    if shop.mesh == "istio":
        return f"{get} virtualservice/product-public destinationrule/product-service -o yaml"
    return f"{get} httproute/product-service-repeatable -o yaml"


HERE = Path(__file__).parent

LAB = Lab(
    HERE,
    meshed=RetryStorm(HERE),
    hints=(
        "The catalogue needs a second. How long does a caller wait before it sends the same "
        "request again, and what happens to the first one?",
        {
            "istio": "`perTryTimeout` must be longer than the callee needs, and `timeout` longer "
            "than all tries together. Why four retries, if nine requests in ten need none?",
            "linkerd": "retry.linkerd.io/timeout must be longer than the callee needs, and the "
            "rule's timeouts.request longer than all tries together. Why four retries, if nine "
            "requests in ten need none?",
        },
        {
            "istio": "In virtualservice/product-public no perTryTimeout, and `retries: {attempts: "
            '1, retryOn: "connect-failure,refused-stream,reset-before-request,503"}`; in '
            "destinationrule/product-service `retryBudget: {percent: 20, minRetryConcurrency: 3}`: "
            "mesh/istio/base/routes.yaml and base/destinations/product have both.",
            "linkerd": "httproute/product-service-repeatable: no retry.linkerd.io/timeout, "
            "retry.linkerd.io/http: 502-503, retry.linkerd.io/limit: 1, as in "
            "mesh/linkerd/base/calls.yaml.",
        },
    ),
)
