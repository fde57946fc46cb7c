"""The metrics that there are, and those that queries ask for."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "observability"
RULES = tuple(sorted((FOLDER / "prometheus" / "rules").glob("*.yaml")))
DASHBOARDS = tuple(sorted((FOLDER / "grafana" / "dashboards").rglob("*.json")))

# What Prometheus adds to all that it reads (prometheus.yml, compose.yml).
TARGET_LABELS = frozenset({"namespace", "pod", "app", "version", "job", "instance"})
_SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "counter": ("_total",),
    "gauge": ("",),
    "Counter": ("_total",),
    "Gauge": ("",),
    "histogram": ("_bucket", "_count", "_sum"),
    "Histogram": ("_bucket", "_count", "_sum"),
}

# https://istio.io/latest/docs/reference/config/metrics/
_ISTIO_LABELS = frozenset(
    {
        "reporter",
        "source_workload",
        "source_workload_namespace",
        "source_principal",
        "source_app",
        "source_version",
        "source_cluster",
        "source_canonical_service",
        "source_canonical_revision",
        "destination_workload",
        "destination_workload_namespace",
        "destination_principal",
        "destination_app",
        "destination_version",
        "destination_cluster",
        "destination_service",
        "destination_service_name",
        "destination_service_namespace",
        "destination_canonical_service",
        "destination_canonical_revision",
        "request_protocol",
        "response_code",
        "response_flags",
        "grpc_response_status",
        "connection_security_policy",
    }
)
# https://linkerd.io/2/reference/proxy-metrics/, with the labels of pods.
_LINKERD_PODS = frozenset({"deployment", "app_kubernetes_io_name", "version", "pod", "namespace"})
_LINKERD_INBOUND = _LINKERD_PODS | {
    *("direction", "tls", "client_id", "status_code", "classification", "grpc_status"),
    *("target_addr", "target_ip", "target_port", "srv_kind", "srv_name", "route_name"),
}
_LINKERD_ROUTES = _LINKERD_PODS | {
    *("parent_group", "parent_kind", "parent_namespace", "parent_name", "parent_port"),
    *("route_group", "route_kind", "route_namespace", "route_name"),
}
DOCUMENTED: Mapping[str, frozenset[str]] = {
    "istio_requests_total": _ISTIO_LABELS,
    "istio_request_duration_milliseconds_bucket": _ISTIO_LABELS | {"le"},
    # https://istio.io/latest/docs/reference/commands/pilot-agent/#metrics, pilot-discovery/#metrics
    "istio_agent_cert_expiry_seconds": frozenset({"resource_name"}),
    "citadel_server_root_cert_expiry_timestamp": frozenset(),
    "response_total": _LINKERD_INBOUND,
    "response_latency_ms_bucket": _LINKERD_INBOUND | {"le"},
    "inbound_http_authz_deny_total": _LINKERD_INBOUND,
    "outbound_http_route_retry_requests_total": _LINKERD_ROUTES,
    "outbound_grpc_route_retry_requests_total": _LINKERD_ROUTES,
    "control_identity_cert_expiration_timestamp_seconds": frozenset(),
    "issuer_cert_ttl_seconds": frozenset(),
    # https://doc.traefik.io/traefik/observability/metrics/overview/
    "traefik_tls_certs_not_after": frozenset({"cn", "serial", "sans"}),
    # Prometheus' own.
    "ALERTS": frozenset({"alertname", "alertstate", "severity"}),
}

_SELECTED = re.compile(r"(?<![\w:.$\"'{-])([a-zA-Z_][\w:]*)\s*(?:\{([^}]*)\})")
_NAMED = re.compile(r"(?<![\w:\"'$.-])([a-zA-Z_:][\w:]*)(?![\w:]*\s*\()")
_LABEL = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"')
_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"')
_GROUPINGS = re.compile(r"\b(?:by|on|ignoring|without)\s*\(([^)]*)\)")
_WINDOWS = re.compile(r"\[[^\]]*\]")
_WORDS = frozenset({"and", "or", "unless", "by", "on", "ignoring", "without", "bool"})


@dataclass(frozen=True, slots=True)
class Query:
    """Something that Prometheus is asked, and where that is written."""

    where: str
    expression: str


def declared() -> Mapping[str, frozenset[str]]:
    """The shop's own metrics, as Prometheus calls them, with their labels."""
    found: dict[str, frozenset[str]] = {}
    for path in (ROOT / "services").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and (metric := _declaration(node)):
                name, suffixes, labels = metric
                found.update({name + suffix: labels for suffix in suffixes})
    return found


