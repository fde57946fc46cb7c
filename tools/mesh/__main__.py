"""Writes the manifests of mesh/ that follow from topology.yaml; ``--check`` says whether they do.

Each file below templates/ makes the one of the same path and name below mesh/.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from services.common.settings import ProcessSettings
from services.common.topology import PathTemplate, Service, Topology, load_topology
from tools.mesh.calls import service_routes, timed_calls
from tools.mesh.grants import Request, caller_groups, grants
from tools.mesh.permissions import GATEWAY, Operation, permissions

ROOT = Path(__file__).resolve().parent.parent.parent
TEMPLATES = Path(__file__).resolve().parent / "templates"

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
    return {
        ROOT / "mesh" / name.removesuffix(".j2"): environment.get_template(name).render(
            topology=topology,
            services=topology.services,
            permissions=by_callee,
            gateway=GATEWAY,
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
        for name in environment.list_templates(filter_func=lambda name: name.endswith(".yaml.j2"))
    }


def main() -> int:
    """Gives the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    status = 0
    for path, text in rendered(load_topology()).items():
        if not arguments.check:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            name = path.relative_to(ROOT)
            print(f"{name} is not what topology.yaml says; run `make mesh`", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
