"""Writes the manifests of mesh/ that follow from topology.yaml; ``--check`` says whether they do.

Each file below templates/ makes the one of the same path and name below mesh/. One in a folder
``{service}`` makes one for each service, or none where it renders nothing.

``render FOLDER`` prints the manifests of a folder for a shop in another namespace: render.py.
``readme FOLDER`` prints the README.md of a scenario with the commands for that shop: readme.py.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from services.common.settings import ProcessSettings
from services.common.topology import PathTemplate, Service, Topology, load_topology
from tools.certificate import host_of
from tools.derived import ROOT, written
from tools.mesh import readme, render
from tools.mesh.calls import service_routes, timed_calls
from tools.mesh.grants import Request, caller_groups, grants
from tools.mesh.permissions import GATEWAY, Operation, permissions

TEMPLATES = Path(__file__).resolve().parent / "templates"

# What the lesson calls resources that here bear the name of their service: docs/lesson.md.
LESSON_NAMES = {
    ("DestinationRule", "product"): "backend-dr",
    ("DestinationRule", "payment"): "payment-service-cb",
    ("DestinationRule", "inventory"): "grpc-service-dr",
    ("VirtualService", "product"): "backend-vs",
    ("VirtualService", "user"): "user-service-vs",
    ("AuthorizationPolicy", "frontend"): "frontend-authz",
    ("AuthorizationPolicy", "product"): "backend-authz",
}

# Of the whole request at the edge; the services give up at the same moment and say so.
_EDGE_SECONDS = ProcessSettings.model_fields["request_timeout_seconds"].default

METRICS = Request("GET", "/metrics")
# What Linkerd's proxies are asked at their own port by the kubelet and by Prometheus.
LINKERD_PROXY_REQUESTS = (Request("GET", "/live"), Request("GET", "/ready"), METRICS)
# The namespaces of those who look: Prometheus, Linkerd's viz.
OBSERVERS = ("monitoring", "observability", "linkerd-viz")


def istio_path(path: PathTemplate) -> str:
    """A path template as an AuthorizationPolicy writes it."""
    parts = ["{*}" if part.startswith("{") else part for part in path.split("/")]
    return "/".join("{**}" if part == "**" else part for part in parts)


def uri_match(path: PathTemplate) -> dict[str, str]:
    """A path template as a VirtualService matches it."""
    if path.endswith("/**"):
        return {"prefix": path.removesuffix("**")}
    if "{" not in path:
        return {"exact": path}
    return {"regex": "/".join("[^/]+" if p.startswith("{") else p for p in path.split("/"))}


def http_match(method: str, path: PathTemplate) -> str:
    """A request as an HTTPRoute matches it."""
    match = {"type": "Exact", "value": path}
    if path.endswith("/**"):  # not a PathPrefix, which fits without anything below, too
        match = {"type": "RegularExpression", "value": path.removesuffix("**") + ".+"}
    elif "{" in path:
        match = {"type": "RegularExpression", "value": uri_match(path)["regex"]}
    return flow({"method": method, "path": match})


def grpc_match(path: str) -> str:
    """``/package.Service/Method`` as a GRPCRoute matches it."""
    service, _, method = path.removeprefix("/").partition("/")
    return flow({"method": {"service": service, "method": method}})


def pod_ports(service: Service) -> list[tuple[str, int]]:
    """The ports of a service's pods, by their names in the chart."""
    ports = [("http", service.http.port)]
    if service.internal_port is not None:
        ports.append(("internal", service.internal_port))
    if service.grpc is not None:
        ports.append(("grpc", service.grpc.port))
    return ports


def probes(service: Service, port_name: str) -> list[Request]:
    """What the kubelet asks a port, by the chart's probes."""
    if port_name != "grpc":
        is_asked = (port_name == "internal") == (service.internal_port is not None)
        return [Request("GET", "/livez"), Request("GET", "/readyz")] if is_asked else []
    # Of a service with public routes, HTTP has to be ready, too.
    return [] if service.public else [Request("POST", "/grpc.health.v1.Health/Check")]


def metrics_port(service: Service) -> str:
    """The name of the port at which a service is asked for what it has counted."""
    return "http" if service.internal_port is None else "internal"


