"""Every manifest in the repository is one that the cluster's API server takes, with all its fields
known and right.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.cluster.test_goldens import CASES, HERE
from tests.harness.cluster import CommandFailed, Namespace, run, run_chart

# Where the manifests would go; nothing is made in it.
_NAMESPACE = "dry-run"
# Kinds that a plain cluster does not have, and what brings them.
_FROM_ELSEWHERE = {"HTTPRoute": "the Gateway API"}


@pytest.fixture(scope="module")
def namespace() -> Generator[Namespace]:
    run("kubectl", "create", "namespace", _NAMESPACE)
    run(
        *("kubectl", "label", "namespace", _NAMESPACE),
        "pod-security.kubernetes.io/enforce=restricted",
    )
    yield Namespace(_NAMESPACE)
    run("kubectl", "delete", "namespace", _NAMESPACE, "--wait")


@pytest.mark.parametrize("case", CASES)
def test_the_api_server_takes_it(case: str, namespace: Namespace) -> None:
    manifests = run_chart("--values", str(HERE / "values" / f"{case}.yaml"))
    for kind, source in _FROM_ELSEWHERE.items():
        if f"kind: {kind}\n" in manifests and not _is_known(kind):
            pytest.skip(f"this cluster lacks {source}, so it cannot judge a {kind}")
    # The sandbox goes into a namespace that the chart makes, which a dry run has not.
    manifests = manifests.replace("namespace: stripe\n", f"namespace: {_NAMESPACE}\n")
    said = namespace.kubectl(
        *("apply", "--dry-run=server", "--validate=strict", "-f", "-"), given=manifests
    )
    assert "created (server dry run)" in said


def test_a_field_that_does_not_exist_is_noticed(namespace: Namespace) -> None:
    manifests = run_chart().replace("automountServiceAccountToken: false", "autoMount: false")
    manifests = manifests.replace("namespace: stripe\n", f"namespace: {_NAMESPACE}\n")
    with pytest.raises(CommandFailed, match='unknown field "autoMount"'):
        namespace.kubectl(
            *("apply", "--dry-run=server", "--validate=strict", "-f", "-"), given=manifests
        )


def _is_known(kind: str) -> bool:
    kinds = run("kubectl", "api-resources", "-o", "wide").split()
    return kind in kinds
