"""The pod that fails sends requests on in another service's name: not for everybody."""

from __future__ import annotations

import pytest

from tests.mesh.meshed import OUTSIDER, Mesh, takes_effect
from tests.testkit.matrix import STRANGER

PAY = {"target": "faulty.ecommerce:9000", "rpc": "/meshmart.payment.v1.PaymentService/Authorize"}
LOOK = {"method": "GET", "url": "http://faulty.ecommerce:3000/api/categories"}
ORDER, FRONTEND, USER = (
    f"deployment/{name}" for name in ("order-service", "frontend", "user-service")
)


@pytest.mark.parametrize(
    ("scenario", "wanted", "declared"),
    [
        ("05-fault-delay", PAY, ORDER),
        ("06-fault-abort", PAY, ORDER),
        ("07-retries-and-timeouts", LOOK, FRONTEND),
    ],
)
async def test_it_serves_the_callers_of_that_service_alone(
    mesh: Mesh, scenario: str, wanted: dict[str, str], declared: str
) -> None:
    def outcome(pod: str) -> str:
        return mesh.probe(pod, [wanted])[0].outcome

    async def is_let_in() -> bool:
        return outcome(declared) != "denied"

    with mesh.without_network_policies(), mesh.scenario(scenario):
        await takes_effect(is_let_in, "who is declared is let in")
        assert [outcome(pod) for pod in (USER, STRANGER, OUTSIDER)] == ["denied"] * 3
