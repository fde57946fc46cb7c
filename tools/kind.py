"""A kind cluster with the shop in it: ``python -m tools.kind up`` and ``down``.

Runs the tools that people would run by hand, prints each command, and says what is missing. It can
be interrupted anywhere and run again: it takes up what is there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.bundle.contents import Bundle, BundleError
from tools.certificate import HOST, SECRET_NAMESPACE, secret, self_signed
from tools.needs import CLUSTER_TOOLS, KIND_CONFIG, MESH_TOOLS
from tools.programs import ToolCommands, ToolPrograms, give_up, need
from tools.supplies import Bundled, Network, Supplies, Wanted

PROGRAMS: ToolCommands = ToolPrograms()
NAMESPACE = "ecommerce"
URL = "http://127.0.0.1:8080"
# Through a mesh's gateway. The name must lead to this machine.
MESH_URL = "https://ecommerce.example.com:8443 (with 127.0.0.1 ecommerce.example.com in /etc/hosts)"
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


def main(given: Sequence[str] | None = None) -> int:
    """Gives the exit status.

    :param given: the arguments, instead of the command line's.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("up", "down"))
    parser.add_argument("--name", default="meshmart")
    parser.add_argument("--image", default="meshmart:0.1.0")
    parser.add_argument("--mesh", choices=tuple(MESH_TOOLS), default="none")
    parser.add_argument("--observability", action="store_true", help="with Grafana and the rest")
    parser.add_argument("--bundle", type=Path, metavar="DIR", help="without a network, from this")
    arguments = parser.parse_args(given)
    try:
        if arguments.command == "down":
            need(PROGRAMS, "docker", "kind")
            PROGRAMS.run("kind", "delete", "cluster", "--name", arguments.name)
        else:
            wanted = Wanted(arguments.image, arguments.mesh, arguments.observability)
            _up(arguments.name, wanted, _supplies(wanted, arguments.bundle))
    except BundleError as error:
        give_up(str(error))
    except subprocess.CalledProcessError as error:
        return error.returncode
    return 0


def _supplies(wanted: Wanted, bundle: Path | None) -> Supplies:
    if bundle is None:
        return Network(PROGRAMS, wanted)
    return Bundled(PROGRAMS, wanted, Bundle.read(bundle))


def _up(name: str, wanted: Wanted, supplies: Supplies) -> None:
    image, mesh, is_observed = wanted
    need(PROGRAMS, *CLUSTER_TOOLS, *MESH_TOOLS[mesh])
    supplies.check()
    context = ("--context", f"kind-{name}")
    if not _take_up_cluster(name, context):
        PROGRAMS.run(
            *("kind", "create", "cluster", "--name", name, "--image", supplies.node_image()),
            *("--wait", "120s", "--config", "-"),
            given=KIND_CONFIG,
        )
    supplies.load_images(name)
    PROGRAMS.run("kubectl", *context, "apply", "--server-side", "-f", "-", given=_namespace(mesh))
    if mesh != "none":
        _install_mesh(supplies, mesh, context)
        certificate = secret(self_signed(HOST), SECRET_NAMESPACE[mesh])
        PROGRAMS.run("kubectl", *context, "apply", "-f", "-", given=certificate)
        PROGRAMS.run("kubectl", *context, "apply", *ENTRY[mesh])
    if is_observed:
        PROGRAMS.run("kubectl", *context, "apply", "-k", OBSERVABILITY[mesh])
    repository, _, tag = image.rpartition(":")
    install = (
        *("helm", "--kube-context", f"kind-{name}", "upgrade", "--install", "shop", "helm"),
        *("--namespace", NAMESPACE, "--wait", "--timeout", "10m"),
        *("--set", f"image.repository={repository},image.tag={tag},mesh={mesh}"),
        *("--set", WAY_IN[mesh]),
        *(("--set", _OBSERVED) if is_observed else ()),
    )
    _forget_unfinished("shop", NAMESPACE, context)
    PROGRAMS.run(*install)
    if mesh == "linkerd":
        for part in (("--selector", "meshmart/step=servers"), ()):
            PROGRAMS.run("kubectl", *context, "apply", "-k", "mesh/linkerd/audit", *part)
            PROGRAMS.run("kubectl", *context, "-n", NAMESPACE, "wait", *LINKERDS_ROUTES)
    if mesh != "none":
        PROGRAMS.run("kubectl", *context, "apply", "-k", f"mesh/{mesh}/base")
    if mesh == "linkerd":
        PROGRAMS.run(*install, "--set", "linkerd.defaultInboundPolicy=deny")
    if is_observed:
        ready = ("-n", "observability", "wait", "deployments", "--all", "--for=condition=Available")
        PROGRAMS.run("kubectl", *context, *ready, "--timeout=5m")
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
    if name not in PROGRAMS.output("kind", "get", "clusters").split():
        return False
    PROGRAMS.run(
        "docker", "start", f"{name}-control-plane"
    )  # a machine that was restarted may not have
    if not PROGRAMS.succeeds("kind", "export", "kubeconfig", "--name", name):
        PROGRAMS.run(
            "kind", "delete", "cluster", "--name", name
        )  # there is no API server in it yet
        return False
    ready = ("wait", "nodes", "--all", "--for=condition=Ready", "--timeout=120s")
    if PROGRAMS.succeeds("kubectl", *context, *ready):
        return True
    shop = ("get", "namespace", NAMESPACE, "--ignore-not-found", "-o", "name")
    is_answering = PROGRAMS.succeeds("kubectl", *context, "version")
    if not is_answering or PROGRAMS.output("kubectl", *context, *shop).strip():
        give_up(
            f"The cluster {name} does not become ready. `make down KIND_CLUSTER={name}` removes it "
            "and all that is in it; `make up` then makes another one."
        )
    PROGRAMS.run("kind", "delete", "cluster", "--name", name)  # its making was interrupted
    return False


