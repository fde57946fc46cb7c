"""Two shops of one cluster, each in its namespace, behind the same gateway. The second is what
``python -m tools.mesh render`` makes for another namespace, and all that its settings may name lies
outside of it: its MongoDB, its mail server, its collector of spans and its Stripe.

Neither shop sees the other: every caller of one is refused by every callee of the other.
"""

from __future__ import annotations

import json
import string
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial

import aiohttp
import pytest

from tests.cluster.crowd import buy_once
from tests.cluster.release import IMAGE, Release, install, uninstall
from tests.mesh.meshed import HERE, Mesh, Probed, everybody_connects, takes_effect
from tests.mesh.test_matrix import request
from tests.testkit.cluster import Namespace, run
from tests.testkit.customer import Client, Customer
from tests.testkit.matrix import RPC, TOPOLOGY, Operation, is_declared, operations
from tools.certificate import secret, self_signed
from tools.kind import LINKERDS_ROUTES

HOST = "second.example.com"
BOARD = {"oak-serving-board": 1}
_RENDER = (
    *(sys.executable, "-m", "tools.mesh", "render"),
    *("--namespace", "second", "--host", HOST, "--stripe-namespace", "second-stripe"),
    *("--mongodb", "mongodb://mongodb.beside:27017"),
    *("--smtp", "mail.beside:1025"),
    *("--otlp", "http://collector.beside:4317"),
)
_VALUES = (
    *("--set", "mongodb.uri=mongodb://mongodb.beside:27017"),
    *("--set", "observability.otlpEndpoint=http://collector.beside:4317"),
    *("--set", "stripe.sandbox.namespace=second-stripe"),
    *("--set", "services.notification.environment.SMTP_HOST=mail.beside"),
    *("--set-string", "services.notification.environment.SMTP_PORT=1025"),
    *("--set-string", "services.notification.environment.SMTP_STARTTLS=false"),
)
_BESIDE = Namespace("beside")


@pytest.fixture(scope="module")
def second(request: pytest.FixtureRequest) -> Generator[Mesh]:
    """The second shop, beside the first."""
    first: Mesh = request.getfixturevalue("mesh")
    if first.name == "none":
        pytest.skip("without a mesh nobody is refused")
    release = Release("", Namespace("second"), Namespace("second-stripe"), enforced="privileged")
    certificate = self_signed(HOST)
    second = type(first)(release, certificate)
    uninstall(release)
    try:
        put_servers_beside()
        install_second(first, second)
        yield second
    finally:
        run("kubectl", "delete", "--ignore-not-found", "-f", "-", given=rendered(first, "base"))
        at_gateway = Namespace(first.way_in.namespace)
        at_gateway.kubectl("delete", "secret", "second-tls-secret", "--ignore-not-found")
        uninstall(release)
        _BESIDE.kubectl("delete", "namespace", "beside", "--ignore-not-found", "--wait")


def install_second(first: Mesh, second: Mesh) -> None:
    """Brings it into the mesh in the order of README.md's steps."""
    (certificate,) = second.certificates
    first.certificates.append(certificate)
    manifest = secret(certificate, first.way_in.namespace, shop="second")
    run("kubectl", "apply", "-f", "-", given=manifest)
    install(second.release, *first.chart_values(), *_VALUES)
    for label in second.namespace_labels:
        run("kubectl", "label", "namespace", "second", label)
    for folder, selector in _STEPS[first.name]:
        applied(first, folder, *selector)
    second.release.upgrade()  # which waits for its pods
    applied(first, "base")


# What README.md applies before the base.
_STEPS: dict[str, Sequence[tuple[str, Sequence[str]]]] = {
    "istio": [("base", ("--selector", "meshmart/step=entry"))],
    "linkerd": [("audit", ("--selector", "meshmart/step=servers")), ("audit", ())],
}


def rendered(mesh: Mesh, folder: str) -> str:
    return run(*_RENDER, "--mesh", mesh.name, folder)


def applied(mesh: Mesh, folder: str, *selector: str) -> None:
    run("kubectl", "apply", *selector, "-f", "-", given=rendered(mesh, folder))
    if mesh.name == "linkerd":
        run("kubectl", "-n", "second", "wait", *LINKERDS_ROUTES)


def put_servers_beside() -> None:
    run("kubectl", "delete", "namespace", "beside", "--ignore-not-found", "--wait")
    template = string.Template((HERE / "beside.yaml").read_text(encoding="utf-8"))
    manifests = template.substitute(
        IMAGE=IMAGE,
        MAIL=json.dumps((HERE / "mail_catcher.py").read_text(encoding="utf-8")),
        COLLECTOR=json.dumps(
            (HERE / "collector.py").read_text(encoding="utf-8"),
        ),
    )
    run("kubectl", "apply", "-f", "-", given=manifests)
    _BESIDE.kubectl("wait", "pods", "--all", "--for=condition=Ready", "--timeout=120s")


