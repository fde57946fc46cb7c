"""Every declared request is allowed, and every other one is denied: each caller against each
operation of each service, sent from the caller's own pods.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from tests.harness.customer import Client, Customer
from tests.harness.matrix import (
    RPC,
    STRANGER,
    TOPOLOGY,
    Operation,
    is_declared,
    operations,
    sample,
)
from tests.mesh.meshed import BASE, OUTSIDER, Mesh, takes_effect

CALLERS = (*TOPOLOGY.services, STRANGER)


def request(operation: Operation, token: str | None) -> dict[str, Any]:
    """The operation for probe.py."""
    service = TOPOLOGY.services[operation.callee]
    host = f"{service.workload}.{TOPOLOGY.namespace}"
    if operation.verb == RPC:
        assert service.grpc is not None
        return {"target": f"{host}:{service.grpc.service_port}", "rpc": f"/{operation.path}"}
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return {
        "method": operation.verb,
        "url": f"http://{host}:{service.http.service_port}{sample(operation.path)}",
        "headers": headers,
    }


@pytest.fixture
async def open_egress(mesh: Mesh) -> AsyncGenerator[Mesh]:
    """The mesh in which every proxy knows everybody, so that it is the callee who judges."""
    mesh.delete(BASE / "egress.yaml")
    probe = request(Operation("payment", "GET", "/metrics"), None)

    async def reaches_payment() -> bool:
        (answer,) = mesh.probe("deployment/frontend", [probe])
        return answer.outcome == "denied"

    await takes_effect(reaches_payment, "frontend's proxy knows payment")
    yield mesh
    mesh.apply(BASE / "egress.yaml")


async def test_every_caller_and_every_operation(open_egress: Mesh, client: Client) -> None:
    token = (await Customer.register(client)).token
    asked = list(operations())
    verdicts: Counter[str] = Counter()
    wrong: list[str] = []
    for caller in CALLERS:
        pod = caller if caller == STRANGER else f"deployment/{TOPOLOGY.services[caller].workload}"
        others = [each for each in asked if each.callee != caller]
        for with_user in (True, False):
            requests = [request(each, token if with_user else None) for each in others]
            for each, answer in zip(others, open_egress.probe(pod, requests), strict=True):
                allowed = is_declared(caller, each) and (with_user or not each.needs_user)
                expected = "answered" if allowed else "denied"
                verdicts[expected] += 1
                if answer.outcome != expected:
                    user = "a" if with_user else "no"
                    wrong.append(f"{caller}, {user} user > {each}: {answer}, not {expected}")
    print(
        f"matrix: {len(CALLERS)} callers x {len(asked)} operations, with and without a user: "
        f"{verdicts.total()} requests; allowed {verdicts['answered']}, "
        f"denied {verdicts['denied']}, wrong {len(wrong)}"
    )
    assert not wrong, "\n".join(wrong)
    assert verdicts["answered"] > 50


async def test_from_outside_of_the_mesh_nobody_is_answered(mesh: Mesh) -> None:
    asked = list(operations())
    answers = mesh.probe(OUTSIDER, [request(each, None) for each in asked])
    assert {answer.outcome for answer in answers} == {"failed"}, answers


async def test_a_proxy_knows_only_whom_its_service_calls(mesh: Mesh) -> None:
    stranger_to = {"method": "GET", "url": "http://payment-service.ecommerce:3000/metrics"}

    async def is_cut_off() -> bool:
        (answer,) = mesh.probe("deployment/frontend", [stranger_to])
        return answer.outcome == "failed" and "502" in answer.detail

    await takes_effect(is_cut_off, "frontend's proxy does not know payment")
