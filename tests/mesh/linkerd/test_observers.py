"""Who reads what the proxies and the services have counted: the observers, with and without a proxy
of their own, and nobody else.
"""

from __future__ import annotations

import json
from collections.abc import Generator

import pytest

from tests.cluster.release import IMAGE
from tests.mesh.meshed import OUTSIDER, Mesh
from tests.testkit.cluster import Namespace, run
from tests.testkit.matrix import STRANGER, TOPOLOGY

# An observer's namespace of the chart's and of the base's. Its pod `jaeger` has a proxy.
OBSERVABILITY = Namespace("observability")
ORDER = TOPOLOGY.services["order"]


@pytest.fixture
def prometheus() -> Generator[str]:
    """A pod in that namespace without a proxy."""
    name = "prometheus"
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": OBSERVABILITY.name},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": name,
                    "image": IMAGE,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["sleep", "infinity"],
                }
            ],
        },
    }
    run("kubectl", "apply", "-f", "-", given=json.dumps(pod))
    OBSERVABILITY.kubectl("wait", f"pod/{name}", "--for=condition=Ready", "--timeout=60s")
    yield name
    OBSERVABILITY.kubectl("delete", "pod", name)


def test_the_proxies_metrics(mesh: Mesh, prometheus: str) -> None:
    read = {"method": "GET", "url": f"http://{pod_address(mesh)}:4191/metrics"}
    assert mesh.probe("jaeger", [read], OBSERVABILITY)[0].detail == "200"
    assert mesh.probe(prometheus, [read], OBSERVABILITY)[0].detail == "200"
    if mesh.has_policies:
        assert mesh.probe(OUTSIDER, [read])[0].refused_by == "the network"


def test_the_services_own_metrics(mesh: Mesh, prometheus: str) -> None:
    read = {"method": "GET", "url": f"http://{pod_address(mesh)}:{ORDER.http.port}/metrics"}
    assert mesh.probe("jaeger", [read], OBSERVABILITY)[0].detail == "200"
    assert mesh.probe(prometheus, [read], OBSERVABILITY)[0].outcome == "denied"
    assert mesh.probe(STRANGER, [read])[0].outcome == "denied"


def pod_address(mesh: Mesh) -> str:
    """The address of one of order's pods."""
    (pod, *_) = mesh.namespace.objects("pods", f"app.kubernetes.io/name={ORDER.workload}")
    return pod["status"]["podIP"]
