"""A kind cluster with the shop in it: ``python -m tools.kind up`` and ``down``.

Runs the tools that people would run by hand, prints each command, and says what is missing. It can
be interrupted anywhere and run again: it takes up what is there.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from tools.certificate import HOST, SECRET_NAMESPACE, secret, self_signed

ROOT = Path(__file__).resolve().parent.parent
NAMESPACE = "ecommerce"
URL = "http://127.0.0.1:8080"
# Through a mesh's gateway. The name must lead to this machine.
MESH_URL = "https://ecommerce.example.com:8443 (with 127.0.0.1 ecommerce.example.com in /etc/hosts)"
# The node image is one of those that kind's release notes name for it, with its digest.
KIND_VERSION = "v0.32.0"
NODE_IMAGE = (
    "kindest/node:v1.34.8@sha256:02722c2dedddcfc00febf5d27fbeb9b7b2c14294c82109ff4a85d89ac9ba3256"
)
# Those that the shop is tried with. The last number may be another one.
ISTIO_VERSION = "1.31.0"
LINKERD_VERSION = "edge-26.6.3"  # 2.20
TRAEFIK_CHART = "41.3.0"
GATEWAY_API = (
    "https://github.com/kubernetes-sigs/gateway-api/releases/download/v1.5.1/standard-install.yaml"
)

TOOLS = {
    "docker": "https://docs.docker.com/get-started/get-docker/",
    "kind": "https://kind.sigs.k8s.io/docs/user/quick-start/#installation "
    f"(version {KIND_VERSION})",
    "kubectl": "https://kubernetes.io/docs/tasks/tools/",
    "helm": "https://helm.sh/docs/intro/install/",
    "istioctl": f"https://istio.io/latest/docs/setup/additional-setup/download-istio-release/ "
    f"(version {ISTIO_VERSION})",
    "linkerd": f"https://linkerd.io/2/getting-started/ (version {LINKERD_VERSION})",
}
MESH_TOOLS = {"none": (), "istio": ("istioctl",), "linkerd": ("linkerd",)}
# Ports of the machine lead to the NodePorts of the frontend, and of a mesh's gateway for https.
KIND_CONFIG = json.dumps(
    {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "nodes": [
            {
                "role": "control-plane",
                "extraPortMappings": [
                    {"containerPort": 30080, "hostPort": 8080, "listenAddress": "127.0.0.1"},
                    {"containerPort": 30443, "hostPort": 8443, "listenAddress": "127.0.0.1"},
                ],
            }
        ],
    }
)


# Jaeger, Prometheus, Grafana and, in Istio, Kiali, of a mesh's folder.
OBSERVABILITY = {
    mesh: f"observability/{'plain' if mesh == 'none' else mesh}" for mesh in MESH_TOOLS
}
OTLP_ENDPOINT = "http://jaeger.observability:4317"
PROMETHEUS_URL = "http://prometheus.observability:9090"
JAEGER_URL = "http://127.0.0.1:16686"  # by the port-forward of docs/observability.md
_OBSERVED = (
    f"observability.otlpEndpoint={OTLP_ENDPOINT},observability.prometheusUrl={PROMETHEUS_URL},"
    f"observability.jaegerUrl={JAEGER_URL}"
)
OBSERVERS = "docs/observability.md says how to open Grafana, Jaeger, Prometheus and Kiali."
GATEWAY_PORT = {"spec": {"ports": [{"port": 443, "nodePort": 30443}]}}
# What the meshes' README.md apply first: the way in, and in Istio the way to Stripe.
ISTIO_ENTRY = ("gateway.yaml", "edge.yaml", "routes.yaml", "stripe.yaml")
ENTRY = {
    "none": (),
    "istio": (
        "-f=mesh/istio/shared/spans.yaml",
        *(f"-f=mesh/istio/base/{name}" for name in ISTIO_ENTRY),
    ),
    "linkerd": ("-f=mesh/linkerd/base/gateway.yaml", "-f=mesh/gateway-api/ingress/routes.yaml"),
}
# For `kubectl wait`. An Istio in the same cluster speaks of routes, too: of some by an empty list,
# of which `parents[0]` would be an error. Two of the routes are those of Traefik.
LINKERDS_ROUTES = (
    "httproutes,grpcroutes",
    "--field-selector=metadata.name!=shop,metadata.name!=shop-redirect",
    '--for=jsonpath={.status.parents[?(@.controllerName=="linkerd.io/policy-controller")]'
    '.conditions[?(@.type=="Accepted")].status}=True',
    "--timeout=180s",
)
_BY_GATEWAY = "frontend.servesApi=false,frontend.secureCookies=true"
WAY_IN = {
    "none": "frontend.service.type=NodePort,frontend.service.nodePort=30080",
    "istio": _BY_GATEWAY,
    "linkerd": _BY_GATEWAY,
}


def main() -> int:
    """Gives the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("up", "down"))
    parser.add_argument("--name", default="meshmart")
    parser.add_argument("--image", default="meshmart:0.1.0")
    parser.add_argument("--mesh", choices=tuple(MESH_TOOLS), default="none")
    parser.add_argument("--observability", action="store_true", help="with Grafana and the rest")
    arguments = parser.parse_args()
    try:
        if arguments.command == "down":
            _need("docker", "kind")
            _run("kind", "delete", "cluster", "--name", arguments.name)
        else:
            _up(
                arguments.name,
                arguments.image,
                arguments.mesh,
                is_observed=arguments.observability,
            )
    except subprocess.CalledProcessError as error:
        return error.returncode
    return 0


