"""The scenarios that say which version, and which pod, answers: each with the traffic that shows
its effect, and with the traffic that shows that it was not there before.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

import pytest

from services.common import call_record
from tests.mesh.meshed import Mesh, at_rest, takes_effect
from tests.mesh.scenarios import shows
from tests.testkit.customer import Answer, Client

CATALOGUE = "/api/products?limit=1"
CANARY = {"canary": "true"}
COOKIE = {"cookie": "theme=dark; canary=true"}
TELEPHONE = {"user-agent": "Mozilla/5.0 (Linux; Android 16) Mobile Safari/537.36"}
BETA = {"x-user-group": "beta"}


def served(answer: Answer) -> call_record.Served:
    served = call_record.decode(answer.headers.get(call_record.HEADER))
    assert served is not None, answer
    return served


def _refusal(answer: Answer) -> str:
    """What stands in the place of a version where nobody has answered. A proxy that hears of a
    route to a version before it can reach that version's pods answers 503 for that moment.
    """
    return str(answer.status)


async def versions(
    client: Client, count: int, headers: Mapping[str, str] = {}, path: str = CATALOGUE
) -> Counter[str]:
    """Which versions answer so many requests, and what is answered in their place."""
    seen: Counter[str] = Counter()
    for _ in range(count):
        answer = await client.send("GET", path, headers=headers)
        seen[served(answer).version if answer.status == 200 else _refusal(answer)] += 1
    return seen


async def versions_behind_pages(
    client: Client, count: int, headers: Mapping[str, str] = {}
) -> Counter[str]:
    """Which versions of the catalogue the frontend is answered by when it makes so many pages, and
    what is answered in the place of a page.
    """
    seen: Counter[str] = Counter()
    for _ in range(count):
        answer = await client.send("GET", "/products", headers=headers)
        if answer.status != 200:
            seen[_refusal(answer)] += 1
            continue
        seen.update(call.version for call in served(answer).calls if call.callee == "product")
    return seen


def within_chance(found: int, count: int, share: float) -> bool:
    """Whether so many of `count` draws are what a share of `share` gives but once in 30,000 times
    (four standard deviations of the binomial distribution).
    """
    return abs(found - count * share) <= 4 * math.sqrt(count * share * (1 - share))


def is_share(seen: Counter[str], share: float) -> bool:
    """Whether v2 has so large a share, and v1 all others."""
    return seen.keys() <= {"v1", "v2"} and within_chance(seen["v2"], seen.total(), share)


async def everybody_sees(client: Client, *wanted: str, headers: Mapping[str, str] = {}) -> None:
    """Waits until these versions answer: at the gateway, and behind the frontend's pages."""

    async def look() -> bool:
        return (
            set(await versions(client, 24, headers))
            == set(await versions_behind_pages(client, 12, headers))
            == set(wanted)
        )

    await takes_effect(look, f"{wanted} and no other version answers")


async def people_outside_see(client: Client, *wanted: str) -> None:
    """The same at the gateway alone."""

    async def look() -> bool:
        return set(await versions(client, 24)) == set(wanted)

    await takes_effect(look, f"{wanted} and no other version answers at the gateway")


@pytest.mark.parametrize(
    ("scenario", "headers"),
    [("01-canary-by-header", CANARY), ("02-canary-by-cookie", COOKIE)],
    ids=["01-canary-by-header", "02-canary-by-cookie"],
)
@shows()
async def test_canary_for_those_who_ask(
    mesh: Mesh, client: Client, scenario: str, headers: Mapping[str, str]
) -> None:
    await everybody_sees(client, "v1", "v2", headers=headers)
    with mesh.scenario(scenario):
        await everybody_sees(client, "v1")
        assert set(await versions(client, 40, headers)) == {"v2"}
        assert set(await versions(client, 40)) == {"v1"}
        assert set(await versions_behind_pages(client, 10, headers)) == {"v2"}
        assert set(await versions_behind_pages(client, 10)) == {"v1"}
    await everybody_sees(client, "v1", "v2", headers=headers)


@pytest.mark.parametrize("scenario", [f"03-canary-by-weight/{n}" for n in (10, 50, 100)])
@shows()
async def test_canary_by_weight(mesh: Mesh, client: Client, scenario: str) -> None:
    count = 400
    percent = int(scenario.rpartition("/")[2])
    with mesh.scenario(scenario):

        async def is_split() -> bool:
            seen = await versions(client, 100)
            pages = await versions_behind_pages(client, 50)
            return is_share(seen, percent / 100) and is_share(pages, percent / 100)

        await takes_effect(is_split, f"about {percent} % see v2")
        seen = await versions(client, count)
        pages = await versions_behind_pages(client, 50)
    print(
        f"weight {percent}: {seen['v2']} of {count}, behind pages {pages['v2']} of {pages.total()}"
    )
    assert is_share(seen, percent / 100), seen
    assert is_share(pages, percent / 100), pages
    await everybody_sees(client, "v1", "v2")


