"""No student reaches another: by the API server, by traffic, or at the gateway.

Each is tried against each other.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from classroom.admission import refused_pod
from labs.meshed import Probed
from tests.cluster.release import IMAGE
from tests.labs.class_of_three.users import Classroom, StudentUser
from tests.mesh.meshed import Mesh, takes_effect
from tests.mesh.test_matrix import request as request_for
from tests.mesh.test_two_shops import asked_for
from tests.testkit.matrix import TOPOLOGY
from tests.testkit.waiting import eventually

_POLICIES_SECONDS = 60.0
_CALLERS = ("frontend", "order", "payment")


def pairs(classroom: Classroom) -> Sequence[tuple[StudentUser, StudentUser]]:
    """Returns each student with each other one."""
    return list(itertools.permutations(classroom.users, 2))


def test_nobody_may_do_anything_in_anothers_namespace(classroom: Classroom) -> None:
    seen: Counter[str] = Counter()
    for one, other in pairs(classroom):
        for verb, resource in (
            *(("get", "pods"), ("list", "secrets"), ("create", "pods"), ("create", "pods/exec")),
            *(("delete", "deployments.apps"), ("patch", "services"), ("get", "pods/log")),
            *(("list", "configmaps"), ("update", "networkpolicies.networking.k8s.io")),
            *(("create", "virtualservices.networking.istio.io"), ("get", "namespaces")),
        ):
            assert not one.may(verb, resource, other.name), (one.name, verb, resource, other.name)
            seen["no"] += 1
        for command in (
            ("get", "pods"),
            ("get", "secret", "mongodb"),
            ("delete", "pod", "--all"),
            ("exec", "deployment/order-service", "-c", "order", "--", "true"),
            ("create", "configmap", "here"),
            ("get", "configmap", "meshmart-lab"),
        ):
            refusal = one.refusal_of("-n", other.name, *command)
            assert "forbidden" in refusal.lower(), (one.name, command, other.name, refusal)
            seen["forbidden"] += 1
    print(f"API server, each against each: {dict(seen)}")


def test_nobody_may_do_anything_to_the_cluster(classroom: Classroom, kind: type[Mesh]) -> None:
    for user in classroom.users:
        for command in (
            ("get", "nodes"),
            ("get", "namespaces"),
            ("get", "pods", "--all-namespaces"),
            ("-n", kind.way_in.namespace, "get", "secrets"),
            ("-n", kind.way_in.namespace, "get", "pods"),
            ("label", "namespace", user.name, "pod-security.kubernetes.io/enforce-"),
            ("create", "token", "student"),
            ("create", "role", "all", "--verb=*", "--resource=*"),
            ("create", "clusterrolebinding", "all", "--clusterrole=cluster-admin", "--user=me"),
            ("delete", "resourcequota", "class"),
            ("delete", "limitrange", "class"),
            ("patch", "role", "student", "-p", "{}"),
        ):
            refusal = user.refusal_of(*command)
            assert "forbidden" in refusal.lower(), (user.name, command, refusal)


def test_everybody_may_do_what_labs_need_in_their_own(classroom: Classroom) -> None:
    for user in classroom.users:
        assert len(user.kubectl("get", "pods", "-o", "name").split()) >= 11
        assert user.may("create", "pods/exec", user.name)
        assert user.may("patch", "deployments.apps", user.name)
        user.kubectl("create", "configmap", "mine", "--dry-run=server")


def manifest(api: str, kind: str, **more: Any) -> str:
    """Returns an object named ``mine``, as JSON."""
    return json.dumps({"apiVersion": api, "kind": kind, "metadata": {"name": "mine"}, **more})


def pod(**spec: Any) -> str:
    """Returns a pod, as JSON."""
    return manifest("v1", "Pod", spec={"containers": [{"name": "c", "image": IMAGE}], **spec})


def service(**spec: Any) -> str:
    """Returns a Service, as JSON."""
    return manifest("v1", "Service", spec={"ports": [{"port": 80}], **spec})


def container(**more: Any) -> str:
    """Returns a pod whose container has more fields, as JSON."""
    return pod(containers=[{"name": "c", "image": IMAGE, **more}])


_GATEWAY = "gateway.networking.k8s.io/v1"
_ISTIO = "networking.istio.io/v1"
_LISTENER = {"name": "http", "port": 8000, "protocol": "HTTP"}
# Objects with which a student could reach others, and a pattern of the refusal.
_ESCALATIONS: Sequence[tuple[str, str]] = (
    (json.dumps(refused_pod()), "meshmart-class-pods"),
    (pod(hostNetwork=True), "meshmart-class-pods"),
    (pod(hostPID=True), "meshmart-class-pods"),
    (pod(priorityClassName="system-node-critical"), "meshmart-class-pods|forbidden"),
    (container(securityContext={"privileged": True}), "meshmart-class-pods"),
    (
        container(securityContext={"capabilities": {"add": ["SYS_ADMIN"]}}),
        "meshmart-class-pods",
    ),
    (container(ports=[{"containerPort": 80, "hostPort": 80}]), "meshmart-class-pods"),
    (service(type="NodePort"), "meshmart-class-services|exceeded quota"),
    (service(type="LoadBalancer"), "meshmart-class-services|exceeded quota"),
    (service(externalIPs=["10.0.0.1"]), "meshmart-class-services"),
    (manifest("v1", "Endpoints", subsets=[]), "forbidden"),
    (
        manifest(_GATEWAY, "Gateway", spec={"gatewayClassName": "x", "listeners": [_LISTENER]}),
        "forbidden",
    ),
    (
        manifest(
            _GATEWAY,
            "HTTPRoute",
            spec={
                "parentRefs": [
                    {
                        "group": "",
                        "kind": "Service",
                        "name": "payment-service",
                        "namespace": "student-02",
                        "port": 9000,
                    }
                ]
            },
        ),
        "meshmart-class-routes",
    ),
    (manifest("rbac.authorization.k8s.io/v1", "Role", rules=[]), "forbidden"),
)
_ISTIO_ESCALATIONS: Sequence[tuple[str, str]] = (
    (manifest(_ISTIO, "Gateway", spec={"servers": []}), "forbidden"),
    (manifest(_ISTIO, "WorkloadEntry", spec={"address": "10.0.0.1"}), "forbidden"),
    (
        manifest(
            _ISTIO,
            "VirtualService",
            spec={
                "hosts": ["payment-service.student-02.svc.cluster.local"],
                "http": [{"directResponse": {"status": 418}}],
            },
        ),
        "meshmart-class-istio",
    ),
    (
        manifest(
            _ISTIO,
            "DestinationRule",
            spec={"host": "product-service", "exportTo": ["*"]},
        ),
        "meshmart-class-istio",
    ),
    (
        manifest(
            _ISTIO,
            "ServiceEntry",
            spec={
                "hosts": ["api.stripe.com"],
                "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
                "resolution": "DNS",
            },
        ),
        "meshmart-class-istio",
    ),
    (
        manifest(
            "security.istio.io/v1",
            "RequestAuthentication",
            spec={"jwtRules": [{"issuer": "me", "jwksUri": "http://169.254.169.254/"}]},
        ),
        "meshmart-class-istio",
    ),
)
_HARMLESS: Sequence[str] = (
    pod(),
    container(securityContext={"capabilities": {"add": ["NET_RAW"]}}),
    service(),
)
_ISTIO_HARMLESS: Sequence[str] = (
    manifest(
        _ISTIO,
        "VirtualService",
        spec={
            "hosts": ["product-service"],
            "http": [{"route": [{"destination": {"host": "product-service"}}]}],
        },
    ),
    manifest(_ISTIO, "DestinationRule", spec={"host": "product-service"}),
)


def test_what_reaches_others_is_refused(classroom: Classroom, kind: type[Mesh]) -> None:
    dry_run = ("create", "--dry-run=server", "-f", "-")
    is_istio = kind.name == "istio"
    user = classroom.users[0]
    for given, refused_by in (*_ESCALATIONS, *(_ISTIO_ESCALATIONS if is_istio else ())):
        refusal = user.refusal_of(*dry_run, given=given)
        assert re.search(refused_by, refusal), (given, refusal)
    for given in (*_HARMLESS, *(_ISTIO_HARMLESS if is_istio else ())):
        assert user.refusal_of(*dry_run, given=given) == "", given
    for command in (
        ("delete", "networkpolicy", "class"),
        ("label", "networkpolicy", "class", "meshmart/class-"),
    ):
        assert "this NetworkPolicy is the class's" in user.refusal_of(*command), command
    # The base of every student has passed the same policies.
    assert user.kubectl("get", "networkpolicy", "class", "-o", "name")


def requests_to(other: StudentUser, caller: str) -> list[Mapping[str, Any]]:
    """Returns the requests that a service may send in its own shop, sent to another shop; and
    requests to the MongoDB and the Stripe sandbox there.
    """
    wanted = json.dumps([request_for(each, None) for each in asked_for(caller)])
    requests = wanted.replace(f".{TOPOLOGY.namespace}", f".{other.name}")
    return [
        *json.loads(requests),
        {"database": f"mongodb.{other.name}:27017"},
        {"method": "GET", "url": f"http://stripe-sandbox.{other.name}:12111/livez"},
    ]


async def sent_by_service(
    classroom: Classroom, one: StudentUser, caller: str, other: StudentUser
) -> list[Probed]:
    """Returns what came of a service's requests from one shop to another."""
    workload = TOPOLOGY.services[caller].workload
    shop = one.shop(classroom.gateway_address)
    return await shop.probe(f"deployment/{workload}", caller, requests_to(other, caller))