def _up(name: str, image: str, mesh: str, *, is_observed: bool) -> None:
    _need("docker", "kind", "kubectl", "helm", *MESH_TOOLS[mesh])
    if mesh != "none":
        _check_version(mesh)
    context = ("--context", f"kind-{name}")
    if not _take_up_cluster(name, context):
        _run(
            *("kind", "create", "cluster", "--name", name, "--image", NODE_IMAGE),
            *("--wait", "120s", "--config", "-"),
            given=KIND_CONFIG,
        )
    _run("docker", "build", "--tag", image, ".")
    _run("kind", "load", "docker-image", image, "--name", name)
    _run("kubectl", *context, "apply", "--server-side", "-f", "-", given=_namespace(mesh))
    if mesh != "none":
        _install_mesh(mesh, context)
        certificate = secret(self_signed(HOST), SECRET_NAMESPACE[mesh])
        _run("kubectl", *context, "apply", "-f", "-", given=certificate)
        _run("kubectl", *context, "apply", *ENTRY[mesh])
    if is_observed:
        _run("kubectl", *context, "apply", "-k", OBSERVABILITY[mesh])
    repository, _, tag = image.rpartition(":")
    install = (
        *("helm", "--kube-context", f"kind-{name}", "upgrade", "--install", "shop", "helm"),
        *("--namespace", NAMESPACE, "--wait", "--timeout", "10m"),
        *("--set", f"image.repository={repository},image.tag={tag},mesh={mesh}"),
        *("--set", WAY_IN[mesh]),
        *(("--set", _OBSERVED) if is_observed else ()),
    )
    _forget_unfinished("shop", NAMESPACE, context)
    _run(*install)
    if mesh == "linkerd":
        for part in (("--selector", "meshmart/step=servers"), ()):
            _run("kubectl", *context, "apply", "-k", "mesh/linkerd/audit", *part)
            _run("kubectl", *context, "-n", NAMESPACE, "wait", *LINKERDS_ROUTES)
    if mesh != "none":
        _run("kubectl", *context, "apply", "-k", f"mesh/{mesh}/base")
    if mesh == "linkerd":
        _run(*install, "--set", "linkerd.defaultInboundPolicy=deny")
    if is_observed:
        ready = ("-n", "observability", "wait", "deployments", "--all", "--for=condition=Available")
        _run("kubectl", *context, *ready, "--timeout=5m")
        print(OBSERVERS)
    print(f"The shop is open: {URL if mesh == 'none' else MESH_URL}")


def _namespace(mesh: str) -> str:
    """The shop's own pods keep to "restricted", and whoever makes one that does not is warned. None
    is refused: the meshes' init containers set up a pod's network, and a namespace may be meshed
    later, by a label or an annotation.
    """
    labels = {
        "pod-security.kubernetes.io/enforce": "privileged",
        "pod-security.kubernetes.io/warn": "restricted",
    }
    if mesh == "istio":  # the chart's pods ask for proxies themselves; what a learner adds does not
        labels["istio-injection"] = "enabled"
    metadata = {"name": NAMESPACE, "labels": labels}
    return json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})


