"""What any workload in a cluster should be, checked over everything that the chart can make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import pytest

from tests.cluster.test_goldens import CASES, HERE
from tests.testkit.cluster import Object, render

WORKLOADS = {"Deployment", "StatefulSet", "Job", "Pod"}
# They end by themselves, so nobody sends them requests.
_SHORT_LIVED = {"Job", "Pod"}


@cache
def manifests(case: str) -> list[Object]:
    return render("--values", str(HERE / "values" / f"{case}.yaml"))


def pods(case: str) -> Iterator[tuple[Object, Mapping[str, Any]]]:
    """Every workload and its pod's spec."""
    for manifest in manifests(case):
        if manifest["kind"] in WORKLOADS:
            spec = manifest["spec"]
            yield manifest, spec if manifest["kind"] == "Pod" else spec["template"]["spec"]


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    return request.param


def test_no_pod_runs_as_root_or_may_become_more(case: str) -> None:
    for manifest, pod in pods(case):
        name = manifest["metadata"]["name"]
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["seccompProfile"]["type"] == "RuntimeDefault", name
        for container in pod["containers"]:
            limits = container["securityContext"]
            assert limits["allowPrivilegeEscalation"] is False, name
            assert limits["readOnlyRootFilesystem"] is True, name
            assert limits["capabilities"] == {"drop": ["ALL"]}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys(), name


def test_no_pod_can_speak_to_the_api_server(case: str) -> None:
    for manifest, pod in pods(case):
        assert pod["automountServiceAccountToken"] is False, manifest["metadata"]["name"]
    kinds = {manifest["kind"] for manifest in manifests(case)}
    assert not kinds & {"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"}


def test_every_image_has_a_version(case: str) -> None:
    for manifest, pod in pods(case):
        for container in pod["containers"]:
            _, _, tag = container["image"].rpartition(":")
            assert tag not in {"", "latest"}, manifest["metadata"]["name"]


def test_every_container_has_requests_and_limits(case: str) -> None:
    for manifest, pod in pods(case):
        for container in pod["containers"]:
            for bound in ("requests", "limits"):
                amounts = container["resources"][bound]
                assert amounts.keys() == {"cpu", "memory", "ephemeral-storage"}, manifest[
                    "metadata"
                ]


def test_every_server_has_probes_on_paths_of_their_own(case: str) -> None:
    for manifest, pod in pods(case):
        if manifest["kind"] in _SHORT_LIVED:
            continue
        for container in pod["containers"]:
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                # A mesh's proxy would take any TCP connection.
                assert "tcpSocket" not in container[probe], manifest["metadata"]["name"]
                path = container[probe].get("httpGet", {}).get("path", "/readyz")
                assert path in {"/livez", "/readyz"}, manifest["metadata"]["name"]


def test_what_is_internal_is_asked_by_the_kubelet_and_in_no_service(case: str) -> None:
    for manifest in manifests(case):
        if manifest["kind"] == "Service":
            offered = {port["targetPort"] for port in manifest["spec"]["ports"]}
            assert offered.isdisjoint({"internal", 3001}), manifest["metadata"]["name"]
    (frontend, *_) = (
        pod for manifest, pod in pods(case) if manifest["metadata"]["name"] == "frontend"
    )
    (container,) = frontend["containers"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] == "internal"


def test_every_selector_finds_exactly_its_own_pods(case: str) -> None:
    made = manifests(case)
    labels = {
        manifest["metadata"]["name"]: manifest["spec"]["template"]["metadata"]["labels"]
        for manifest in made
        if manifest["kind"] in {"Deployment", "StatefulSet"}
    }

    def found_by(selector: Mapping[str, str]) -> set[str]:
        return {name for name, own in labels.items() if selector.items() <= own.items()}

    for manifest in made:
        name = manifest["metadata"]["name"]
        if manifest["kind"] in {"Deployment", "StatefulSet"}:
            assert found_by(manifest["spec"]["selector"]["matchLabels"]) == {name}
        elif manifest["kind"] == "Service":
            found = found_by(manifest["spec"]["selector"])
            assert name in found
            assert all(other.startswith(name) for other in found)


def test_every_service_port_says_its_protocol(case: str) -> None:
    protocols = {"http": "http", "https": "https", "grpc": "kubernetes.io/h2c", "tcp-mongo": "tcp"}
    for manifest in manifests(case):
        if manifest["kind"] == "Service":
            for port in manifest["spec"]["ports"]:
                assert port["appProtocol"] == protocols[port["name"]], manifest["metadata"]["name"]


def test_every_reference_leads_somewhere(case: str) -> None:
    made = manifests(case)
    names: dict[str, set[str]] = {}
    for manifest in made:
        names.setdefault(manifest["kind"], set()).add(manifest["metadata"]["name"])
    of_the_user = {"mail", "shop-secrets"}  # what values/*.yaml say to be there
    for _, pod in pods(case):
        if "serviceAccountName" in pod:
            assert pod["serviceAccountName"] in names["ServiceAccount"]
        for container in pod["containers"]:
            secrets = {
                variable["valueFrom"]["secretKeyRef"]["name"]
                for variable in container.get("env", ())
                if "valueFrom" in variable
            } | {source["secretRef"]["name"] for source in container.get("envFrom", ())}
            assert secrets <= names["Secret"] | of_the_user


def test_a_gateway_takes_from_people_what_only_the_shop_says() -> None:
    (route,) = (
        each for each in render("--set", "ingress.kind=gateway") if each["kind"] == "HTTPRoute"
    )
    for rule in route["spec"]["rules"]:
        (only,) = rule["filters"]
        assert {"traceparent", "x-request-id", "baggage"} <= set(
            only["requestHeaderModifier"]["remove"]
        )
