"""observability/ of a mesh, in the cluster."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import yaml

from tests.mesh.meshed import Mesh, install_bystanders
from tests.testkit.cluster import ROOT, Namespace, run

FOLDER = ROOT / "observability"
OBSERVABILITY = Namespace("observability")
_STARTED = ("jaeger", "prometheus")


@contextmanager
def installed_observers(mesh: Mesh) -> Generator[None]:
    """Jaeger and Prometheus in the place of the tests' own collector. Grafana and Kiali are applied
    and not started.
    """
    folder = FOLDER / ("plain" if mesh.name == "none" else mesh.name)
    everything = yaml.safe_load_all(run("kubectl", "kustomize", str(folder)))
    manifests = [each for each in everything if each["kind"] != "Namespace"]
    for each in manifests:
        if each["kind"] == "Deployment" and each["metadata"]["name"] not in _STARTED:
            each["spec"]["replicas"] = 0
    text = yaml.safe_dump_all(manifests)
    OBSERVABILITY.kubectl("delete", "pod", "jaeger")
    run("kubectl", "apply", "-f", "-", given=text)
    try:
        for name in _STARTED:
            OBSERVABILITY.roll_out(f"deployment/{name}")
        yield
    finally:
        run("kubectl", "delete", "--ignore-not-found", "-f", "-", given=text)
        mesh.certificates.append(install_bystanders(mesh.name))
