"""The secure shop is switched on and off while people buy: nobody's purchase fails.

In the order of steps of the mesh's README.md.
"""

from __future__ import annotations

from tests.cluster.crowd import buy_once, buying_during
from tests.mesh.meshed import OUTSIDER, Mesh
from tests.testkit.customer import Client

_ENOUGH = 40
# NetworkPolicies let everybody come to the frontend.
PAGE = {"method": "GET", "url": "http://frontend.ecommerce/about"}


def is_open(mesh: Mesh) -> bool:
    """Whether somebody without a proxy is answered."""
    (answer,) = mesh.probe(OUTSIDER, [PAGE])
    return answer.outcome == "answered"


async def test_on_and_off_again(in_a_mesh: Mesh, client: Client) -> None:
    assert not is_open(in_a_mesh)

    def off_and_on() -> None:
        in_a_mesh.open()
        assert is_open(in_a_mesh)
        in_a_mesh.close()
        assert not is_open(in_a_mesh)

    purchases = await buying_during(off_and_on, client, buy_once, at_least=_ENOUGH)
    print(purchases)
    assert not purchases.failures, purchases
