"""The manifests of mesh/ for a shop elsewhere: another namespace, host, gateway or trust domain.

The files speak of the namespace ``ecommerce``. What they build is rewritten as objects, place by
place, and printed as YAML; comments stay in the files.
"""

from __future__ import annotations

import ipaddress
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import yaml

from services.common.topology import Topology
from tools.certificate import HOST, NAMESPACE

MESH_FOLDER = Path(__file__).resolve().parent.parent.parent / "mesh"
MeshName = Literal["istio", "linkerd"]
Object = dict[str, Any]

_NAME = "[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_LABEL_BYTES = 63
_CLUSTER_DOMAIN = ".svc.cluster.local"
# The sandbox of the chart's `stripe.sandbox.namespace`, and the trust domain of both meshes.
_STRIPE_NAMESPACE = "stripe"
_TRUST_DOMAIN = "cluster.local"
_INGRESS_NAMESPACE = "shop-ingress"
_NAMESPACE_LABEL = "kubernetes.io/metadata.name"


class CannotRender(Exception):
    """What was asked for has no manifests; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class IngressGateway:
    """The pods by which people come in.

    :ivar is_gateway_api: Istio makes them of a Gateway resource of the shop's own.
    """

    namespace: str
    labels: Mapping[str, str]
    service_account: str
    is_gateway_api: bool = False

    @property
    def service(self) -> str:
        """The name of its Service and Deployment: that of its account, to which istioctl adds."""
        return self.service_account.removesuffix("-service-account")


# What the files in mesh/ speak of.
ISTIOCTL = IngressGateway(
    "istio-system", {"istio": "ingressgateway"}, "istio-ingressgateway-service-account"
)
TRAEFIK = IngressGateway(_INGRESS_NAMESPACE, {}, "traefik")


def gateway_of(preset: str, namespace: str) -> IngressGateway:
    """The gateway as a usual installation makes it, for the shop in a namespace.

    ``istioctl`` (istioctl install), ``helm`` (the release `istio-ingress` of Istio's chart
    `gateway`, in a namespace of that name), ``gateway-api``, or ``traefik`` for Linkerd.
    """
    if preset == "helm":
        return IngressGateway("istio-ingress", {"istio": "ingress"}, "istio-ingress")
    if preset == "gateway-api":
        own = _INGRESS_NAMESPACE if namespace == NAMESPACE else f"{namespace}-ingress"
        name = f"{namespace}-gateway"
        labels = {"gateway.networking.k8s.io/gateway-name": name}
        return IngressGateway(own, labels, f"{name}-istio", is_gateway_api=True)
    return TRAEFIK if preset == "traefik" else ISTIOCTL


@dataclass(frozen=True, slots=True)
class Server:
    """Something outside of the shop that its services talk to, by one of the chart's settings.

    :ivar workloads: those that do.
    :ivar protocol: as a ServiceEntry calls it.
    """

    purpose: str
    host: str
    port: int
    workloads: frozenset[str]
    protocol: Literal["TCP", "HTTP", "GRPC", "TLS"]

    def service(self, namespace: str) -> tuple[str, str] | None:
        """The (namespace, name) of the Service that the host is, for a shop in `namespace`.

        A name of one or two parts is one; an outside host of two ends with a dot.
        """
        host = self.host.removesuffix(_CLUSTER_DOMAIN).removesuffix(".svc")
        if _is_address(self.host) or (host == self.host and host.count(".") > 1):
            return None
        name, _, its_namespace = host.partition(".")
        return None if host.endswith(".") else (its_namespace or namespace, name)


@dataclass(frozen=True, slots=True)
class Shop:
    """Where a shop is, and what it talks to.

    :ivar has_stripe_key: Stripe itself is asked, and not the sandbox.
    :ivar keeps_own_mongodb: another MongoDB than the chart's is among the servers.
    """

    mesh: MeshName = "istio"
    namespace: str = NAMESPACE
    host: str = HOST
    gateway: IngressGateway = ISTIOCTL
    trust_domain: str = _TRUST_DOMAIN
    stripe_namespace: str = _STRIPE_NAMESPACE
    has_stripe_key: bool = False
    keeps_own_mongodb: bool = False
    servers: Sequence[Server] = field(default=())

    def __post_init__(self) -> None:
        for name in (self.namespace, self.gateway.namespace, self.stripe_namespace):
            if not re.fullmatch(_NAME, name) or len(name) > _LABEL_BYTES:
                raise CannotRender(f"{name!r} is no name of a namespace.")
        if not re.fullmatch(rf"{_NAME}(\.{_NAME})+", self.host):
            raise CannotRender(f"{self.host!r} is no host such as shop.example.com.")
        for server in self.servers:
            if self.mesh == "linkerd" and server.service(self.namespace) is None:
                raise CannotRender(
                    f"{server.host}:{server.port} ({server.purpose}) is outside of the cluster: "
                    "Linkerd's EgressNetwork lets only HTTP out by name. Give the pods that use it "
                    f'the annotation config.linkerd.io/skip-outbound-ports: "{server.port}", or '
                    "use a server in the cluster."
                )


def otlp_server(endpoint: str, topology: Topology) -> Server:
    """Of ``observability.otlpEndpoint``."""
    parts = urlsplit(endpoint)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise CannotRender(f"{endpoint!r} is no address such as http://jaeger.observability:4317.")
    workloads = frozenset(service.workload for service in topology.services.values())
    protocol = "TLS" if parts.scheme == "https" else "GRPC"
    return Server("otlp", parts.hostname, parts.port or 4317, workloads, protocol)


def prometheus_server(url: str, topology: Topology) -> Server:
    """Of ``observability.prometheusUrl``."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise CannotRender(f"{url!r} is no address such as http://prometheus.observability:9090.")
    workloads = frozenset({topology.service("frontend").workload})
    port = parts.port or (443 if parts.scheme == "https" else 80)
    protocol = "TLS" if parts.scheme == "https" else "HTTP"
    return Server("prometheus", parts.hostname, port, workloads, protocol)


