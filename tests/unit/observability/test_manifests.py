"""observability/: small, closed, pinned, and where the shop and both meshes look for it."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from services.common.topology import load_topology
from tests.testkit.cluster import Object, render, run
from tests.unit.observability.metrics import FOLDER, ROOT
from tools.kind import OBSERVABILITY, OTLP_ENDPOINT, PROMETHEUS_URL
from tools.mesh.__main__ import OBSERVERS
from tools.observability import settings

VARIANTS = ("plain", "istio", "linkerd")
NAMESPACE = "observability"
MIB = 1024**2
# `kubectl apply` keeps a copy of an object in an annotation, which must not be larger.
LARGEST_ANNOTATION = 262_144
TOPOLOGY = load_topology()


@functools.cache
def manifests(variant: str) -> tuple[Object, ...]:
    """What `kubectl apply -k` sends; no cluster is asked."""
    text = run("kubectl", "kustomize", str(FOLDER / variant))
    return tuple(yaml.safe_load_all(text))


def of_kind(variant: str, kind: str) -> list[Object]:
    return [each for each in manifests(variant) if each["kind"] == kind]


def pods(variant: str) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, str]]]:
    """The name, the spec and the annotations of each Deployment's pod."""
    for each in of_kind(variant, "Deployment"):
        template = each["spec"]["template"]
        annotations = template["metadata"].get("annotations", {})
        yield each["metadata"]["name"], template["spec"], annotations


def size_bytes(quantity: str) -> int:
    """`64Mi` in bytes."""
    return int(quantity.removesuffix("Mi")) * MIB


def test_each_mesh_has_its_folder() -> None:
    assert set(OBSERVABILITY.values()) == {f"observability/{variant}" for variant in VARIANTS}


def test_what_follows_from_the_topology_does() -> None:
    for path, text in settings.files(TOPOLOGY).items():
        assert path.read_text(encoding="utf-8") == text, "run `make observability`"


def test_strategies_are_the_lessons() -> None:
    strategies = json.loads((FOLDER / "jaeger" / "sampling.json").read_text(encoding="utf-8"))
    shares = {each["service"]: each["param"] for each in strategies["service_strategies"]}
    assert shares == {"frontend": 1.0, "product-service": 0.8}
    assert strategies["default_strategy"] == {"type": "probabilistic", "param": 0.1}


@pytest.mark.needs_programs("kubectl")
@pytest.mark.parametrize("variant", VARIANTS)
def test_it_asks_for_no_more_than_a_gibibyte(variant: str) -> None:
    wanted_bytes = 0
    for _, spec, notes in pods(variant):
        for container in spec["containers"]:
            wanted_bytes += size_bytes(container["resources"]["requests"]["memory"])
            assert container["resources"]["limits"].keys() >= {"cpu", "memory"}
        if notes.get("linkerd.io/inject") == "enabled":
            wanted_bytes += size_bytes(notes["config.linkerd.io/proxy-memory-request"])
    assert 512 * MIB < wanted_bytes <= 1024 * MIB


@pytest.mark.needs_programs("kubectl")
@pytest.mark.parametrize("variant", VARIANTS)
def test_pods_keep_to_the_restricted_standard(variant: str) -> None:
    for name, spec, _ in pods(variant):
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not spec.keys() & {"hostNetwork", "hostPID", "hostIPC", "initContainers"}, name
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False, name
            assert security["capabilities"] == {"drop": ["ALL"]}, name
            assert security["readOnlyRootFilesystem"] is True, name
        for volume in spec["volumes"]:
            assert volume.keys() & {"configMap", "emptyDir"}, volume
            if "emptyDir" in volume:
                assert volume["emptyDir"]["sizeLimit"], volume


@pytest.mark.needs_programs("kubectl")
@pytest.mark.parametrize("variant", VARIANTS)
def test_only_who_asks_the_cluster_has_a_token(variant: str) -> None:
    with_token = {name for name, spec, _ in pods(variant) if spec["automountServiceAccountToken"]}
    assert with_token == {"prometheus"} | ({"kiali"} if variant == "istio" else set[str]())
    for role in (*of_kind(variant, "ClusterRole"), *of_kind(variant, "Role")):
        for rule in role["rules"]:
            assert "secrets" not in rule["resources"]
            only_looks = set(rule["verbs"]) <= {"get", "list", "watch"}
            assert only_looks or rule["resources"] == ["pods/portforward"]


