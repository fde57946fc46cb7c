"""istioctl finds nothing to complain about, in the base and in every scenario on top of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mesh.istio.mesh import BASE, IstioMesh
from tests.testkit.cluster import CommandFailed, run

# It is said of every EnvoyFilter there is, also of the base's one in the gateway's namespace: that
# Envoy's own words may change.
_SUPPRESSED = ("--suppress", "IST0133=EnvoyFilter *")
CASES = [
    BASE,
    BASE.parent / "stripe-key",
    *sorted(path.parent for path in IstioMesh.scenarios().rglob("kustomization.yaml")),
]


def analyzed(manifests: str, directory: Path) -> str:
    """What istioctl says about the cluster as it would be with these manifests."""
    file = directory / "changed.yaml"
    file.write_text(manifests, encoding="utf-8")
    return run("istioctl", "analyze", "-n", "ecommerce", *_SUPPRESSED, str(file)).strip()


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_there_is_nothing_to_complain_about(mesh: IstioMesh, folder: Path, tmp_path: Path) -> None:
    assert analyzed(run("kubectl", "kustomize", str(folder)), tmp_path) == ""


def test_there_is_nothing_to_complain_about_as_installed(mesh: IstioMesh) -> None:
    """What README.md's commands have made, and no finding is left out."""
    assert run("istioctl", "analyze", "-n", "ecommerce").strip() == ""


def test_a_route_to_nobody_would_be_noticed(mesh: IstioMesh, tmp_path: Path) -> None:
    calls = (BASE / "calls.yaml").read_text(encoding="utf-8")
    with pytest.raises(CommandFailed, match="IST0101"):
        analyzed(calls.replace("{host: auth-service,", "{host: nobody,"), tmp_path)