def stripe_server(base: str, topology: Topology) -> Server:
    """Of ``stripe.apiBase``."""
    parts = urlsplit(base)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise CannotRender(f"{base!r} is no address such as http://stripe-egress.example.com:8080.")
    workloads = frozenset(each.workload for each in topology.services.values() if each.external)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    protocol = "TLS" if parts.scheme == "https" else "HTTP"
    return Server("stripe", parts.hostname, port, workloads, protocol)


def smtp_server(address: str, topology: Topology) -> Server:
    """Of notification's ``SMTP_HOST`` and ``SMTP_PORT``, as ``host:port``."""
    host, port = _host_and_port(address, "mail.example.com:587")
    return Server("smtp", host, port, frozenset({topology.service("notification").workload}), "TCP")


def mongodb_servers(uri: str, topology: Topology) -> list[Server]:
    """Of ``mongodb.uri``: each that it names."""
    if uri.startswith("mongodb+srv://"):
        raise CannotRender(
            "mongodb+srv:// looks its servers up in DNS, and a mesh has to know them before. Write "
            "mongodb:// with all of their names, in the chart's mongodb.uri, too."
        )
    match = re.fullmatch(r"mongodb://(?:[^@/]*@)?([^/?]+)(?:/[^?]*)?(?:\?.*)?", uri)
    if match is None:
        raise CannotRender("--mongodb is an address such as mongodb://mongodb.databases:27017.")
    keepers = frozenset(each.workload for each in topology.services.values() if each.database)
    named = [each if ":" in each else f"{each}:27017" for each in match[1].split(",")]
    pairs = [_host_and_port(each, "mongodb.databases:27017") for each in named]
    return [Server("mongodb", host, port, keepers, "TCP") for host, port in pairs]


def rendered(shop: Shop, folder: str) -> list[Object]:
    """The objects of a folder or file below mesh/istio or mesh/linkerd, for a shop.

    :raises CannotRender: there are none.
    """
    # Of the base behind another gateway of Istio's, what speaks of a Gateway API's is for that one.
    by_gateway_api = gateway_of("gateway-api", shop.namespace).namespace
    is_of_base = folder.partition("/")[0] == "base"
    ingress = by_gateway_api if shop.mesh == "istio" and not is_of_base else shop.gateway.namespace
    objects = [moved(each, shop, ingress) for each in _chosen(shop, folder)]
    if shop.mesh == "istio":
        for each in objects:
            if each["kind"] == "Sidecar":
                _open(each, shop)
        if folder == "base":
            objects[:0] = [_entry_of(server, shop) for server in _outside(shop)]
    return objects


def placed(shop: Shop, path: Path) -> list[Object]:
    """The objects of any folder or file that speaks of the shop as mesh/ does, for a shop.

    :raises CannotRender: they cannot be built.
    """
    ingress = gateway_of("gateway-api", shop.namespace).namespace
    return [moved(each, shop, ingress) for each in _read(path)]


class _Dumper(yaml.SafeDumper):
    """Quotes each text that begins like a number: ``08`` is one to kubectl, and none to PyYAML."""