async def test_no_service_is_answered_by_anothers(classroom: Classroom) -> None:
    seen: Counter[str] = Counter()
    for caller in _CALLERS:
        for one in classroom.users:
            own = await sent_by_service(classroom, one, caller, one)
            assert any(each.outcome == "answered" for each in own), (one.name, caller, own)
        for one, other in pairs(classroom):
            for answer in await sent_by_service(classroom, one, caller, other):
                assert answer.outcome != "answered", (one.name, caller, other.name, answer)
                seen[answer.outcome] += 1
    print(f"traffic of services, each against each: {dict(seen)}")


_OUTSIDER = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "outsider",
        "labels": {"sidecar.istio.io/inject": "false"},
        "annotations": {"linkerd.io/inject": "disabled"},
    },
    "spec": {
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "outsider", "image": IMAGE, "command": ["sleep", "infinity"]}],
    },
}


@asynccontextmanager
async def outsiders(classroom: Classroom) -> AsyncGenerator[None]:
    """Each student has a pod without a proxy in their namespace."""
    for user in classroom.users:
        user.kubectl("apply", "-f", "-", given=json.dumps(_OUTSIDER))
    for user in classroom.users:
        user.kubectl("wait", "pod/outsider", "--for=condition=Ready", "--timeout=120s")
    try:
        yield
    finally:
        for user in classroom.users:
            user.kubectl("delete", "pod", "outsider")


