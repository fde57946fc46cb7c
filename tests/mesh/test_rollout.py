"""The secure shop is switched on and off while people buy: nobody's purchase fails.

In the order of steps of mesh/istio/README.md.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from tests.cluster.crowd import buy_once, buying_during
from tests.harness.customer import Client
from tests.mesh.conftest import ENTRY
from tests.mesh.meshed import BASE, OUTSIDER, Mesh

_ENOUGH = 40
# authorization.yaml goes first: it needs what tokens.yaml says.
ON_TOP = (
    BASE / "authorization.yaml",
    *sorted(
        {*BASE.glob("*.yaml")} - {*ENTRY, BASE / "authorization.yaml", BASE / "kustomization.yaml"}
    ),
)
KEYS = {"method": "GET", "url": "http://product-service.ecommerce:3000/api/categories"}


def is_open(mesh: Mesh) -> bool:
    """Whether somebody without a proxy is answered."""
    (answer,) = mesh.probe(OUTSIDER, [KEYS])
    return answer.outcome == "answered"


@pytest.fixture
async def people(proxied: Mesh) -> AsyncGenerator[Client]:
    async with proxied.gateway() as client:
        yield client


async def test_on_and_off_again(proxied: Mesh, people: Client) -> None:
    proxied.apply(BASE)
    assert not is_open(proxied)

    def off_and_on() -> None:
        proxied.delete(*ON_TOP)
        assert is_open(proxied)
        proxied.apply(BASE)
        assert not is_open(proxied)

    purchases = await buying_during(off_and_on, people, buy_once, at_least=_ENOUGH)
    print(purchases)
    assert not purchases.failures, purchases
