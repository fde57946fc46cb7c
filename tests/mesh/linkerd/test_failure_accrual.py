"""The only pod of a service is asked on, however often it fails: there is no other to ask."""

from __future__ import annotations

from tests.mesh.meshed import Mesh

PAYMENT = "payment-service.ecommerce:9000"
REFUSED = {"target": PAYMENT, "rpc": "/meshmart.payment.v1.PaymentService/Undeclared"}
DECLARED = {"target": PAYMENT, "rpc": "/meshmart.payment.v1.PaymentService/Authorize"}
# Linkerd leaves a pod alone after seven in a row, where it does; some are under way at once.
MANY = 24


async def test_failures_in_a_row_take_no_only_pod_away(mesh: Mesh) -> None:
    requests = [REFUSED] * MANY + [DECLARED] * 4
    answers = mesh.probe("deployment/order-service", requests)
    outcomes = [answer.outcome for answer in answers]
    assert outcomes == ["denied"] * MANY + ["answered"] * 4, answers
