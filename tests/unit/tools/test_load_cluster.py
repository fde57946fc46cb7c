"""The load test's Job in a cluster: what a mesh reads of it, and the way to the shop."""

from __future__ import annotations

from typing import Any

import pytest

from tools import cluster_audit
from tools.load_cluster import MeshChoice, manifests, target_of


def job_of(mesh: MeshChoice, *, is_meshed: bool = False) -> dict[str, Any]:
    objects = manifests(
        namespace="ecommerce-load",
        image="meshmart-load:0.1.0",
        workers=4,
        mesh=mesh,
        is_meshed=is_meshed,
        options=["--host", "http://frontend.ecommerce", "--shape", "steps"],
    )
    assert [each["kind"] for each in objects] == ["Namespace", "Service", "Job"]
    return objects[2]


def test_one_pod_is_the_master_and_the_others_work():
    spec = job_of("none")["spec"]
    (container,) = spec["template"]["spec"]["containers"]

    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 5, 5)
    assert container["env"] == [{"name": "WORKERS", "value": "4"}]
    assert container["command"][:2] == ["sh", "-c"]
    assert "--master-host load-0.load" in container["command"][2]
    assert container["args"][:4] == ["--host", "http://frontend.ecommerce", "--shape", "steps"]


def test_a_job_that_fails_is_not_repeated():
    spec = job_of("none")["spec"]

    assert spec["backoffLimit"] == 0
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


@pytest.mark.parametrize("mesh", ["none", "istio", "linkerd"])
def test_by_default_no_mesh_adds_a_proxy(mesh: MeshChoice):
    metadata = job_of(mesh)["spec"]["template"]["metadata"]

    assert metadata["labels"]["sidecar.istio.io/inject"] == "false"
    assert metadata["annotations"]["linkerd.io/inject"] == "disabled"


def test_a_proxy_of_istio_leaves_the_workers_alone():
    metadata = job_of("istio", is_meshed=True)["spec"]["template"]["metadata"]

    assert metadata["labels"]["sidecar.istio.io/inject"] == "true"
    excluded = metadata["annotations"]["traffic.sidecar.istio.io/excludeOutboundPorts"]
    assert excluded == "5557"


def test_a_proxy_of_linkerd_ends_with_the_job():
    annotations = job_of("linkerd", is_meshed=True)["spec"]["template"]["metadata"]["annotations"]

    assert annotations["linkerd.io/inject"] == "enabled"
    assert annotations["config.beta.linkerd.io/proxy-enable-native-sidecar"] == "true"
    assert annotations["config.linkerd.io/skip-outbound-ports"] == "5557"


@pytest.mark.parametrize("mesh", ["none", "istio", "linkerd"])
def test_prometheus_finds_the_pods(mesh: MeshChoice):
    for is_meshed in (False, True):
        metadata = job_of(mesh, is_meshed=is_meshed)["spec"]["template"]["metadata"]
        assert metadata["labels"]["app.kubernetes.io/part-of"] == "meshmart"
        assert metadata["annotations"]["prometheus.io/port"] == "9646"


@pytest.mark.parametrize(
    ("mesh", "options"),
    [
        ("none", ("--host", "http://frontend.ecommerce")),
        (
            "istio",
            (
                *("--host", "https://istio-ingressgateway.istio-system"),
                *("--host-header", "ecommerce.example.com", "--insecure"),
            ),
        ),
        (
            "linkerd",
            (
                *("--host", "https://traefik.shop-ingress"),
                *("--host-header", "ecommerce.example.com", "--insecure"),
            ),
        ),
    ],
)
def test_the_way_in_is_that_of_people(mesh: MeshChoice, options: tuple[str, ...]):
    assert target_of(mesh, "ecommerce").options == options


def test_another_shop_has_another_host():
    assert target_of("istio", "student-07").host == "student-07.example.com"


def test_the_audit_reads_the_url_of_the_databases_and_says_what_it_finds():
    assert cluster_audit.given('{"data": {"url": "bW9uZ29kYjovL3g="}}') == "mongodb://x\n"
    assert cluster_audit.outcome("all is well\naudit status 0\n") == (0, ["all is well"])
    assert cluster_audit.outcome("oh\nno\naudit status 1\n") == (1, ["oh", "no"])
