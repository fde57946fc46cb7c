"""A class is made, reset, solved and removed; what is impossible is refused in one sentence."""

from __future__ import annotations

import copy
import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from classroom.chart_values import chart_values
from classroom.cluster import Cluster
from classroom.kubeconfig import file_of
from classroom.manifests import manifests, quota
from classroom.provisioning import Plan, Provisioning
from classroom.resources import (
    Resources,
    allocatable,
    fitting,
    quantity,
    requested,
    shop_requests,
    student_requests,
    used,
)
from classroom.student_labs import StudentLabs
from classroom.students import Student, chosen, students_of
from classroom.teardown import Teardown
from labs.errors import CommandFailed, LabError
from labs.membership import Membership
from labs.meshed import MeshedShop
from labs.report import Report, report_of
from labs.runner import Runner
from tests.unit.classroom.fake import FakeClassCluster, Object
from tools.mesh import render

ISTIO = Student("student-01", "istio")


@pytest.fixture(autouse=True)
def rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """As much of a base as there is outside of the namespace, at its entry, and elsewhere."""

    def made(shop: render.Shop, folder: str) -> list[Object]:
        at_gateway = "EnvoyFilter" if shop.mesh == "istio" else "Gateway"
        labels = {"meshmart/shop": shop.namespace, "meshmart/step": "entry"}
        names: list[tuple[str, str, dict[str, str]]] = [
            (at_gateway, shop.gateway.namespace, labels),
            ("VirtualService", shop.namespace, {"meshmart/step": "entry"}),
            ("Server", shop.namespace, {"meshmart/step": "servers"}),
            ("AuthorizationPolicy", shop.namespace, {}),
        ]
        return [
            {
                "kind": kind,
                "metadata": {
                    "name": f"{shop.namespace}-{folder}",
                    "namespace": where,
                    "labels": dict(marks),
                },
            }
            for kind, where, marks in names
        ]

    async def is_open(_: MeshedShop) -> None:
        return

    monkeypatch.setattr(render, "rendered", made)
    monkeypatch.setattr(MeshedShop, "until_open", is_open)


@pytest.fixture
def cluster() -> FakeClassCluster:
    return FakeClassCluster()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return Plan(
        count=3,
        mesh="istio",
        image="registry.example:5000/meshmart:0.1.0",
        values={"mongodb": {"storage": {"size": "1Gi"}}},
        folder=tmp_path / "class",
        hours=24,
    )


async def opened(cluster: FakeClassCluster, plan: Plan, said: list[str]) -> None:
    await Provisioning(Cluster(cluster), plan, said.append).run()


def kinds_in(cluster: FakeClassCluster, namespace: str) -> set[str]:
    return {kind for kind, where, _ in cluster.objects if where == namespace}