def _declaration(call: ast.Call) -> tuple[str, tuple[str, ...], frozenset[str]] | None:
    kind = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    kind = call.func.id if isinstance(call.func, ast.Name) else kind
    if kind not in _SUFFIXES or not call.args:
        return None
    name, *rest = (_constant(argument) for argument in call.args)
    if not isinstance(name, str):
        return None  # a Counter of the standard library, or the one place that makes all of them
    labels = next((cast("tuple[str, ...]", each) for each in rest if isinstance(each, tuple)), ())
    name = name if name.startswith("meshmart_") else f"meshmart_{name}"
    extra = {"le"} if kind.lower() == "histogram" else set[str]()
    # A label that Prometheus has a use for itself keeps what it adds.
    shown = {f"exported_{label}" if label in TARGET_LABELS else label for label in labels}
    return name, _SUFFIXES[kind], frozenset({*shown, *extra})


def _constant(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def rules() -> Iterator[Mapping[str, Any]]:
    """All recording and alerting rules."""
    for path in RULES:
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            yield from group["rules"]


def recorded() -> Mapping[str, frozenset[str]]:
    """The metrics that rules record, with the labels that they keep."""
    found: dict[str, frozenset[str]] = {}
    for rule in rules():
        if "record" in rule:
            kept = re.search(r"\bsum by \(([^)]*)\)", rule["expr"])
            # A rule without a sum of its own is made of others, which keep what they keep.
            labels = _words(kept[1]) if kept else frozenset({"namespace"})
            found[rule["record"]] = labels
    return found


def queries_of_dashboards() -> Iterator[Query]:
    """What the panels and the variables of all dashboards ask."""
    for path in DASHBOARDS:
        board = json.loads(path.read_text(encoding="utf-8"))
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                yield Query(f"{path.stem}: {panel['title']}", filled_in(target["expr"]))


def queries_of_rules() -> Iterator[Query]:
    """What all rules ask."""
    for rule in rules():
        yield Query(rule.get("alert") or rule["record"], rule["expr"])


def filled_in(expression: str, service: str = "order-service") -> str:
    """A panel's query with values in the place of Grafana's variables."""
    values = {
        "$__rate_interval": "1m",
        "$__range": "15m",
        "$namespace": "ecommerce",
        "$service": service,
    }
    for name, value in values.items():
        expression = expression.replace(name, value)
    return expression


def names(expression: str) -> set[str]:
    """The metrics that a query asks for."""
    bare = _WINDOWS.sub("", _GROUPINGS.sub("", _STRINGS.sub('""', expression)))
    bare = re.sub(r"\{[^}]*\}", "", bare)
    found = {match[1] for match in _NAMED.finditer(bare)}
    return {name for name in found if name not in _WORDS and not name.isdigit()}


def labels(expression: str) -> Iterator[tuple[str, str]]:
    """Each metric of a query with each label that it is selected by."""
    for match in _SELECTED.finditer(expression):
        for label in _LABEL.finditer(match[2]):
            yield match[1], label[1]


def groupings(expression: str) -> Iterator[str]:
    """The labels by which a query sums up, or joins."""
    for match in _GROUPINGS.finditer(_STRINGS.sub('""', expression)):
        yield from _words(match[1])


def _words(text: str) -> frozenset[str]:
    return frozenset(word.strip() for word in text.split(",") if word.strip())
