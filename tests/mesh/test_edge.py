"""Where people come in: HTTPS for one host, declared paths only, and nothing from outside is
believed that only the mesh may say.
"""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp
import pytest
from yarl import URL

from tests.cluster.crowd import buy_once
from tests.mesh.meshed import ECHO_HOST, HOST, Mesh, takes_effect
from tests.testkit.customer import Client, Customer


async def test_http_is_sent_to_https(in_a_mesh: Mesh) -> None:
    async with in_a_mesh.gateway(port="http") as people:
        answer = await people.send("GET", "/products?q=oak")
    assert answer.status == 301
    location = URL(answer.headers["location"])  # with the port that was asked, which is not 80 here
    assert (location.scheme, location.host, location.path_qs) == ("https", HOST, "/products?q=oak")


async def test_another_host_is_not_answered(in_a_mesh: Mesh) -> None:
    async with in_a_mesh.gateway(port="http", host="other.example.com") as people:
        assert (await people.send("GET", "/")).status == 404
    async with in_a_mesh.gateway(host="other.example.com") as people:
        with pytest.raises(aiohttp.ClientError):
            await people.send("GET", "/")


async def test_a_purchase(client: Client) -> None:
    customer = await Customer.register(client)
    answer = await buy_once(customer, {"oak-serving-board": 1})
    assert (answer.status, answer.body["state"]) == (201, "confirmed")
    assert (await customer.order(answer.body["order_id"])).status == 200


def test_the_charts_own_test_comes_in_as_people_do(mesh: Mesh) -> None:
    """No rule lets its pod in: it has no proxy, and asks the gateway."""
    assert "Succeeded" in mesh.namespace.helm("test", "shop", "--timeout", "120s")


@pytest.mark.parametrize("path", ["/api/payments/x", "/admin", "/metrics", "/readyz", "/api"])
async def test_what_is_not_public_does_not_exist(
    in_a_mesh: Mesh, client: Client, path: str
) -> None:
    assert (await client.send("GET", path)).status == 404


async def test_a_declared_path_takes_declared_methods_only(in_a_mesh: Mesh, client: Client) -> None:
    assert (await client.send("DELETE", "/api/products")).status == 403


@pytest.mark.parametrize("path", ["/products", "/api/products"])
async def test_what_is_read_may_be_asked_for_by_head(client: Client, path: str) -> None:
    answer = await client.send("HEAD", path)
    assert (answer.status, answer.text) == (200, "")


# In the mesh's own words these mean something, or would if a service believed them.
FORGED = {
    "x-envoy-upstream-rq-timeout-ms": "1",
    "x-envoy-retry-on": "5xx",
    "x-envoy-max-retries": "9",
    "x-envoy-force-trace": "1",
    "l5d-dst-override": "payment-service.ecommerce.svc.cluster.local:3000",
    "x-user-id": "somebody-else",
    "x-user-roles": "admin",
    "x-user-groups": "staff",
    "user-id": "somebody-else",
    "x-deadline-ms": "1",
    "baggage": "user=somebody-else",
}
HARMLESS = {"x-user-group": "beta", "canary": "true", "accept-language": "nl"}


async def test_forged_headers_end_at_the_edge(in_a_mesh: Mesh) -> None:
    in_a_mesh.lead_to_echo()
    async with in_a_mesh.gateway(port=in_a_mesh.echo_port, host=ECHO_HOST) as people:

        async def heard() -> Mapping[str, str]:
            try:
                answer = await people.send("GET", "/", headers={**FORGED, **HARMLESS})
            except aiohttp.ClientError:
                return FORGED  # the gateway has not been told of the echo
            return answer.body if answer.status == 200 else FORGED

        async def nothing_forged_is() -> bool:
            return not FORGED.items() & (await heard()).items()

        # A gateway is told of the way to the echo and of what ends there one after the other.
        await takes_effect(nothing_forged_is, "what is forged ends at the edge")
        for _ in range(20):
            reached = await heard()
            assert FORGED.items() & reached.items() == set(), reached
            assert HARMLESS.items() <= reached.items()
