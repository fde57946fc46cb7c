"""What a scenario or a lab may change, and has to put back."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from tests.mesh.meshed import Mesh
from tests.testkit.cluster import run

_MAY_CHANGE = re.compile(
    r".*\.(istio|linkerd|gateway\.networking\.k8s|argoproj)\.io"
    r"|networkpolicies\..*|services|deployments\..*"
)


@cache
def _kinds() -> str:
    """Those of which a scenario may change an object."""
    names = run("kubectl", "api-resources", "--namespaced", "--verbs=list,delete", "-o", "name")
    return ",".join(name for name in names.split() if _MAY_CHANGE.fullmatch(name))


def configuration(mesh: Mesh) -> Mapping[str, Any]:
    """All that a scenario may have changed, and how many pods each workload is to have."""
    there = json.loads(run("kubectl", "get", _kinds(), "-A", "-o", "json"))["items"]
    namespaces = {mesh.namespace.name, mesh.release.stripe.name, mesh.way_in.namespace}
    return {
        "/".join((each["metadata"]["namespace"], each["kind"], each["metadata"]["name"])): (
            each["metadata"].get("labels", {}),
            each["spec"]["replicas"] if each["kind"] == "Deployment" else each.get("spec"),
        )
        for each in there
        if each["metadata"]["namespace"] in namespaces
    }