def _take_up_cluster(name: str, context: tuple[str, str]) -> bool:
    """Makes an earlier run's cluster ready. False when there is none, or none that got so far as to
    hold anything.
    """
    if name not in _output("kind", "get", "clusters").split():
        return False
    _run("docker", "start", f"{name}-control-plane")  # a machine that was restarted may not have
    if not _succeeds("kind", "export", "kubeconfig", "--name", name):
        _run("kind", "delete", "cluster", "--name", name)  # there is no API server in it yet
        return False
    ready = ("wait", "nodes", "--all", "--for=condition=Ready", "--timeout=120s")
    if _succeeds("kubectl", *context, *ready):
        return True
    shop = ("get", "namespace", NAMESPACE, "--ignore-not-found", "-o", "name")
    is_answering = _succeeds("kubectl", *context, "version")
    if not is_answering or _output("kubectl", *context, *shop).strip():
        _give_up(
            f"The cluster {name} does not become ready. `make down KIND_CLUSTER={name}` removes it "
            "and all that is in it; `make up` then makes another one."
        )
    _run("kind", "delete", "cluster", "--name", name)  # its making was interrupted
    return False


def _forget_unfinished(release: str, namespace: str, context: tuple[str, str]) -> None:
    """Removes Helm's record of an installation that was interrupted, which would forbid the next.
    What it has made stays, and belongs to the next.
    """
    states = "status in (pending-install,pending-upgrade,pending-rollback)"
    selector = f"owner=helm,name={release},{states}"
    secrets = ("-n", namespace, "delete", "secrets", "--selector", selector)
    _run("kubectl", *context, *secrets)


def _check_version(mesh: str) -> None:
    tool, command, wanted = {
        "istio": ("istioctl", ("version", "--remote=false", "--short"), ISTIO_VERSION),
        "linkerd": ("linkerd", ("version", "--client", "--short"), LINKERD_VERSION),
    }[mesh]
    found = _output(tool, *command).strip()
    line, _, _ = wanted.rpartition(".")
    if not re.search(rf"(?<![\w.]){re.escape(line)}\.\d+\b", found):
        _give_up(f"{tool} is {found}; the shop is tried with {wanted}: {TOOLS[tool]}")


def _install_mesh(mesh: str, context: tuple[str, str]) -> None:
    """As the projects document it."""
    _run("kubectl", *context, "apply", "--server-side", "-f", GATEWAY_API)
    if mesh == "istio":
        install = ("istioctl", "install", "--skip-confirmation", "-f", "mesh/istio/install.yaml")
        _run(*install, *context)
        gateway = ("-n", "istio-system", "patch", "service", "istio-ingressgateway")
        _run("kubectl", *context, *gateway, "-p", json.dumps(GATEWAY_PORT))
        return
    verb = _linkerd_verb(context)
    for options in (("--crds",), ("--values", "mesh/linkerd/install.yaml")):
        manifests = _output("linkerd", *context, verb, *options)
        _run("kubectl", *context, "apply", "-f", "-", given=manifests)
    _run("linkerd", *context, "check")
    _, cluster = context
    _forget_unfinished("traefik", "shop-ingress", context)
    _run(
        *("helm", "--kube-context", cluster, "upgrade", "--install", "traefik", "traefik"),
        *("--repo", "https://traefik.github.io/charts", "--version", TRAEFIK_CHART),
        *("--namespace", "shop-ingress", "--create-namespace", "--wait"),
        *("--values", "mesh/linkerd/traefik.yaml"),
        *("--set", "service.spec.type=NodePort,ports.websecure.nodePort=30443"),
    )


def _linkerd_verb(context: tuple[str, str]) -> str:
    """`upgrade` where Linkerd is installed, which `install` refuses, else `install`."""
    get = ("kubectl", *context, "-n", "linkerd", "get", "--ignore-not-found", "-o", "name")
    if _output(*get, "secret/linkerd-config-overrides").strip():
        return "upgrade"
    # `install` takes this for a whole Linkerd and `upgrade` needs the secret: with this alone, an
    # earlier run was interrupted.
    remove = ("-n", "linkerd", "delete", "--ignore-not-found", "configmap/linkerd-config")
    _run("kubectl", *context, *remove)
    return "install"


def _need(*tools: str) -> None:
    for tool in tools:
        if shutil.which(tool) is None:
            _give_up(f"{tool} is missing. How to install it: {TOOLS[tool]}")


def _run(*command: str, given: str | None = None) -> None:
    print("+", *command, flush=True)
    subprocess.run(command, input=given, text=True, check=True, cwd=ROOT)


def _succeeds(*command: str) -> bool:
    print("+", *command, flush=True)
    return subprocess.run(command, check=False, cwd=ROOT).returncode == 0


def _output(*command: str) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT).stdout


def _give_up(sentence: str) -> NoReturn:
    sys.exit(sentence)


if __name__ == "__main__":
    sys.exit(main())