@pytest.mark.needs_programs("kubectl")
@pytest.mark.parametrize("variant", VARIANTS)
def test_images_are_pinned(variant: str) -> None:
    for name, spec, _ in pods(variant):
        for container in spec["containers"]:
            assert re.search(r":v?\d+\.\d+\.\d+$", container["image"]), name


@pytest.mark.needs_programs("kubectl")
@pytest.mark.parametrize("variant", VARIANTS)
def test_kubectl_can_apply_it(variant: str) -> None:
    for each in manifests(variant):
        assert len(json.dumps(each)) < LARGEST_ANNOTATION, each["metadata"]["name"]


@pytest.mark.needs_programs("kubectl")
@pytest.mark.parametrize("variant", VARIANTS)
def test_references_lead_somewhere(variant: str) -> None:
    maps = {each["metadata"]["name"] for each in of_kind(variant, "ConfigMap")}
    accounts = {each["metadata"]["name"] for each in of_kind(variant, "ServiceAccount")}
    ports = {
        (name, port["name"])
        for name, spec, _ in pods(variant)
        for container in spec["containers"]
        for port in container["ports"]
    }
    for name, spec, _ in pods(variant):
        assert spec["serviceAccountName"] in accounts, name
        for volume in spec["volumes"]:
            if "configMap" in volume:
                assert volume["configMap"]["name"] in maps, name
    for service in of_kind(variant, "Service"):
        name = service["spec"]["selector"]["app.kubernetes.io/name"]
        for port in service["spec"]["ports"]:
            assert (name, port["targetPort"]) in ports, service["metadata"]["name"]
    for each in manifests(variant):
        if "namespace" in each["metadata"]:
            assert each["metadata"]["namespace"] in {NAMESPACE, "istio-system"}


@pytest.mark.needs_programs("kubectl")
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_shop_and_the_meshes_find_them(variant: str) -> None:
    services = {each["metadata"]["name"]: each for each in of_kind(variant, "Service")}
    ports = {port["port"] for port in services["jaeger"]["spec"]["ports"]}
    assert {4317, 4318, 16686} <= ports
    assert f"http://jaeger.{NAMESPACE}:4317" == OTLP_ENDPOINT
    assert [port["port"] for port in services["prometheus"]["spec"]["ports"]] == [9090]
    assert f"http://prometheus.{NAMESPACE}:9090" == PROMETHEUS_URL
    istio = (ROOT / "mesh" / "istio" / "install.yaml").read_text(encoding="utf-8")
    assert f"service: jaeger.{NAMESPACE}.svc.cluster.local, port: 4317" in istio
    linkerd = yaml.safe_load((ROOT / "mesh/linkerd/install.yaml").read_text(encoding="utf-8"))
    collector = linkerd["proxy"]["tracing"]["collector"]
    assert collector["endpoint"] == f"jaeger.{NAMESPACE}:4317"
    (account,) = [spec["serviceAccountName"] for name, spec, _ in pods(variant) if name == "jaeger"]
    assert collector["meshIdentity"] == {"serviceAccountName": account, "namespace": NAMESPACE}


@pytest.mark.parametrize("mesh", ["istio", "linkerd"])
def test_a_version_that_goes_out_by_itself_is_judged_by_this_prometheus(mesh: str) -> None:
    scenario = ROOT / "mesh" / mesh / "scenarios/19-progressive-delivery/rollout.yaml"
    _, template = yaml.safe_load_all(scenario.read_text(encoding="utf-8"))
    (metric,) = template["spec"]["metrics"]
    assert metric["provider"]["prometheus"]["address"] == PROMETHEUS_URL