async def test_no_pod_is_answered_by_another_shop_even_without_the_charts_policies(
    classroom: Classroom,
) -> None:
    """The sandbox has no proxy: only the network keeps others away from it."""
    *_, open_user = classroom.users
    seen: Counter[str] = Counter()
    async with outsiders(classroom):
        for one, other in pairs(classroom):
            shop = one.shop(classroom.gateway_address)
            for answer in await shop.probe("outsider", "outsider", requests_to(other, "order")):
                assert answer.outcome != "answered", (one.name, other.name, answer)
                seen[answer.outcome] += 1
        url = f"http://stripe-sandbox.{open_user.name}:12111/livez"
        sandbox = [{"method": "GET", "url": url}]
        policies = open_user.kubectl("get", "networkpolicies", "-o", "name").split()
        own = [each for each in policies if not each.endswith("/class")]
        open_user.kubectl("delete", *own)
        try:
            open_shop = open_user.shop(classroom.gateway_address)

            async def is_open() -> bool:
                (answer,) = await open_shop.probe("outsider", "outsider", sandbox)
                return answer.outcome == "answered"

            await eventually(is_open, "their own pod reaches the sandbox", _POLICIES_SECONDS)
            for one in classroom.users:
                if one is not open_user:
                    shop = one.shop(classroom.gateway_address)
                    (answer,) = await shop.probe("outsider", "outsider", sandbox)
                    assert answer.outcome == "failed", (one.name, answer)
                    seen["failed, with the chart's policies away"] += 1
        finally:
            classroom.reset(open_user)
    print(f"traffic of pods without a proxy, each against each: {dict(seen)}")


