"""Whom Prometheus reads in a cluster, and what it calls them: prometheus.yml, with pods that a file
tells of in the place of a cluster.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.observability.metrics import FOLDER

pytestmark = pytest.mark.needs_programs("promtool")

Labels = Mapping[str, str]


def pod(address: str, namespace: str = "ecommerce", **meta: str) -> dict[str, Any]:
    """A port of a running pod's container as Prometheus discovers it."""
    ip, _, port = address.rpartition(":")
    labels = {
        "namespace": namespace,
        "pod_ip": ip.strip("[]"),
        "pod_name": "order-service-1",
        "pod_phase": "Running",
        "pod_container_name": "order",
        "pod_container_port_name": "http",
        "pod_container_port_number": port,
        "pod_label_app_kubernetes_io_name": "order-service",
        "pod_label_app_kubernetes_io_part_of": "meshmart",
        "pod_label_version": "v1",
        **meta,
    }
    named = {f"__meta_kubernetes_{name}": value for name, value in labels.items()}
    return {"targets": [address], "labels": named}


def asked_for(port: str, path: str = "/metrics") -> dict[str, str]:
    """The annotations that have a pod read."""
    return {
        "pod_annotation_prometheus_io_scrape": "true",
        "pod_annotation_prometheus_io_port": port,
        "pod_annotation_prometheus_io_path": path,
    }


def read(folder: Path, job: str, *pods: Mapping[str, Any]) -> list[Labels]:
    """The targets that a job makes of pods, each once, with all labels that are not dropped."""
    found = folder / "pods.json"
    found.write_text(json.dumps(pods), encoding="utf-8")
    configuration = yaml.safe_load(
        (FOLDER / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
    )
    for each in configuration["scrape_configs"]:
        del each["kubernetes_sd_configs"]
        each["file_sd_configs"] = [{"files": [str(found)]}]
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    done = subprocess.run(
        ["promtool", "check", "service-discovery", "--timeout=2s", str(file), job],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    targets = [each["labels"] for each in json.loads(done.stdout) if each.get("labels")]
    return [dict(each) for each in {tuple(sorted(labels.items())) for labels in targets}]


def test_a_service_is_read_where_its_annotations_say(tmp_path: Path) -> None:
    ports = [
        pod("10.0.0.7:3000", **asked_for("3001")),
        pod("10.0.0.7:9000", pod_container_port_name="grpc", **asked_for("3001")),
    ]
    (target,) = read(tmp_path, "pods", *ports)
    assert target["__address__"] == "10.0.0.7:3001"
    assert target["__metrics_path__"] == "/metrics"
    assert {name: target[name] for name in ("namespace", "pod", "app", "version")} == {
        "namespace": "ecommerce",
        "pod": "order-service-1",
        "app": "order-service",
        "version": "v1",
    }


def test_a_proxy_of_istio_has_both(tmp_path: Path) -> None:
    """The injector has written other annotations."""
    (target,) = read(
        tmp_path, "pods", pod("10.0.0.7:3000", **asked_for("15020", "/stats/prometheus"))
    )
    assert target["__address__"] == "10.0.0.7:15020"
    assert target["__metrics_path__"] == "/stats/prometheus"


@pytest.mark.parametrize(
    ("job", "container"),
    [
        ("pods", {}),
        (
            "linkerd-proxy",
            {
                "pod_container_name": "linkerd-proxy",
                "pod_container_port_name": "linkerd-admin",
            },
        ),
    ],
)
def test_a_version_that_goes_out_by_itself_is_told_from_others(
    tmp_path: Path, job: str, container: dict[str, str]
) -> None:
    """By the label with which scenario 19 asks."""
    of_rollout = {"pod_label_rollouts_pod_template_hash": "6c5d8f7b9", **asked_for("15020")}
    (target,) = read(tmp_path, job, pod("10.0.0.7:15020", **of_rollout, **container))
    assert target["rollouts_pod_template_hash"] == "6c5d8f7b9"


def test_an_address_of_ipv6_is_one(tmp_path: Path) -> None:
    (target,) = read(tmp_path, "pods", pod("[fd00::7]:3000", **asked_for("3000")))
    assert target["__address__"] == "[fd00::7]:3000"


def test_gateways_are_read_and_strangers_are_not(tmp_path: Path) -> None:
    nobodys = {"pod_label_app_kubernetes_io_part_of": ""}
    gateway = {**nobodys, "pod_label_app": "istio-ingressgateway"}
    gateway["pod_label_app_kubernetes_io_name"] = ""
    targets = read(
        tmp_path,
        "pods",
        pod("10.0.0.1:9100", "shop-ingress", **nobodys, **asked_for("9100")),
        pod("10.0.0.2:8080", "istio-system", **gateway, **asked_for("15020")),
        pod("10.0.0.3:9100", "elsewhere", **nobodys, **asked_for("9100")),
        pod("10.0.0.4:3000"),
        pod("10.0.0.5:3000", pod_phase="Succeeded", **asked_for("3000")),
    )
    assert {target["__address__"] for target in targets} == {"10.0.0.1:9100", "10.0.0.2:15020"}
    assert "istio-ingressgateway" in {target["app"] for target in targets}


def test_a_proxy_of_linkerd_is_called_as_viz_calls_it(tmp_path: Path) -> None:
    meshed = {
        "pod_label_linkerd_io_control_plane_ns": "linkerd",
        "pod_label_linkerd_io_proxy_deployment": "product-service-v2",
        "pod_label_linkerd_io_workload_ns": "ecommerce",
    }
    proxy = {"pod_container_name": "linkerd-proxy", "pod_container_port_name": "linkerd-admin"}
    (target,) = read(
        tmp_path,
        "linkerd-proxy",
        pod("10.0.0.7:3000", **meshed),
        pod("10.0.0.7:4191", **meshed, **proxy),
        pod("10.0.0.7:4143", **meshed, **{**proxy, "pod_container_port_name": "linkerd-proxy"}),
    )
    shown = {name: value for name, value in target.items() if not name.startswith("__")}
    assert target["__address__"] == "10.0.0.7:4191"
    assert shown == {
        "job": "linkerd-proxy",
        "instance": "10.0.0.7:4191",
        "namespace": "ecommerce",
        "pod": "order-service-1",
        "deployment": "product-service-v2",
        "control_plane_ns": "linkerd",
        "workload_ns": "ecommerce",
        "app_kubernetes_io_name": "order-service",
        "app_kubernetes_io_part_of": "meshmart",
        "version": "v1",
    }