@asynccontextmanager
async def people(first: Mesh) -> AsyncGenerator[Client]:
    """Somebody outside, at the second shop's host of the gateway."""
    async with first.gateway(host=HOST) as client:

        async def is_open() -> bool:
            try:
                return (await client.send("GET", "/api/categories")).status == 200
            except aiohttp.ClientError:
                return False  # the gateway has not been told of this host

        await takes_effect(is_open, "the gateway leads to the second shop")
        yield client


async def bought(client: Client) -> tuple[Customer, str]:
    """Somebody who has bought something, and the order's id."""
    customer = await Customer.register(client)
    answer = await buy_once(customer, BOARD)
    assert (answer.status, answer.body["state"]) == (201, "confirmed"), answer
    return customer, answer.body["order_id"]


async def test_people_buy_in_both_and_are_known_in_one(
    second: Mesh, mesh: Mesh, client: Client
) -> None:
    one, order_of_one = await bought(client)
    async with people(mesh) as there:
        two, order_of_two = await bought(there)
        for customer, elsewhere, order in ((one, there, order_of_two), (two, client, order_of_one)):
            own = {"authorization": f"Bearer {customer.token}"}
            answer = await elsewhere.send("GET", f"/api/orders/{order}", headers=own)
            assert answer.status == 401, answer
            pages = await elsewhere.send("GET", "/api/orders", headers=own)
            assert pages.status == 401, pages


async def test_what_its_settings_name_is_reached(second: Mesh, mesh: Mesh) -> None:
    """By NetworkPolicies and the mesh's rules, both as they are shipped."""
    async with people(mesh) as there:
        customer, _ = await bought(there)  # so MongoDB and Stripe's sandbox have been asked

    async def has_come() -> bool:
        mails = _BESIDE.kubectl("logs", "mail").split()
        spans = [json.loads(line) for line in _BESIDE.kubectl("logs", "collector").splitlines()]
        from_services = {span["service"] for span in spans if not span["by_proxy"]}
        workloads = {service.workload for service in TOPOLOGY.services.values()}
        return customer.email in mails and workloads <= from_services

    await takes_effect(has_come, "the mail and the spans of all services have come")
    databases = Namespace("second").objects("pods", "app.kubernetes.io/name=mongodb")
    assert databases == []


CALLERS = tuple(TOPOLOGY.services)


def asked_for(caller: str) -> list[Operation]:
    """Of every other service, by HTTP and by gRPC: what the caller may ask of its own shop's, or
    where that is nothing the first that is offered.
    """
    found: dict[tuple[str, bool], Operation] = {}
    for each in operations():
        key = (each.callee, each.verb == RPC)
        if each.callee != caller and (key not in found or is_declared(caller, each)):
            found[key] = each
    return list(found.values())


def answers(asking: Mesh, asked: Mesh, caller: str) -> list[tuple[Operation, Probed]]:
    """What comes of a caller's requests to the other shop's services."""
    there = f".{asked.namespace.name}"
    wanted = asked_for(caller)
    requests = json.dumps([request(each, None) for each in wanted])
    workload = TOPOLOGY.services[caller].workload
    found = asking.probe(
        f"deployment/{workload}", json.loads(requests.replace(f".{TOPOLOGY.namespace}", there))
    )
    return list(zip(wanted, found, strict=True))


async def test_nobody_reaches_the_other_shop_as_shipped(second: Mesh, mesh: Mesh) -> None:
    seen: Counter[str] = Counter()
    for asking, asked in ((mesh, second), (second, mesh)):
        for caller in CALLERS:
            for operation, answer in answers(asking, asked, caller):
                assert answer.refused_by is not None, (caller, operation, answer)
                seen[f"from {asking.namespace.name}, by {answer.refused_by}"] += 1
    print(f"two shops in {mesh.name}, as shipped: {dict(seen)}")
    assert seen.total() > 2 * len(CALLERS) * (len(CALLERS) - 1)


async def test_the_callees_alone_refuse_the_other_shop(second: Mesh, mesh: Mesh) -> None:
    """Where the network lets everybody pass, and callers' proxies know everybody."""
    seen: Counter[str] = Counter()

    async def are_all_denied(asking: Mesh, asked: Mesh, caller: str) -> bool:
        found = answers(asking, asked, caller)
        wrong = [each for each in found if each[1].outcome != "denied"]
        if wrong:
            print(caller, wrong)
            return False
        seen[f"from {asking.namespace.name}"] += len(found)
        return True

    with only_callees_judge(mesh, second):
        for asking, asked in ((mesh, second), (second, mesh)):
            for caller in CALLERS:
                # The first of a proxy's answers may be of the time before it was told.
                look = partial(are_all_denied, asking, asked, caller)
                await takes_effect(look, f"{caller} is denied by the other shop's services")
    print(f"two shops in {mesh.name}, by the callees alone, denied: {dict(seen)}")


@contextmanager
def only_callees_judge(first: Mesh, second: Mesh) -> Generator[None]:
    """Takes away what refuses a request before its callee does."""
    with everybody_connects(first.namespace, second.namespace):
        for shop in (first, second):
            if shop.name == "istio":
                shop.namespace.kubectl("delete", "sidecars.networking.istio.io", "--all")
        try:
            yield
        finally:
            first.apply(first.base())
            applied(second, "base")
