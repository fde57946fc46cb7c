"""A shop that knows of no mesh is put into one by hand, as the chart's notes say: NetworkPolicies,
probes and jobs do not stand in the way.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.cluster.release import Release, install, uninstall
from tests.mesh.meshed import Mesh
from tests.mesh.shops import chosen
from tests.testkit.cluster import Namespace, run

pytestmark = pytest.mark.long

_NAME = "by-label"
_MARK = {
    "istio": ("label", "istio-injection=enabled"),
    "linkerd": ("annotate", "linkerd.io/inject=enabled"),
}


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> type[Mesh]:
    """The mesh of this run."""
    kind = chosen(request.config)
    if kind.name not in _MARK or not kind.is_installed():
        pytest.skip(f"it is about a mesh, and this run has none ({kind.name})")
    return kind


@pytest.fixture
def plain() -> Generator[Release]:
    """A shop without a mesh, and with its sandbox beside it."""
    release = Release("", Namespace(_NAME), Namespace(_NAME), "privileged")
    uninstall(release)
    install(release, "--set", "stripe.sandbox.namespace=", "--wait", "--timeout", "300s")
    yield release
    uninstall(release)


def test_a_plain_shop_sells_in_the_mesh_too(kind: type[Mesh], plain: Release) -> None:
    verb, mark = _MARK[kind.name]
    run("kubectl", verb, "namespace", _NAME, mark)
    plain.namespace.kubectl("rollout", "restart", "deployment,statefulset")
    for workload in plain.namespace.objects("deployments,statefulsets"):
        plain.namespace.roll_out(f"{workload['kind'].lower()}/{workload['metadata']['name']}")

    def has_proxy(workload: str) -> bool:
        (pod,) = plain.pods(workload)
        spec = plain.namespace.object("pod", pod)["spec"]
        containers = [*spec["containers"], *spec.get("initContainers", ())]
        return kind.proxy in {each["name"] for each in containers}

    assert has_proxy("order-service")
    assert has_proxy("mongodb")
    assert not has_proxy("stripe-sandbox")
    assert "Succeeded" in plain.namespace.helm("test", "shop", "--timeout", "120s")
    # Another job, whose pod has a proxy, too, and ends.
    plain.upgrade("pod.annotations.round=two")
    plain.namespace.kubectl("wait", "--for=condition=complete", "jobs", "--all", "--timeout=120s")
