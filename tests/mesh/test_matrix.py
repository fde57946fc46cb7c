"""Every declared request is allowed, and every other one is denied: each caller against each
operation of each service, sent from the caller's own pods. Without a mesh nothing is denied.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.harness.customer import Client, Customer
from tests.harness.matrix import (
    RPC,
    STRANGER,
    TOPOLOGY,
    Operation,
    operations,
    sample,
)
from tests.mesh.meshed import OUTSIDER, Mesh

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


async def test_every_caller_and_every_operation(mesh: Mesh, client: Client) -> None:
    token = (await Customer.register(client)).token
    with mesh.callees_judge_alone():
        verdicts, wrong = judged(mesh, token)
    print(
        f"matrix in {mesh.name}: {len(CALLERS)} callers x {len(list(operations()))} operations, "
        f"with and without a user: {verdicts.total()} requests; allowed {verdicts['answered']}, "
        f"denied {verdicts['denied']}, wrong {len(wrong)}"
    )
    assert not wrong, "\n".join(wrong)
    assert verdicts["answered"] > 50


async def test_who_reaches_the_database(in_a_mesh: Mesh) -> None:
    mongodb = {"database": f"mongodb.{TOPOLOGY.namespace}:27017"}
    owners = {name for name, service in TOPOLOGY.services.items() if service.database}
    with in_a_mesh.callees_judge_alone():
        answers = {
            caller: in_a_mesh.probe(pod_of(caller), [mongodb])[0] for caller in (*CALLERS, OUTSIDER)
        }
    assert {caller for caller, answer in answers.items() if answer.outcome == "answered"} == owners
    assert {answers[caller].outcome for caller in answers.keys() - owners} == {"failed"}


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


async def test_who_has_no_proxy(mesh: Mesh) -> None:
    asked = list(operations())
    answers = mesh.probe(OUTSIDER, [request(each, None) for each in asked])
    for operation, answer in zip(asked, answers, strict=True):
        assert answer.outcome == mesh.answer_to_outsiders(operation), (operation, answer)
