"""The chart's values of a student's shop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tools.mesh.render import MeshName

# What each proxy requests. Istio's own numbers, 100m and 128Mi, would be most of what a shop
# requests.
PROXY_REQUESTS: Mapping[MeshName, Mapping[str, str]] = {
    "istio": {"cpu": "10m", "memory": "64Mi"},
    "linkerd": {"cpu": "10m", "memory": "24Mi"},
}
_PROXY_ANNOTATIONS: Mapping[MeshName, Mapping[str, str]] = {
    "istio": {
        "sidecar.istio.io/proxyCPU": PROXY_REQUESTS["istio"]["cpu"],
        "sidecar.istio.io/proxyMemory": PROXY_REQUESTS["istio"]["memory"],
        "sidecar.istio.io/proxyCPULimit": "1",
        "sidecar.istio.io/proxyMemoryLimit": "256Mi",
    },
    "linkerd": {
        "config.linkerd.io/proxy-cpu-request": PROXY_REQUESTS["linkerd"]["cpu"],
        "config.linkerd.io/proxy-memory-request": PROXY_REQUESTS["linkerd"]["memory"],
        "config.linkerd.io/proxy-cpu-limit": "1",
        "config.linkerd.io/proxy-memory-limit": "256Mi",
    },
}


def chart_values(mesh: MeshName) -> dict[str, Any]:
    """Returns the values of a shop in a class. It requests less CPU than by the chart's own values,
    because it gets little traffic.
    """
    return {
        "mesh": mesh,
        "frontend": {"servesApi": False, "secureCookies": True},
        "stripe": {"sandbox": {"namespace": ""}},  # in the student's own
        "defaults": {"resources": {"requests": {"cpu": "10m"}}},
        "mongodb": {"resources": {"requests": {"cpu": "50m"}}},
        "pod": {"annotations": dict(_PROXY_ANNOTATIONS[mesh])},
    }