def hijacking_route(kind: str, one: StudentUser, other: StudentUser) -> str:
    """Returns a route of one student for the host of another, at the gateways of both."""
    host = other.student.shop.host
    at = list(dict.fromkeys((other.name, one.name)))
    if kind == "istio":
        spec = {
            "hosts": [host],
            "exportTo": [".", "istio-system"],
            "gateways": [f"{each}/{each}-gateway" for each in at],
            "http": [{"match": [{"uri": {"exact": "/taken"}}], "directResponse": {"status": 418}}],
        }
        return manifest(_ISTIO, "VirtualService", spec=spec)
    redirect = {"type": "RequestRedirect", "requestRedirect": {"hostname": "taken.example"}}
    spec = {
        "hostnames": [host],
        "parentRefs": [
            {"name": f"{each}-gateway", "namespace": "shop-ingress", "sectionName": "https"}
            for each in at
        ],
        "rules": [
            {"matches": [{"path": {"type": "Exact", "value": "/taken"}}], "filters": [redirect]}
        ],
    }
    return manifest(_GATEWAY, "HTTPRoute", spec=spec)


_TAKEN = {"istio": 418, "linkerd": 302}
_ROUTES = {
    "istio": "virtualservices.networking.istio.io",
    "linkerd": "httproutes.gateway.networking.k8s.io",  # Linkerd has some of that name, too
}


async def status_of_taken(classroom: Classroom, user: StudentUser) -> int:
    """Returns the status at a shop's host of a path that only a hijacking route serves."""
    async with user.shop(classroom.gateway_address).visitor() as visitor:
        return (await visitor.send("GET", "/taken")).status


async def test_nobody_takes_anothers_host_at_the_gateway(
    classroom: Classroom, kind: type[Mesh]
) -> None:
    taken = _TAKEN[kind.name]
    first, second, third = classroom.users
    for user in classroom.users:
        assert await status_of_taken(classroom, user) not in {0, taken}
    first.kubectl("apply", "-f", "-", given=hijacking_route(kind.name, first, second))
    third.kubectl("apply", "-f", "-", given=hijacking_route(kind.name, third, third))
    try:

        async def is_own_route_served() -> bool:
            return await status_of_taken(classroom, third) == taken

        # The gateway gets its routes in one piece: it has the first student's, which is older, too.
        await takes_effect(is_own_route_served, "the third student's route for their own host")
        for _ in range(10):
            for user in (first, second):
                assert await status_of_taken(classroom, user) not in {0, taken}, user.name
        async with second.shop(classroom.gateway_address).visitor() as visitor:
            assert (await visitor.buy()).status in {201, 202}
    finally:
        for user in (first, third):
            user.kubectl("delete", _ROUTES[kind.name], "mine")
