"""The load test's Jobs in a cluster: what a mesh reads of them, and the way to the shop."""

from __future__ import annotations

from typing import Any

import pytest

from tools import cluster_audit
from tools.load_cluster import MeshChoice, manifests, target_of


def jobs_of(mesh: MeshChoice, *, is_meshed: bool = False) -> dict[str, Any]:
    """Returns the specification of each Job, by its name."""
    objects = manifests(
        namespace="ecommerce-load",
        image="meshmart-load:0.1.0",
        workers=4,
        mesh=mesh,
        is_meshed=is_meshed,
        options=["--host", "http://frontend.ecommerce", "--shape", "steps"],
    )
    assert [each["kind"] for each in objects] == ["Namespace", "Service", "Job", "Job"]
    return {each["metadata"]["name"]: each["spec"] for each in objects[2:]}


def pods_of(mesh: MeshChoice, *, is_meshed: bool = False) -> list[dict[str, Any]]:
    """Returns the templates of all pods, the master's first."""
    return [job["template"] for job in jobs_of(mesh, is_meshed=is_meshed).values()]


def test_one_pod_is_the_master_and_the_others_work():
    jobs = jobs_of("none")
    master, worker = (job["template"]["spec"]["containers"][0]["args"] for job in jobs.values())

    assert {name: job["parallelism"] for name, job in jobs.items()} == {
        "load-master": 1,
        "load-worker": 4,
    }
    assert master[:3] == ["--master", "--expect-workers", "4"]
    assert worker[:3] == ["--worker", "--master-host", "load-master"]
    for arguments in (master, worker):
        assert arguments[-4:] == ["--host", "http://frontend.ecommerce", "--shape", "steps"]


def test_workers_find_the_master_by_a_service_that_selects_only_it():
    _, service, *_ = manifests(
        namespace="ecommerce-load", image="", workers=2, mesh="none", is_meshed=False, options=[]
    )
    selector = service["spec"]["selector"].items()
    master, worker = (pod["metadata"]["labels"].items() for pod in pods_of("none"))

    assert service["metadata"]["name"] == "load-master"
    assert selector <= master
    assert not selector <= worker


@pytest.mark.parametrize("is_meshed", [False, True])
@pytest.mark.parametrize("mesh", ["none", "istio", "linkerd"])
def test_prometheus_scrapes_the_pod_that_opens_the_port_of_the_metrics(
    mesh: MeshChoice, is_meshed: bool
):
    for pod in pods_of(mesh, is_meshed=is_meshed):
        (container,) = pod["spec"]["containers"]
        opened = "--metrics-port" in container["args"]
        announced = {each["name"]: each["containerPort"] for each in container["ports"]}
        annotations = pod["metadata"]["annotations"]

        assert opened == ("--master" in container["args"])
        assert announced.get("metrics") == (9646 if opened else None)
        assert annotations.get("prometheus.io/port") == ("9646" if opened else None)
        assert annotations.get("prometheus.io/scrape") == ("true" if opened else None)
        assert pod["metadata"]["labels"]["app.kubernetes.io/part-of"] == "meshmart"


def test_a_job_that_fails_is_not_repeated():
    for job in jobs_of("none").values():
        assert job["backoffLimit"] == 0
        assert job["template"]["spec"]["restartPolicy"] == "Never"


@pytest.mark.parametrize("mesh", ["none", "istio", "linkerd"])
def test_by_default_no_mesh_adds_a_proxy(mesh: MeshChoice):
    for pod in pods_of(mesh):
        assert pod["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"
        assert pod["metadata"]["annotations"]["linkerd.io/inject"] == "disabled"


def test_a_proxy_of_istio_leaves_the_workers_alone():
    for pod in pods_of("istio", is_meshed=True):
        assert pod["metadata"]["labels"]["sidecar.istio.io/inject"] == "true"
        excluded = pod["metadata"]["annotations"]["traffic.sidecar.istio.io/excludeOutboundPorts"]
        assert excluded == "5557"


def test_a_proxy_of_linkerd_ends_with_the_job():
    for pod in pods_of("linkerd", is_meshed=True):
        annotations = pod["metadata"]["annotations"]
        assert annotations["linkerd.io/inject"] == "enabled"
        assert annotations["config.beta.linkerd.io/proxy-enable-native-sidecar"] == "true"
        assert annotations["config.linkerd.io/skip-outbound-ports"] == "5557"


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
