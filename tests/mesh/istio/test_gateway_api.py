"""The same ingress as Gateway API resources."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import aiohttp
import pytest
from yarl import URL

from tests.cluster.crowd import buy_once
from tests.mesh.istio.mesh import BASE
from tests.mesh.meshed import HOST, Mesh, Namespaced, takes_effect
from tests.testkit.cluster import Namespace
from tests.testkit.customer import Client, Customer

GATEWAY = Namespaced("shop-ingress", "ecommerce-gateway-istio")
OVERLAY = BASE.parent / "gateway-api"


@pytest.fixture(scope="module")
def with_gateway(mesh: Mesh) -> Mesh:
    mesh.apply(OVERLAY)
    namespace = Namespace(GATEWAY.namespace)
    namespace.kubectl(
        "wait", "gateway/ecommerce-gateway", "--for=condition=Accepted", "--timeout=60s"
    )
    namespace.roll_out(f"deployment/{GATEWAY.name}")
    return mesh


@pytest.fixture
async def people(with_gateway: Mesh) -> AsyncGenerator[Client]:
    async with with_gateway.gateway(service=GATEWAY) as client:

        async def is_open() -> bool:
            try:
                return (await client.send("GET", "/api/categories")).status == 200
            except aiohttp.ClientError:
                return False  # nobody listens there yet

        await takes_effect(is_open, "the gateway leads to the shop")
        yield client


async def test_a_purchase(people: Client) -> None:
    customer = await Customer.register(people)
    answer = await buy_once(customer, {"oak-serving-board": 1})
    assert (answer.status, answer.body["state"]) == (201, "confirmed")


async def test_http_is_sent_to_https(people: Client, with_gateway: Mesh) -> None:
    async with with_gateway.gateway(service=GATEWAY, port="http") as client:
        answer = await client.send("GET", "/products?q=oak")
    assert answer.status == 301
    location = URL(answer.headers["location"])
    assert (location.scheme, location.host, location.path_qs) == ("https", HOST, "/products?q=oak")


@pytest.mark.parametrize(
    ("path", "status"),
    [("/metrics", 404), ("/api/payments/x", 404), ("/api/orders/x/secrets", 403)],
)
async def test_what_is_not_public_is_refused(people: Client, path: str, status: int) -> None:
    assert (await people.send("GET", path)).status == status


async def test_it_can_be_taken_away(with_gateway: Mesh) -> None:
    with_gateway.delete(OVERLAY)
    async with with_gateway.gateway() as people:
        assert (await people.send("GET", "/api/categories")).status == 200