async def test_a_class_from_up_to_down(
    cluster: FakeClassCluster, plan: Plan, said: list[str]
) -> None:
    before = copy.deepcopy(cluster.objects)
    await opened(cluster, plan, said)

    for name in ("student-01", "student-02", "student-03"):
        labels = cluster.objects["Namespace", "", name]["metadata"]["labels"]
        assert labels["meshmart/class"] == "istio"
        assert labels["istio-injection"] == "enabled"
        assert kinds_in(cluster, name) == {
            *("ServiceAccount", "Role", "RoleBinding", "ResourceQuota", "LimitRange"),
            *("NetworkPolicy", "VirtualService", "Server", "AuthorizationPolicy"),
        }
        assert ("Secret", "istio-system", f"{name}-tls-secret") in cluster.objects
        assert ("EnvoyFilter", "istio-system", f"{name}-base") in cluster.objects
        (values,) = cluster.helm_values[name]
        assert values["image"] == {
            "repository": "registry.example:5000/meshmart",
            "tag": "0.1.0",
        }
        assert values["stripe"] == {"sandbox": {"namespace": ""}}
        assert values["mongodb"]["storage"] == {"size": "1Gi"}
        assert values["mongodb"]["resources"]["requests"] == {"cpu": "50m"}
    assert kinds_in(cluster, "") == {
        *("Namespace", "Node", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
    }
    assert any(line.startswith("student-02: ready after 0 s; requests ") for line in said)
    assert any("There is room for " in line for line in said)
    assert said[-1] == (
        "192.0.2.7 student-01.example.com student-02.example.com student-03.example.com"
    )

    await Teardown(Cluster(cluster), said.append).run(plan.folder)
    assert cluster.objects == before
    assert not [*plan.folder.glob("*.kubeconfig")]
    assert said[-1] == "Nothing of the class is left."
    await Teardown(Cluster(cluster), said.append).run(plan.folder)
    assert said[-1] == "There was no class."


async def test_the_entry_is_there_before_the_shop_and_the_base_after_it(
    cluster: FakeClassCluster, plan: Plan
) -> None:
    await opened(cluster, replace(plan, count=1), [])
    order = [
        ["kubectl apply", "helm -n student-01"][line.startswith("helm")]
        for line in cluster.said
        if line.startswith(("kubectl apply", "helm"))
    ]
    # Admission policies, namespace, certificate, entry; then the shop; then the base.
    assert order == [*["kubectl apply"] * 4, "helm -n student-01", "kubectl apply"]


async def test_in_linkerd_who_is_undeclared_is_refused_last(
    cluster: FakeClassCluster, plan: Plan, said: list[str]
) -> None:
    await opened(cluster, replace(plan, mesh="linkerd", count=1), said)

    first, last = cluster.helm_values["student-01"]
    assert "linkerd" not in first
    assert last == {**first, "linkerd": {"defaultInboundPolicy": "deny"}}
    assert len([line for line in cluster.said if " wait httproutes,grpcroutes " in line]) == 2
    assert ("Gateway", "shop-ingress", "student-01-base") in cluster.objects
    assert ("Secret", "shop-ingress", "student-01-tls-secret") in cluster.objects
    policies = {key[2] for key in cluster.objects if key[0] == "ValidatingAdmissionPolicy"}
    assert policies == {
        *(
            "meshmart-class-pods",
            "meshmart-class-services",
            "meshmart-class-routes",
            "meshmart-class-network-policies",
        )
    }


async def test_typed_again_it_goes_on_where_it_was_interrupted(
    cluster: FakeClassCluster, plan: Plan, said: list[str]
) -> None:
    await opened(cluster, plan, said)
    del cluster.objects["Namespace", "", "student-02"]["metadata"]["annotations"]
    cluster.helm_values.clear()

    await opened(cluster, plan, said)

    assert set(cluster.helm_values) == {"student-02"}  # the others keep their labs
    assert len([line for line in cluster.said if " create token " in line]) == 6


async def test_a_kubeconfig_reaches_one_namespace(
    cluster: FakeClassCluster, plan: Plan, said: list[str]
) -> None:
    await opened(cluster, replace(plan, server="https://class.example:6443"), said)

    file = file_of(plan.folder, Student("student-02", "istio"))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    content = json.loads(file.read_text(encoding="utf-8"))
    assert content["clusters"] == [
        {"name": "class", "cluster": {"server": "https://class.example:6443", "ca": "x"}}
    ]
    (user,) = content["users"]
    assert set(user["user"]) == {"token"}
    (context,) = content["contexts"]
    assert context["context"]["namespace"] == "student-02"
    membership = Membership.model_validate(context["context"]["extensions"][0]["extension"])
    assert membership.gateway_address == "192.0.2.7:443"
    assert list(membership.options)[-4:] == [
        *("--namespace", "student-02", "--stripe-namespace", "student-02")
    ]
    assert f"{file}: valid until 2030-03-17 17:46 UTC" in said


@pytest.mark.parametrize(
    ("service", "server", "address"),
    [
        (
            {"status": {"loadBalancer": {"ingress": [{"hostname": "lb.example"}]}}},
            "",
            "lb.example:443",
        ),
        ({"spec": {"ports": [{"port": 443, "nodePort": 31443}]}}, "", "192.0.2.1:31443"),
        (
            {"spec": {"ports": [{"port": 443, "nodePort": 30443}]}},
            "https://127.0.0.1:41001",
            "127.0.0.1:8443",
        ),
    ],
)
async def test_the_gateway_is_found(service: Object, server: str, address: str) -> None:
    cluster = FakeClassCluster(service=service, server=server or "https://cluster.example:6443")
    assert await Cluster(cluster).gateway_address("istio") == address


async def test_what_cannot_be_is_refused_before_anything_is_made(plan: Plan) -> None:
    crowded = FakeClassCluster(allocatable={"cpu": "1", "memory": "16Gi", "pods": "110"})
    taken = FakeClassCluster()
    taken.put({"kind": "Namespace", "metadata": {"name": "student-02"}})
    for cluster, other, message in (
        (FakeClassCluster(), {"count": 0}, r"A class has 1 to 99 students, not 0"),
        (FakeClassCluster(), {"count": 100}, r"A class has 1 to 99 students, not 100"),
        (
            FakeClassCluster(missing={"deployment/istiod"}),
            {},
            r"Istio is not in this cluster \(deployment/istiod in istio-system is missing\)",
        ),
        (
            FakeClassCluster(missing={"service/traefik"}),
            {"mesh": "linkerd"},
            "Linkerd is not in this cluster",
        ),
        (FakeClassCluster(has_policies=False), {}, "Kubernetes 1.30 or newer"),
        (crowded, {"count": 12}, r"room for 2 more students, not for 12"),
        (taken, {}, "The namespace student-02 exists, and does not belong to a class"),
        (
            FakeClassCluster(service={"spec": {"ports": [{"port": 443}]}}),
            {},
            "give the address for students with --gateway-address",
        ),
    ):
        before = set(cluster.objects)
        with pytest.raises(LabError, match=message):
            await opened(cluster, replace(plan, **other), [])
        assert set(cluster.objects) == before, message
    await opened(crowded, replace(plan, count=12, is_autoscaled=True), [])


async def test_a_class_of_another_mesh_is_not_taken_up(
    cluster: FakeClassCluster, plan: Plan
) -> None:
    await opened(cluster, plan, [])
    with pytest.raises(LabError, match="There is a class in Istio already: make class-down"):
        await opened(cluster, replace(plan, mesh="linkerd"), [])


async def test_nobody_gets_a_shop_before_the_admission_policies_are_in_force(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("classroom.provisioning._POLICIES_SECONDS", 0.0)
    cluster = FakeClassCluster(are_policies_in_force=False)
    with pytest.raises(LabError, match="the class's admission policies are in force"):
        await opened(cluster, plan, [])
    assert not cluster.helm_values


async def test_a_shop_that_fails_does_not_stop_the_others(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    cluster = FakeClassCluster()

    async def is_open(shop: MeshedShop) -> None:
        if shop.where.namespace == "student-01":
            raise CommandFailed("it does not open")

    monkeypatch.setattr(MeshedShop, "until_open", is_open)
    with pytest.raises(LabError, match="it does not open"):
        await opened(cluster, plan, said)
    assert [line for line in said if line.endswith("open after 0 s")] == [
        "student-02: open after 0 s",
        "student-03: open after 0 s",
    ]


async def test_down_says_what_stays(cluster: FakeClassCluster, plan: Plan, said: list[str]) -> None:
    await opened(cluster, plan, said)
    cluster.stuck = {"student-03"}
    teardown = Teardown(Cluster(cluster), said.append)
    with pytest.raises(LabError, match=r"is left: namespace/student-03\. Run it again"):
        await teardown.run(plan.folder)
    cluster.stuck = set()
    await teardown.run(plan.folder)
    assert said[-1] == "Nothing of the class is left."


async def test_down_finds_what_is_left_at_the_gateway(
    cluster: FakeClassCluster, plan: Plan, said: list[str]
) -> None:
    """Somebody has deleted the namespaces by hand."""
    before = copy.deepcopy(cluster.objects)
    await opened(cluster, plan, said)
    for key in [key for key in cluster.objects if key[1].startswith("student-")]:
        del cluster.objects[key]
    for name in ("student-01", "student-02", "student-03"):
        del cluster.objects["Namespace", "", name]

    await Teardown(Cluster(cluster), said.append).run(plan.folder)

    assert cluster.objects == before


def report(cluster: FakeClassCluster, **what: Any) -> None:
    cluster.put(Report(**what).manifest(), "student-01")


async def test_check_reset_and_solve_are_the_runners(
    cluster: FakeClassCluster, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    done: list[tuple[str, Any]] = []

    async def reset(runner: Runner, mesh: str, options: Any) -> None:
        done.append((mesh, options))

    async def solve(runner: Runner, given: str | None) -> None:
        done.append(("solve", json.loads(runner.file.read_text(encoding="utf-8"))))

    async def check(runner: Runner, given: str | None) -> int:
        done.append(("check", json.loads(runner.file.read_text(encoding="utf-8"))))
        return 1

    monkeypatch.setattr(Runner, "check", check)
    monkeypatch.setattr(Runner, "reset", reset)
    monkeypatch.setattr(Runner, "solve", solve)
    labs = StudentLabs(Cluster(cluster), said.append)

    await labs.solve(ISTIO, "192.0.2.7:443")
    assert said[-1] == "student-01 has no lab under way."
    await labs.reset(ISTIO, "192.0.2.7:443")
    mesh, options = done.pop()
    assert (mesh, options.is_in_class, options.gateway_address) == ("istio", True, "192.0.2.7:443")
    assert list(options.mesh_options)[2:4] == ["--namespace", "student-01"]

    report(cluster, lab="17-incident", place="istio", started_ms=5, checks=2, seed=7)
    await labs.solve(ISTIO, "192.0.2.7:443")
    await labs.check(ISTIO, "192.0.2.7:443")
    assert [what for what, _ in done] == ["solve", "check"]
    for _, progress in done:
        assert progress["under_way"]["lab"] == "17-incident"
        assert progress["under_way"]["checks"] == 2
        assert progress["under_way"]["seed"] == 7, "the fault that the student has"
    done.clear()

    report(cluster, lab="00-pay-once", place="local")
    await labs.check(ISTIO, "192.0.2.7:443")
    assert said[-1] == "student-01: lab 00-pay-once is on their own machine."
    assert not done

    cluster.put(
        {"kind": "ConfigMap", "metadata": {"name": "meshmart-lab"}, "data": {"report.json": "{"}},
        "student-01",
    )
    with pytest.raises(LabError, match="kubectl -n student-01 delete configmap meshmart-lab"):
        await labs.report(ISTIO)


def test_who_is_meant() -> None:
    there = students_of(3, "istio")
    assert chosen("all", there) == there
    for given in ("3", "03", "student-03"):
        assert [each.name for each in chosen(given, there)] == ["student-03"]
    for given in ("bob", "4", "student-3", "0", ""):
        with pytest.raises(LabError, match="there are student-01 to student-03, or all"):
            chosen(given, there)


async def test_without_a_class_there_is_nobody(cluster: FakeClassCluster) -> None:
    with pytest.raises(LabError, match="There is no class in this cluster: make class"):
        await Cluster(cluster).students()


def test_names_hosts_and_shops() -> None:
    first, *_, last = students_of(99, "linkerd")
    assert (first.name, last.name) == ("student-01", "student-99")
    assert first.shop.host == "student-01.example.com"
    assert first.shop.stripe_namespace == first.shop.namespace == "student-01"
    assert first.shop.gateway == render.TRAEFIK


def test_quantities() -> None:
    assert quantity("25m") == 0.025
    assert quantity("1Gi") == 2**30
    assert quantity("0.5") == 0.5
    with pytest.raises(ValueError, match="'much' is no quantity"):
        quantity("much")


def test_what_a_shop_takes_follows_from_the_chart() -> None:
    """Services with 10m and 96Mi, MongoDB with 50m and 384Mi, each with a proxy of 10m and 64Mi or
    24Mi; a sandbox with 25m and 64Mi and none.
    """
    assert shop_requests("istio") == Resources(265, 9 * 96 + 384 + 64 + 10 * 64, 11)
    assert shop_requests("linkerd") == Resources(265, 9 * 96 + 384 + 64 + 10 * 24, 11)
    assert student_requests("istio").pods == 15
    annotations = chart_values("istio")["pod"]["annotations"]
    assert annotations["sidecar.istio.io/proxyMemory"] == "64Mi"


def test_room_is_what_pods_have_not_asked_for() -> None:
    def node(*, cpu: str, **spec: Any) -> Object:
        return {"spec": spec, "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "9"}}}

    taint = {"effect": "NoSchedule"}
    nodes = [node(cpu="2"), node(cpu="4", taints=[taint]), node(cpu="8", unschedulable=True)]
    assert allocatable(nodes) == Resources(2000, 8192, 9)

    def container(cpu: str, **more: str) -> Object:
        return {"resources": {"requests": {"cpu": cpu, "memory": "64Mi"}}, **more}

    running = {
        "spec": {
            "containers": [container("10m"), {}],
            "initContainers": [container("20m", restartPolicy="Always"), container("25m")],
        },
        "status": {"phase": "Running"},
    }
    ended = {"spec": {"containers": [container("500m")]}, "status": {"phase": "Succeeded"}}
    assert requested([running, ended]) == Resources(30, 128, 1)
    assert fitting(Resources(1000, 1000, 10), Resources(300, 100, 1)) == 3
    assert fitting(Resources(-5, 1000, 10), Resources(300, 100, 1)) == 0


def test_what_is_used_is_what_kubelets_count() -> None:
    cluster = FakeClassCluster()
    cluster.put({"kind": "Pod", "metadata": {"name": "a", "namespace": "student-01"}})
    cluster.put({"kind": "Pod", "metadata": {"name": "b", "namespace": "other"}})
    assert used([cluster.summary()], "student-01") == Resources(20, 256, 1)


@pytest.mark.parametrize("mesh", ["istio", "linkerd"])
def test_a_namespace_is_bounded(mesh: Any) -> None:
    student = Student("student-07", mesh)
    made = {each["kind"]: each for each in manifests(student)}
    assert all(
        each["metadata"].get("namespace") == "student-07"
        for kind, each in made.items()
        if kind != "Namespace"
    )
    (subject,) = made["RoleBinding"]["subjects"]
    assert (subject["namespace"], subject["name"]) == ("student-07", "student")
    assert made["RoleBinding"]["roleRef"]["kind"] == "Role"
    assert quota(student)["services.nodeports"] == quota(student)["services.loadbalancers"] == "0"
    # A shop whose pods are all made again fits in.
    assert int(quota(student)["pods"]) >= 2 * shop_requests(mesh).pods
    network_policy = made["NetworkPolicy"]["spec"]
    assert (network_policy["podSelector"], network_policy["policyTypes"]) == ({}, ["Ingress"])
    own, gateway, observers = network_policy["ingress"]
    assert own == {"from": [{"podSelector": {}}]}
    ports = {each["port"] for each in gateway["ports"]}
    assert ports == ({3000} if mesh == "istio" else {3000, 4143})
    assert 27017 not in {each["port"] for each in observers["ports"]}


def test_a_report_is_read_as_it_was_written() -> None:
    written = Report(lab="06-canary", place="istio", checks=3, lines=[])
    assert report_of(written.manifest()) == written