def grouped(operations: Iterable[Operation]) -> list[tuple[Operation, list[str]]]:
    """Operations that differ in nothing but the path, as (one of them, their paths)."""
    groups: dict[tuple[int, tuple[str, ...], bool], tuple[Operation, list[str]]] = {}
    for each in operations:
        key = (each.port, each.methods, each.needs_user)
        groups.setdefault(key, (each, []))[1].append(istio_path(each.path))
    return list(groups.values())


def lesson_name(kind: str, service: str) -> str | None:
    """What the lesson calls a service's resource of a kind, if it has one."""
    return LESSON_NAMES.get((kind, service))


def flow(fields: Mapping[str, Any]) -> str:
    """A mapping as YAML in one line."""
    return yaml.safe_dump(
        dict(fields), default_flow_style=True, sort_keys=False, width=1000
    ).strip()


def duration(milliseconds: float) -> str:
    """``1500`` as ``1.5s``."""
    return f"{milliseconds / 1000:g}s"


def milliseconds(time_ms: float) -> str:
    """``1500`` as ``1500ms``: the Gateway API's durations have no fractions (GEP-2257)."""
    return f"{time_ms:.0f}ms"


def public_matches(service: Service) -> list[str]:
    """A service's public paths as the edge matches them, each up to its first parameter."""
    beginnings = (route.path.partition("/{")[0].removesuffix("/**") for route in service.public)
    return [
        flow({"path": {"type": "PathPrefix" if value != "/" else "Exact", "value": value}})
        for value in dict.fromkeys(beginnings)
    ]


def public_timeout(topology: Topology, service: Service) -> str:
    """How long the edge waits for a service: as long as the most patient caller inside."""
    paths = {route.path for route in service.public}
    patience = [
        call.timeout_ms
        for caller in topology.services.values()
        for edge in caller.calls
        if topology.services[edge.callee] is service
        for call in edge.http
        if call.path in paths
    ]
    return duration(max(patience, default=_EDGE_SECONDS * 1000))