@pytest.mark.needs_programs("kubectl")
@pytest.mark.parametrize("variant", VARIANTS)
def test_argo_rollouts_may_ask_prometheus(variant: str) -> None:
    (policy,) = [
        each
        for each in of_kind(variant, "NetworkPolicy")
        if each["metadata"]["name"] == "argo-rollouts"
    ]
    assert policy["spec"]["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "prometheus"}
    (rule,) = policy["spec"]["ingress"]
    named = {"kubernetes.io/metadata.name": "argo-rollouts"}
    assert rule["from"] == [{"namespaceSelector": {"matchLabels": named}}]
    assert rule["ports"] == [{"protocol": "TCP", "port": 9090}]


@pytest.mark.needs_programs("kubectl")
def test_who_must_be_known_is_in_linkerd() -> None:
    meshed = {
        name for name, _, notes in pods("linkerd") if notes.get("linkerd.io/inject") == "enabled"
    }
    assert meshed == {"jaeger", "prometheus"}
    (namespace,) = of_kind("linkerd", "Namespace")
    # A proxy's init container is more than "restricted" allows.
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"
    for variant in ("plain", "istio"):
        (namespace,) = of_kind(variant, "Namespace")
        assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
        assert not any("linkerd.io/inject" in notes for *_, notes in pods(variant))


@pytest.mark.needs_programs("kubectl", "helm")
@pytest.mark.parametrize(
    ("mesh", "port"),
    [
        ("none", "of the annotation"),
        ("istio", 15020),
        ("linkerd", "of the annotation"),
        ("linkerd", 4191),
    ],
)
def test_the_chart_lets_prometheus_read(mesh: str, port: str | int) -> None:
    assert NAMESPACE in OBSERVERS
    shop = render("--set", f"mesh={mesh}")
    for service in TOPOLOGY.services.values():
        (workload, *_) = [
            each
            for each in shop
            if each["kind"] == "Deployment" and each["metadata"]["name"] == service.workload
        ]
        metadata = workload["spec"]["template"]["metadata"]
        assert metadata["annotations"]["prometheus.io/scrape"] == "true"
        assert metadata["labels"]["app.kubernetes.io/part-of"] == "meshmart"
        read = port if isinstance(port, int) else int(metadata["annotations"]["prometheus.io/port"])
        assert read in open_to_observers(shop, service.workload), service.workload


def open_to_observers(shop: list[Object], workload: str) -> set[int]:
    """The ports of a service's pods at which the chart lets the observers' namespaces in."""
    found: set[int] = set()
    for policy in shop:
        if policy["kind"] != "NetworkPolicy":
            continue
        labels = policy["spec"]["podSelector"].get("matchLabels", {})
        if labels.get("app.kubernetes.io/name", workload) != workload:
            continue
        for rule in policy["spec"].get("ingress", []):
            for peer in rule.get("from", []):
                expressions = peer.get("namespaceSelector", {}).get("matchExpressions", [])
                if any(NAMESPACE in each.get("values", []) for each in expressions):
                    found |= {each["port"] for each in rule["ports"]}
    return found


@pytest.mark.needs_programs("kubectl")
@pytest.mark.parametrize("variant", VARIANTS)
def test_spans_come_in_from_everywhere_and_nothing_else_does(variant: str) -> None:
    rules = [
        (policy["spec"]["podSelector"].get("matchLabels", {}), rule)
        for policy in of_kind(variant, "NetworkPolicy")
        for rule in policy["spec"]["ingress"]
    ]
    from_everywhere = {
        (labels.get("app.kubernetes.io/name"), port["port"])
        for labels, rule in rules
        if {"namespaceSelector": {}} in rule["from"]
        for port in rule["ports"]
    }
    proxies = {(None, 4143)} if variant == "linkerd" else set[tuple[None, int]]()
    assert from_everywhere == {("jaeger", 4317), ("jaeger", 4318), ("jaeger", 5778), *proxies}


@pytest.mark.needs_programs("kubectl")
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_frontend_alone_of_a_shop_may_ask_prometheus(variant: str) -> None:
    asking = [
        peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"]
        for policy in of_kind(variant, "NetworkPolicy")
        if policy["spec"]["podSelector"]
        == {"matchLabels": {"app.kubernetes.io/name": "prometheus"}}
        for rule in policy["spec"]["ingress"]
        for peer in rule["from"]
        if "podSelector" in peer
    ]
    assert asking == [TOPOLOGY.services["frontend"].workload]


def test_grafana_asks_nobody_outside() -> None:
    deployment = next(
        each
        for each in yaml.safe_load_all(
            (FOLDER / "grafana" / "grafana.yaml").read_text(encoding="utf-8")
        )
        if each["kind"] == "Deployment"
    )
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    told = {each["name"]: each["value"] for each in container["env"]}
    assert told["GF_PLUGINS_PREINSTALL_DISABLED"] == "true"
    assert told["GF_ANALYTICS_CHECK_FOR_UPDATES"] == "false"
    assert told["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert told["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert "GF_INSTALL_PLUGINS" not in told