def _forget_unfinished(release: str, namespace: str, context: tuple[str, str]) -> None:
    """Removes Helm's record of an installation that was interrupted, which would forbid the next.
    What it has made stays, and belongs to the next.
    """
    states = "status in (pending-install,pending-upgrade,pending-rollback)"
    selector = f"owner=helm,name={release},{states}"
    secrets = ("-n", namespace, "delete", "secrets", "--selector", selector)
    PROGRAMS.run("kubectl", *context, *secrets)


def _install_mesh(supplies: Supplies, mesh: str, context: tuple[str, str]) -> None:
    """As the projects document it."""
    PROGRAMS.run("kubectl", *context, "apply", "--server-side", "-f", supplies.gateway_api)
    if mesh == "istio":
        install = ("istioctl", "install", "--skip-confirmation", "-f", "mesh/istio/install.yaml")
        PROGRAMS.run(*install, *context)
        gateway = ("-n", "istio-system", "patch", "service", "istio-ingressgateway")
        PROGRAMS.run("kubectl", *context, *gateway, "-p", json.dumps(GATEWAY_PORT))
        return
    verb = _linkerd_verb(context)
    for options in (("--crds",), ("--values", "mesh/linkerd/install.yaml")):
        manifests = PROGRAMS.output("linkerd", *context, verb, *options)
        PROGRAMS.run("kubectl", *context, "apply", "-f", "-", given=manifests)
    PROGRAMS.run("linkerd", *context, "check", *supplies.linkerd_check_options)
    _, cluster = context
    _forget_unfinished("traefik", "shop-ingress", context)
    PROGRAMS.run(
        *("helm", "--kube-context", cluster, "upgrade", "--install", "traefik"),
        *supplies.traefik_chart,
        *("--namespace", "shop-ingress", "--create-namespace", "--wait"),
        *("--values", "mesh/linkerd/traefik.yaml"),
        *("--set", "service.spec.type=NodePort,ports.websecure.nodePort=30443"),
    )


def _linkerd_verb(context: tuple[str, str]) -> str:
    """`upgrade` where Linkerd is installed, which `install` refuses, else `install`."""
    get = ("kubectl", *context, "-n", "linkerd", "get", "--ignore-not-found", "-o", "name")
    if PROGRAMS.output(*get, "secret/linkerd-config-overrides").strip():
        return "upgrade"
    # `install` takes this for a whole Linkerd and `upgrade` needs the secret: with this alone, an
    # earlier run was interrupted.
    remove = ("-n", "linkerd", "delete", "--ignore-not-found", "configmap/linkerd-config")
    PROGRAMS.run("kubectl", *context, *remove)
    return "install"


if __name__ == "__main__":
    sys.exit(main())