def rendered(topology: Topology) -> dict[Path, str]:
    """Every generated manifest by its file."""
    environment = Environment(  # noqa: S701  it makes YAML, of our own words
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    by_callee = {
        callee: [each for each in permissions(topology) if each.callee == callee]
        for callee in topology.services
    }
    found: dict[Path, str] = {}
    for name in environment.list_templates(filter_func=lambda name: name.endswith(".yaml.j2")):
        template = environment.get_template(name)
        path = name.removesuffix(".j2")
        subjects = topology.services.items() if "{service}" in name else [("", None)]
        for subject, service in subjects:
            text = template.render(
                topology=topology,
                services=topology.services,
                name=subject,
                service=service,
                permissions=by_callee,
                gateway=GATEWAY,
                lesson=lesson_name,
                grouped=grouped,
                uri_match=uri_match,
                duration=duration,
                flow=flow,
                milliseconds=milliseconds,
                timed_calls=timed_calls,
                service_routes=service_routes,
                grants=grants,
                caller_groups=caller_groups,
                http_match=http_match,
                grpc_match=grpc_match,
                pod_ports=pod_ports,
                probes=probes,
                metrics_port=metrics_port,
                metrics=METRICS,
                proxy_requests=LINKERD_PROXY_REQUESTS,
                observers=OBSERVERS,
                public_matches=public_matches,
                public_timeout=partial(public_timeout, topology),
            )
            if text:
                found[ROOT / "mesh" / path.replace("{service}", subject)] = text
    return found


def shop_of(given: argparse.Namespace) -> render.Shop:
    """The shop that the command line describes."""
    topology = load_topology()
    preset = given.gateway or ("traefik" if given.mesh == "linkerd" else "istioctl")
    if (preset == "traefik") != (given.mesh == "linkerd"):
        raise render.CannotRender(f"{given.mesh} has no gateway {preset!r}.")
    gateway = render.gateway_of(preset, given.namespace)
    labels = dict(label.split("=", 1) for label in given.gateway_label)
    gateway = dataclasses.replace(
        gateway,
        namespace=given.gateway_namespace or gateway.namespace,
        labels=labels or gateway.labels,
        service_account=given.gateway_service_account or gateway.service_account,
    )
    servers = [
        *([render.otlp_server(given.otlp, topology)] if given.otlp else ()),
        *([render.prometheus_server(given.prometheus, topology)] if given.prometheus else ()),
        *([render.smtp_server(given.smtp, topology)] if given.smtp else ()),
        *(render.mongodb_servers(given.mongodb, topology) if given.mongodb else ()),
        *([render.stripe_server(given.stripe_address, topology)] if given.stripe_address else ()),
    ]
    return render.Shop(
        mesh=given.mesh,
        namespace=given.namespace,
        host=given.host or host_of(given.namespace),
        gateway=gateway,
        trust_domain=given.trust_domain,
        stripe_namespace=given.stripe_namespace,
        has_stripe_key=given.stripe_key,
        keeps_own_mongodb=bool(given.mongodb),
        servers=servers,
    )


def options_of(given: argparse.Namespace, described: argparse.ArgumentParser) -> Iterator[str]:
    """The options that the command line gives to describe the shop."""
    for name, value in vars(given).items():
        if name not in {"command", "check", "folder"} and value != described.get_default(name):
            values: list[Any] = value if isinstance(value, list) else [value]  # pyright: ignore[reportUnknownVariableType]  argparse
            for each in values:
                yield f"--{name.replace('_', '-')}"
                if not isinstance(each, bool):
                    yield each


def describe_shop(command: argparse.ArgumentParser) -> None:
    """Adds the options that describe a shop."""
    shop = render.Shop()
    command.add_argument("--mesh", choices=("istio", "linkerd"), default=shop.mesh)
    command.add_argument("--namespace", default=shop.namespace)
    command.add_argument(
        "--host", help="by which people come in: NAMESPACE.example.com, if it is not given"
    )
    command.add_argument(
        "--gateway",
        choices=("istioctl", "helm", "gateway-api", "traefik"),
        help="how the gateway was installed; traefik is Linkerd's",
    )
    command.add_argument("--gateway-namespace", help="where its pods are")
    command.add_argument("--gateway-label", action="append", default=[], metavar="NAME=VALUE")
    command.add_argument("--gateway-service-account", metavar="NAME")
    command.add_argument("--trust-domain", default=shop.trust_domain)
    chart = command.add_argument_group("what the chart was told", "open what its settings need")
    chart.add_argument("--otlp", metavar="URL", help="observability.otlpEndpoint")
    chart.add_argument("--prometheus", metavar="URL", help="observability.prometheusUrl")
    chart.add_argument("--smtp", metavar="HOST:PORT", help="notification's SMTP_HOST, SMTP_PORT")
    chart.add_argument("--mongodb", metavar="URI", help="mongodb.uri")
    chart.add_argument("--stripe-key", action="store_true", help="there is a stripe.apiKey")
    chart.add_argument("--stripe-address", metavar="URL", help="stripe.apiBase")
    chart.add_argument(
        "--stripe-namespace", default=shop.stripe_namespace, help="stripe.sandbox.namespace"
    )


def main() -> int:
    """Gives the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="say what has drifted; write nothing")
    commands = parser.add_subparsers(dest="command")
    manifests = commands.add_parser(
        "render",
        help="print a folder of mesh/ for a shop elsewhere, for kubectl apply -f - or delete -f -",
        description=render.__doc__,
    )
    manifests.add_argument(
        "folder", nargs="+", help="base, start, scenarios/03-canary-by-weight/10, base/calls.yaml"
    )
    page = commands.add_parser(
        "readme",
        help="print a README.md of mesh/ with the commands for a shop elsewhere",
        description=readme.__doc__,
    )
    page.add_argument("folder", help="start, scenarios/03-canary-by-weight, or . for the mesh's")
    for command in (manifests, page):
        describe_shop(command)
    given = parser.parse_args()
    if given.command is None:
        return written(rendered(load_topology()), "mesh", is_check=given.check)
    try:
        shop = shop_of(given)
        if given.command == "readme":
            print(readme.for_shop(shop, list(options_of(given, page)), given.folder), end="")
        else:
            objects = [each for name in given.folder for each in render.rendered(shop, name)]
            print(render.text_of(objects), end="")
    except render.CannotRender as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
