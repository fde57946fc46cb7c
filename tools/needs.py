"""What a cluster with the shop needs of the machine: programs, with their versions, and ports.

Nothing but Python's own library is imported here, so that `tools.preflight` runs where the shop's
packages are not installed yet.
"""

from __future__ import annotations

import json
import re

# The node image is one of those that kind's release notes name for it, with its digest.
KIND_VERSION = "v0.32.0"
NODE_IMAGE = (
    "kindest/node:v1.34.8@sha256:02722c2dedddcfc00febf5d27fbeb9b7b2c14294c82109ff4a85d89ac9ba3256"
)
# Those that the shop is tried with. The last number may be another one.
ISTIO_VERSION = "1.31.0"
LINKERD_VERSION = "edge-26.6.3"  # 2.20
TRAEFIK_REPOSITORY = "https://traefik.github.io/charts"
TRAEFIK_CHART = "41.3.0"
GATEWAY_API = (
    "https://github.com/kubernetes-sigs/gateway-api/releases/download/v1.5.1/standard-install.yaml"
)

# Older ones are not enough. kubectl is supported one minor version away from the node's.
DOCKER_FLOOR = (20, 10)  # kind's, for cgroup v2
HELM_FLOOR = (3, 14)
PYTHON_FLOOR = (3, 11)

TOOLS = {
    "docker": "https://docs.docker.com/get-started/get-docker/",
    "kind": "https://kind.sigs.k8s.io/docs/user/quick-start/#installation "
    f"(version {KIND_VERSION})",
    "kubectl": "https://kubernetes.io/docs/tasks/tools/",
    "helm": "https://helm.sh/docs/intro/install/",
    "istioctl": f"https://istio.io/latest/docs/setup/additional-setup/download-istio-release/ "
    f"(version {ISTIO_VERSION})",
    "linkerd": f"https://linkerd.io/2/getting-started/ (version {LINKERD_VERSION})",
    "git": "https://git-scm.com/downloads",
}
CLUSTER_TOOLS = ("docker", "kind", "kubectl", "helm")
MESH_TOOLS = {"none": (), "istio": ("istioctl",), "linkerd": ("linkerd",)}
MESH_VERSIONS = {"istioctl": ISTIO_VERSION, "linkerd": LINKERD_VERSION}
# How each says its version. None of these commands asks a cluster.
VERSION_COMMANDS = {
    "docker": ("docker", "--version"),
    "kind": ("kind", "version"),
    "kubectl": ("kubectl", "version", "--client"),
    "helm": ("helm", "version", "--short"),
    "istioctl": ("istioctl", "version", "--remote=false", "--short"),
    "linkerd": ("linkerd", "version", "--client", "--short"),
}

# Of this machine, to the NodePorts of the frontend, and of a mesh's gateway for https.
PORTS = {8080: 30080, 8443: 30443}
KIND_CONFIG = json.dumps(
    {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "nodes": [
            {
                "role": "control-plane",
                "extraPortMappings": [
                    {"containerPort": inside, "hostPort": port, "listenAddress": "127.0.0.1"}
                    for port, inside in PORTS.items()
                ],
            }
        ],
    }
)


def is_tried_with(found: str, wanted: str) -> bool:
    """Whether a version, in what a program says of itself, is another one's but for the last
    number.
    """
    line, _, _ = wanted.rpartition(".")
    return re.search(rf"(?<![\w.]){re.escape(line)}\.\d+\b", found) is not None
