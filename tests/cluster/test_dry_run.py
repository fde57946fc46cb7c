"""Every manifest in the repository is one that the cluster's API server takes, with all its fields
known and right.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.cluster.test_goldens import CASES, HERE
from tests.testkit.cluster import ROOT, CommandFailed, Namespace, run, run_chart

# Where the manifests would go; nothing is made in it.
_NAMESPACE = "dry-run"
# What values/own-namespace.yaml says to be there.
_PRIORITY_CLASS = "shop"
# Kinds that a plain cluster does not have, and what brings them.
_FROM_ELSEWHERE = {
    "HTTPRoute": "the Gateway API",
    "EgressNetwork": "Linkerd",
    "HTTPLocalRateLimitPolicy": "Linkerd",
    "Server": "Linkerd",
}
# No cluster of ours has Argo Rollouts; what it moves is judged without it.
_ARGO = "argoproj.io/"
_LINKERD_START = ROOT / "mesh/linkerd/start"  # plain files
_LINKERD = sorted(
    [_LINKERD_START, *(path.parent for path in ROOT.glob("mesh/linkerd/**/kustomization.yaml"))]
)


@pytest.fixture(scope="module")
def namespace() -> Generator[Namespace]:
    run("kubectl", "create", "namespace", _NAMESPACE)
    run(
        *("kubectl", "label", "namespace", _NAMESPACE),
        "pod-security.kubernetes.io/enforce=restricted",
    )
    run("kubectl", "create", "priorityclass", _PRIORITY_CLASS, "--value=1")
    yield Namespace(_NAMESPACE)
    run("kubectl", "delete", "priorityclass", _PRIORITY_CLASS)
    run("kubectl", "delete", "namespace", _NAMESPACE, "--wait")


def dry_run(manifests: str, namespace: Namespace) -> str:
    """What the API server says to manifests of the shop's namespace."""
    for kind, source in _FROM_ELSEWHERE.items():
        if f"kind: {kind}\n" in manifests and not _is_known(kind):
            pytest.skip(f"this cluster lacks {source}, so it cannot judge a {kind}")
    return namespace.kubectl(
        *("apply", "--dry-run=server", "--validate=strict", "-f", "-"), given=manifests
    )


@pytest.mark.parametrize("case", CASES)
def test_the_api_server_takes_it(case: str, namespace: Namespace) -> None:
    manifests = run_chart("--values", str(HERE / "values" / f"{case}.yaml"))
    # A dry run has neither the shop's namespace nor the one that the chart makes for the sandbox.
    for name in ("stripe", "ecommerce"):
        manifests = manifests.replace(f"namespace: {name}\n", f"namespace: {_NAMESPACE}\n")
    assert "created (server dry run)" in dry_run(manifests, namespace)


# Istio's are applied for real: tests/mesh.
@pytest.mark.parametrize("folder", _LINKERD, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_the_api_server_takes_linkerds(folder: Path, namespace: Namespace) -> None:
    if folder == _LINKERD_START:
        whole = "---\n".join(path.read_text("utf-8") for path in sorted(folder.glob("*.yaml")))
    else:
        whole = run("kubectl", "kustomize", str(folder))
    documents = whole.split("\n---\n")
    if not _is_known("Rollout"):
        documents = [each for each in documents if f"apiVersion: {_ARGO}" not in each]
    manifests = "\n---\n".join(documents)
    for name in ("ecommerce", "shop-ingress", "stripe"):
        manifests = manifests.replace(f"namespace: {name}\n", f"namespace: {_NAMESPACE}\n")
    assert "created (server dry run)" in dry_run(manifests, namespace)


@pytest.mark.parametrize("variant", ["plain", "istio", "linkerd"])
def test_the_api_server_takes_observability(variant: str, namespace: Namespace) -> None:
    manifests = run("kubectl", "kustomize", str(ROOT / "observability" / variant))
    for name in ("observability", "istio-system"):
        manifests = manifests.replace(f"namespace: {name}\n", f"namespace: {_NAMESPACE}\n")
    assert "created (server dry run)" in dry_run(manifests, namespace)


def test_a_field_that_does_not_exist_is_noticed(namespace: Namespace) -> None:
    manifests = run_chart().replace("automountServiceAccountToken: false", "autoMount: false")
    manifests = manifests.replace("namespace: stripe\n", f"namespace: {_NAMESPACE}\n")
    with pytest.raises(CommandFailed, match='unknown field "autoMount"'):
        dry_run(manifests, namespace)


def _is_known(kind: str) -> bool:
    kinds = run("kubectl", "api-resources", "-o", "wide").split()
    return kind in kinds
