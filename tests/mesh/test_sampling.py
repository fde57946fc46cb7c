"""Which share of the traces is kept, over a thousand requests of each way in, none of which has a
trace yet.

In a mesh the gateway decides about what comes through it, whichever service that is for: all of it
is kept as shipped, and what scenario 18 says where there is one. Istio's proxies decide in the same
way about what a caller inside sends. A service decides by its own `trace_sampling_ratio` where no
proxy has: about what reaches it on its pod's own loopback.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.mesh.meshed import Mesh, at_rest, takes_effect
from tests.mesh.scenarios import shows
from tests.mesh.test_matrix import pod_of
from tests.testkit.chance import is_chance
from tests.testkit.customer import Client
from tests.testkit.matrix import TOPOLOGY

REQUESTS = 1_000
_AT_ONCE = 8
# Cheap, and answered by the service alone: of one service for each share.
BY_ITSELF = {
    "frontend": "/robots.txt",
    "product": "/api/categories",
    "auth": "/.well-known/jwks.json",
}
BY_GATEWAY = BY_ITSELF["product"]
# A proxy sends its spans every five seconds, a service every second.
_PROXYS_REST_SECONDS = 11.0
_SERVICES_REST_SECONDS = 4.0


def test_each_share_is_measured() -> None:
    shares = {service.trace_sampling_ratio for service in TOPOLOGY.services.values()}
    assert {TOPOLOGY.services[name].trace_sampling_ratio for name in BY_ITSELF} == shares


@pytest.mark.long
@pytest.mark.parametrize("name", BY_ITSELF)
async def test_a_service_keeps_its_share_of_what_begins_there(mesh: Mesh, name: str) -> None:
    service, path = TOPOLOGY.services[name], BY_ITSELF[name]
    asked = {"method": "GET", "url": f"http://127.0.0.1:{service.http.port}{path}"}

    def kept() -> int:
        return sum(
            not span["parent"]
            and not span["by_proxy"]
            and (span["service"], span["name"]) == (service.workload, f"GET {path}")
            for span in mesh.spans()
        )

    before = await at_rest(kept, _SERVICES_REST_SECONDS)
    answers = mesh.probe(pod_of(name), [asked] * REQUESTS)
    assert {(answer.outcome, answer.detail) for answer in answers} == {("answered", "200")}
    found = await at_rest(kept, _SERVICES_REST_SECONDS) - before
    print(f"{name} begins: {found} of {REQUESTS} traces kept, {service.trace_sampling_ratio}")
    assert is_chance(found, REQUESTS, service.trace_sampling_ratio)


async def test_the_gateway_keeps_all_of_what_begins_there(mesh: Mesh, client: Client) -> None:
    assert TOPOLOGY.services["product"].trace_sampling_ratio < 1, "it would not keep all by itself"
    found = await kept_of(mesh, client, REQUESTS)
    print(f"the gateway begins: {found} of {REQUESTS} traces kept")
    assert is_chance(found, REQUESTS, 1.0)


@pytest.mark.parametrize("scenario", ["18-tracing"])
@shows(no_equivalent_on=["linkerd"])
async def test_one_trace_in_ten(mesh: Mesh, client: Client, scenario: str) -> None:
    with mesh.scenario(scenario):

        async def is_rare() -> bool:
            return await kept_of(mesh, client, 100) < 50

        await takes_effect(is_rare, "few traces are kept")
        # A connection that is older than the scenario is served by the former rules until it ends.
        async with mesh.gateway() as newcomer:
            found = await kept_of(mesh, newcomer, REQUESTS)
    print(f"the gateway begins, in scenario 18: {found} of {REQUESTS} traces kept")
    assert is_chance(found, REQUESTS, 0.1)


async def kept_of(mesh: Mesh, client: Client, count: int) -> int:
    """How many traces of so many requests by the gateway are kept."""

    def traces() -> int:
        gateways = (span for span in mesh.spans() if span["service"].startswith(mesh.first_span))
        return len({span["trace"] for span in gateways})

    before = await at_rest(traces, _PROXYS_REST_SECONDS)
    limit = asyncio.Semaphore(_AT_ONCE)

    async def ask() -> None:
        async with limit:
            answer = await client.send("GET", BY_GATEWAY)
            assert answer.status == 200, answer

    async with asyncio.TaskGroup() as crowd:
        for _ in range(count):
            crowd.create_task(ask())
    return await at_rest(traces, _PROXYS_REST_SECONDS) - before
