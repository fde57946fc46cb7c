"""Every declared request is allowed, and every other one is denied: each caller against each
operation of each service, sent from the caller's own pods. Without a mesh nothing is denied.

NetworkPolicies refuse much of it before the mesh is asked. So this is tried twice: as it is
shipped, which says of each request which layer refuses it, and by the mesh's rules alone. In this
order, since policies leave connections alone that are there already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest

from tests.mesh.meshed import OUTSIDER, Mesh
from tests.testkit.customer import Client, Customer
from tests.testkit.matrix import (
    RPC,
    STRANGER,
    TOPOLOGY,
    Operation,
    operations,
    sample,
)
from tests.testkit.waiting import wait_until

CALLERS = (*TOPOLOGY.services, STRANGER)


def request(operation: Operation, token: str | None) -> dict[str, Any]:
    """The operation for labs/probe.py."""
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


async def test_as_shipped_each_request_is_refused_by_the_first_layer_that_can(
    in_a_mesh: Mesh, client: Client
) -> None:
    needs_policies(in_a_mesh)
    token = (await Customer.register(client)).token
    seen: Counter[str] = Counter()
    wrong: list[str] = []
    for caller in CALLERS:
        others = [each for each in operations() if each.callee != caller]
        answers = in_a_mesh.probe(pod_of(caller), [request(each, token) for each in others])
        for each, answer in zip(others, answers, strict=True):
            expected = in_a_mesh.first_to_refuse(caller, each)
            seen[expected or "nobody"] += 1
            if answer.refused_by != expected:
                wrong.append(f"{caller} > {each}: {answer}, not refused by {expected}")
    print(f"refused as shipped in {in_a_mesh.name}, by: {dict(seen)}; wrong {len(wrong)}")
    assert not wrong, "\n".join(wrong)
    assert seen["nobody"] > 50


async def test_as_shipped_who_has_no_proxy_reaches_the_frontend_alone(in_a_mesh: Mesh) -> None:
    """And there the mesh refuses."""
    needs_policies(in_a_mesh)
    asked = list(operations())
    answers = in_a_mesh.probe(OUTSIDER, [request(each, None) for each in asked])
    for operation, answer in zip(asked, answers, strict=True):
        layer = "the mesh" if operation.callee == "frontend" else "the network"
        assert answer.refused_by == layer, (operation, answer)


async def test_every_caller_and_every_operation(mesh: Mesh, client: Client) -> None:
    token = (await Customer.register(client)).token
    with by_the_mesh_alone(mesh):
        verdicts, wrong = judged(mesh, token)
    print(
        f"matrix in {mesh.name}: {len(CALLERS)} callers x {len(list(operations()))} operations, "
        f"with and without a user: {verdicts.total()} requests; allowed {verdicts['answered']}, "
        f"denied {verdicts['denied']}, wrong {len(wrong)}"
    )
    assert not wrong, "\n".join(wrong)
    assert verdicts["answered"] > 50


@pytest.mark.parametrize("by_mesh_alone", [False, True], ids=["as shipped", "by the mesh alone"])
async def test_who_reaches_the_database(in_a_mesh: Mesh, by_mesh_alone: bool) -> None:
    mongodb = {"database": f"mongodb.{TOPOLOGY.namespace}:27017"}
    owners = {name for name, service in TOPOLOGY.services.items() if service.database}
    with by_the_mesh_alone(in_a_mesh) if by_mesh_alone else nullcontext():
        answers = {
            caller: in_a_mesh.probe(pod_of(caller), [mongodb])[0] for caller in (*CALLERS, OUTSIDER)
        }
    assert {caller for caller, answer in answers.items() if answer.outcome == "answered"} == owners
    assert {answers[caller].outcome for caller in answers.keys() - owners} == {"failed"}


async def test_who_has_no_proxy(mesh: Mesh) -> None:
    asked = list(operations())
    with mesh.without_network_policies():
        answers = mesh.probe(OUTSIDER, [request(each, None) for each in asked])
    for operation, answer in zip(asked, answers, strict=True):
        assert answer.outcome == mesh.answer_to_outsiders(operation), (operation, answer)
        assert answer.refused_by != "the network", (operation, answer)


@contextmanager
def by_the_mesh_alone(mesh: Mesh) -> Generator[None]:
    """Neither the network nor a caller's own proxy refuses anything."""
    asked = [Operation(callee, "GET", "/livez") for callee in TOPOLOGY.services]

    def all_connect() -> bool:
        return not any(
            answer.refused_by == "the network"
            for caller in CALLERS
            for answer in mesh.probe(
                pod_of(caller), [request(each, None) for each in asked if each.callee != caller]
            )
        )

    with mesh.without_network_policies(), mesh.callees_judge_alone():
        wait_until(all_connect, "the network lets everybody connect to everybody", 120)
        yield


def pod_of(caller: str) -> str:
    """Where somebody's requests are sent from."""
    if caller in {STRANGER, OUTSIDER}:
        return caller
    return f"deployment/{TOPOLOGY.services[caller].workload}"


def judged(mesh: Mesh, token: str) -> tuple[Counter[str], list[str]]:
    """What was to be expected, and a sentence for each request of which something else came."""
    verdicts: Counter[str] = Counter()
    wrong: list[str] = []
    for caller in CALLERS:
        others = [each for each in operations() if each.callee != caller]
        for with_user in (True, False):
            requests = [request(each, token if with_user else None) for each in others]
            answers = mesh.probe(pod_of(caller), requests)
            for each, answer in zip(others, answers, strict=True):
                allowed = mesh.allows(caller, each, user=with_user)
                expected = "answered" if allowed else "denied"
                verdicts[expected] += 1
                if answer.outcome != expected:
                    user = "a" if with_user else "no"
                    wrong.append(f"{caller}, {user} user > {each}: {answer}, not {expected}")
    return verdicts, wrong


def needs_policies(mesh: Mesh) -> None:
    """For what is said of NetworkPolicies and the mesh beside each other."""
    if not mesh.has_policies:
        pytest.skip("this cluster's network does not enforce NetworkPolicies")