@pytest.mark.parametrize("scenario", ["04-ab-frontends"])
@shows()
async def test_a_b_frontends(mesh: Mesh, client: Client, scenario: str) -> None:
    looks = {"stable", "mobile-optimized", "beta-features"}

    async def is_mixed() -> bool:
        return set(await versions(client, 40, TELEPHONE, path="/about")) == looks

    async def is_chosen() -> bool:
        return set(await versions(client, 20, path="/about")) == {"stable"}

    await takes_effect(is_mixed, "all frontends answer telephones")
    with mesh.scenario(scenario):
        await takes_effect(is_chosen, "the stable frontend alone answers")
        assert set(await versions(client, 30, TELEPHONE, path="/about")) == {"mobile-optimized"}
        assert set(await versions(client, 30, BETA, path="/about")) == {"beta-features"}
        both = {**TELEPHONE, **BETA}
        assert set(await versions(client, 10, both, path="/about")) == {"mobile-optimized"}
        assert set(await versions(client, 30, path="/about")) == {"stable"}
    await takes_effect(is_mixed, "all frontends answer telephones again")


@pytest.mark.parametrize("scenario", ["10-consistent-hash"])
@shows(no_equivalent_on=["linkerd"])
async def test_one_users_requests_reach_one_pod(mesh: Mesh, scenario: str) -> None:
    stock = "/meshmart.inventory.v1.InventoryService/GetStock"
    target = "inventory-service.ecommerce:9000"

    def pods_of(user: str, count: int = 12) -> set[str]:
        requests = [{"target": target, "rpc": stock, "headers": {"user-id": user}}] * count
        answers = mesh.probe("deployment/product-service", requests)
        assert all(answer.outcome == "answered" for answer in answers), answers
        return {answer.pod for answer in answers}

    users = [f"user-{number}" for number in range(12)]
    mesh.namespace.kubectl("scale", "deployment/inventory-service", "--replicas=3")
    mesh.namespace.roll_out("deployment/inventory-service")
    try:

        async def is_mixed() -> bool:
            return len(pods_of("user-1", 30)) == 3

        await takes_effect(is_mixed, "one user's requests reach all pods")
        with mesh.scenario(scenario):

            async def is_sticky() -> bool:
                return len(pods_of("user-1")) == 1

            await takes_effect(is_sticky, "one user's requests reach one pod")
            found = {user: pods_of(user) for user in users}
            assert all(len(pods) == 1 for pods in found.values()), found
            assert len({pod for pods in found.values() for pod in pods}) > 1, (
                "different users, different pods"
            )
        await takes_effect(is_mixed, "one user's requests reach all pods again")
    finally:
        mesh.namespace.kubectl("scale", "deployment/inventory-service", "--replicas=1")
        mesh.namespace.roll_out("deployment/inventory-service")


@pytest.mark.parametrize("scenario", ["16-failover"])
@shows(no_equivalent_on=["linkerd"])
async def test_the_second_version_takes_over(mesh: Mesh, client: Client, scenario: str) -> None:
    await everybody_sees(client, "v1", "v2")
    with mesh.scenario(scenario):
        await everybody_sees(client, "v1")
        mesh.namespace.kubectl("scale", "deployment/product-service", "--replicas=0")
        try:
            await everybody_sees(client, "v2")
        finally:
            mesh.namespace.kubectl("scale", "deployment/product-service", "--replicas=1")
            mesh.namespace.roll_out("deployment/product-service")
        await everybody_sees(client, "v1")
    await everybody_sees(client, "v1", "v2")


@pytest.mark.parametrize("scenario", ["17-split-by-gateway-api"])
@shows()
async def test_split_by_gateway_api(mesh: Mesh, client: Client, scenario: str) -> None:
    with mesh.scenario(scenario):
        mesh.namespace.kubectl("delete", *mesh.catalogue_routes)

        async def is_split() -> bool:
            seen = await versions_behind_pages(client, 40)
            return seen["v1"] > seen["v2"] and is_share(seen, 0.1)

        await takes_effect(is_split, "about 10 % of what pages ask for is answered by v2")
        seen = await versions_behind_pages(client, 150)
    print(f"Gateway API, weight 10: {seen['v2']} of {seen.total()}")
    assert is_share(seen, 0.1), seen


@pytest.mark.parametrize("scenario", ["13-mirroring"])
@shows(no_equivalent_on=["linkerd"])
async def test_a_copy_is_sent_and_its_answer_thrown_away(
    mesh: Mesh, client: Client, scenario: str
) -> None:
    (canary,) = [pod for pod in mesh.release.pods("product-service") if "-v2-" in pod]

    def copies() -> int:
        said = mesh.namespace.kubectl(
            *("exec", canary, "-c", "product", "--", "python", "-c", _READ_METRICS)
        )
        return int(float(said))

    with mesh.scenario(scenario):
        await people_outside_see(client, "v1")
        before = await at_rest(copies, 1.0)
        assert set(await versions(client, 50)) == {"v1"}

        async def all_copied() -> bool:
            return copies() - before >= 50

        await takes_effect(all_copied, "v2 got fifty copies")
        assert copies() - before == 50
        assert set(await versions_behind_pages(client, 20)) == {"v1"}
    await everybody_sees(client, "v1", "v2")


# How many requests a pod has answered on the catalogue's route.
_READ_METRICS = """
import urllib.request
with urllib.request.urlopen("http://127.0.0.1:3000/metrics") as answer:
    lines = answer.read().decode().splitlines()
print(sum(float(line.rpartition(" ")[2]) for line in lines
          if line.startswith("meshmart_request_seconds_count") and '/api/products"' in line))
"""