def _quoted(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "'" if re.match(r"[-+.]?\d", text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)  # pyright: ignore[reportUnknownMemberType]  untyped


_Dumper.add_representer(str, _quoted)


def text_of(objects: Sequence[Object]) -> str:
    """The same as YAML."""
    return yaml.dump_all(objects, Dumper=_Dumper, sort_keys=False, width=1000)


def built(mesh: str, folder: str) -> list[Object]:
    """What ``kubectl kustomize`` makes of a folder below mesh/istio or mesh/linkerd, or the files
    that are there, where they are just files, or a single file. ``../gateway-api/…`` is read, too.

    :raises CannotRender: there is no such folder, or no kubectl.
    """
    path = (MESH_FOLDER / mesh / folder).resolve()
    files = [path] if path.suffix == ".yaml" and path.is_file() else sorted(path.glob("*.yaml"))
    if not files or not any(
        path.is_relative_to(MESH_FOLDER / own) for own in (mesh, "gateway-api")
    ):
        raise CannotRender(f"mesh/{mesh}/{folder} holds no manifests.")
    return _read(path)


def _read(path: Path) -> list[Object]:
    """What a folder with a kustomization builds, or the files hold that are there."""
    files = [path] if path.suffix == ".yaml" else sorted(path.glob("*.yaml"))
    if path / "kustomization.yaml" not in files:
        texts = (each.read_text(encoding="utf-8") for each in files)
        return [each for text in texts for each in yaml.load_all(text, Loader=yaml.CSafeLoader)]
    if shutil.which("kubectl") is None:
        raise CannotRender("kubectl is needed: https://kubernetes.io/docs/tasks/tools/")
    command = ["kubectl", "kustomize", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotRender(f"{' '.join(command)}: {done.stderr.strip()}")
    return list(yaml.load_all(done.stdout, Loader=yaml.CSafeLoader))


def _chosen(shop: Shop, folder: str) -> list[Object]:
    """What a folder holds for this shop, before it is moved there."""
    is_base = folder == "base"
    is_of_base = folder.partition("/")[0] == "base"
    if shop.mesh == "linkerd":
        return built(shop.mesh, folder)
    objects = built(shop.mesh, "stripe-key" if is_base and shop.has_stripe_key else folder)
    if folder == "base/stripe.yaml" and shop.has_stripe_key:
        objects = [each for each in built(shop.mesh, "stripe-key") if _is_about_stripe(each)]
    if shop.gateway.is_gateway_api:
        routes = [each for each in objects if _is_of_istios_gateway(each)]
        if routes and not is_of_base:
            raise CannotRender(
                f"{folder} changes {routes[0]['metadata']['name']}, a route of Istio's own "
                "gateway, which a shop behind the Gateway API does not have."
            )
        objects = [each for each in objects if each not in routes]
    if is_of_base and shop.keeps_own_mongodb:
        objects = [each for each in objects if each["metadata"]["name"] != "mongodb"]
    if is_base and shop.gateway.namespace != ISTIOCTL.namespace:
        # Rules of base speak of this gateway already; the NetworkPolicies of the chart do not.
        objects[:0] = [
            each
            for each in built("istio", "gateway-api")
            if each["kind"] == "NetworkPolicy"
            or (shop.gateway.is_gateway_api and each["kind"] != "AuthorizationPolicy")
        ]
    return objects


def _is_about_stripe(each: Object) -> bool:
    return each["metadata"].get("labels", {}).get("meshmart/part") == "stripe"


def _is_of_istios_gateway(each: Object) -> bool:
    """A Gateway of Istio's API, a route bound to one, or what that delegates to."""
    if not each["apiVersion"].startswith("networking.istio.io/"):
        return False
    if each["kind"] == "VirtualService":
        return "gateways" in each["spec"] or "hosts" not in each["spec"]
    return each["kind"] == "Gateway"


def moved(each: Object, shop: Shop, ingress: str) -> Object:
    """An object of mesh/ in its shop's place, with the namespace of its Gateway API's gateway."""
    old = ISTIOCTL if shop.mesh == "istio" else TRAEFIK
    namespaces = {
        NAMESPACE: shop.namespace,
        _STRIPE_NAMESPACE: shop.stripe_namespace,
        _INGRESS_NAMESPACE: ingress,
        old.namespace: shop.gateway.namespace,
    }
    if shop.gateway.is_gateway_api and each["kind"] in {"Gateway", "ReferenceGrant"}:
        # The certificate stays where `make certificate` puts it.
        namespaces[old.namespace] = old.namespace

    def name(text: str) -> str:
        """What is called after the shop: ``ecommerce-gateway`` and the like."""
        own, dash, rest = text.partition("-")
        return f"{shop.namespace}{dash}{rest}" if own == NAMESPACE else text

    def namespace(text: str) -> str:
        return namespaces.get(text, text)

    def principal(match: re.Match[str]) -> str:
        account = match["account"]
        if (match["namespace"], account) == (old.namespace, old.service_account):
            account = shop.gateway.service_account
        return f"{shop.trust_domain}/ns/{namespace(match['namespace'])}/sa/{name(account)}"

    def service(match: re.Match[str]) -> str:
        return f"{match['service']}.{namespace(match['namespace'])}{_CLUSTER_DOMAIN}"

    def words(text: str) -> str:
        """Names that stand inside of longer texts: addresses, principals, queries."""
        if text.partition("-")[0] == NAMESPACE:
            return name(text)
        text = text.replace(HOST, shop.host).replace(
            f'namespace="{NAMESPACE}"', f'namespace="{shop.namespace}"'
        )
        text = re.sub(
            rf"{re.escape(_TRUST_DOMAIN)}/ns/(?P<namespace>{_NAME})/sa/(?P<account>{_NAME})",
            principal,
            text,
        )
        return re.sub(
            rf"(?P<service>{_NAME})\.(?P<namespace>{_NAME}){re.escape(_CLUSTER_DOMAIN)}",
            service,
            text,
        )

    def walk(value: Any, key: str) -> Any:
        if isinstance(value, dict):
            fields: dict[str, Any] = value  # pyright: ignore[reportUnknownVariableType]  parsed YAML
            if fields == old.labels:
                return dict(shop.gateway.labels)
            new = {key: walk(each, key) for key, each in fields.items()}
            if fields.get("kind") == "ServiceAccount" and fields.get("namespace") == old.namespace:
                new["name"] = shop.gateway.service_account
            return new
        if isinstance(value, list):
            items: list[Any] = value  # pyright: ignore[reportUnknownVariableType]  parsed YAML
            return [walk(each, key) for each in items]
        if not isinstance(value, str):
            return value
        return namespace(value) if key in _NAMESPACE_KEYS else words(value)

    result: Object = walk(each, "")
    if each["kind"] == "Namespace":
        result["metadata"]["name"] = namespace(each["metadata"]["name"])
    return result


# Whose values, or the members of whose lists, are namespaces.
_NAMESPACE_KEYS = frozenset({"namespace", _NAMESPACE_LABEL, "exportTo", "namespaces"})


def _open(sidecar: Object, shop: Shop) -> None:
    """Lets a proxy know the servers that its workload talks to."""
    workload = sidecar["spec"]["workloadSelector"]["labels"]["app.kubernetes.io/name"]
    (egress,) = sidecar["spec"]["egress"]
    hosts: list[str] = egress["hosts"]
    if shop.keeps_own_mongodb:
        hosts[:] = [each for each in hosts if not each.startswith("./mongodb.")]
    for server in shop.servers:
        if workload in server.workloads:
            found = server.service(shop.namespace)
            if found is None:
                host = f"./{_entry_host(server, shop)}"
            else:
                where = "." if found[0] == shop.namespace else found[0]
                host = f"{where}/{found[1]}.{found[0]}{_CLUSTER_DOMAIN}"
            if host not in hosts and f"{host.partition('/')[0]}/*" not in hosts:
                hosts.append(host)


def _outside(shop: Shop) -> Iterator[Server]:
    return (each for each in shop.servers if each.service(shop.namespace) is None)


def _entry_host(server: Server, shop: Shop) -> str:
    """How a ServiceEntry calls a server: an address has no name of its own."""
    if not _is_address(server.host):
        return server.host.removesuffix(".")
    return f"{server.purpose}-{re.sub('[.:]', '-', server.host)}.{shop.namespace}.external"


def _entry_of(server: Server, shop: Shop) -> Object:
    """The ServiceEntry that lets proxies know a server outside of the cluster."""
    host = _entry_host(server, shop)
    spec: Object = {
        "hosts": [host],
        "location": "MESH_EXTERNAL",
        "exportTo": ["."],
        "ports": [
            {
                "number": server.port,
                "name": f"{server.protocol.lower()}-{server.purpose}",
                "protocol": server.protocol,
            }
        ],
        "resolution": "DNS",
    }
    if _is_address(server.host):
        spec |= {
            "addresses": [server.host],
            "resolution": "STATIC",
            "endpoints": [{"address": server.host}],
        }
    name = re.sub("[^a-z0-9-]", "-", f"{server.purpose}-{host}-{server.port}".lower())
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": name, "namespace": shop.namespace},
        "spec": spec,
    }


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _host_and_port(text: str, example: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal():
        raise CannotRender(f"{text!r} is no address such as {example}.")
    return host.strip("[]"), int(port)
