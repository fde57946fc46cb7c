"""The settings of Jaeger and Prometheus that follow from the topology."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from services.common.topology import Service, Topology

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "observability"
# Under `docker compose` there is no namespace; rules and dashboards ask for one.
COMPOSE_NAMESPACE = "compose"
# Where `make load` shows its figures when it is told to: the port that locust's exporters have.
LOAD_PORT = 9646


def files(topology: Topology) -> Mapping[Path, str]:
    """Each file's text."""
    return {
        FOLDER / "jaeger" / "sampling.json": sampling(topology),
        FOLDER / "prometheus" / "compose.yml": compose_scrapes(topology),
    }


def sampling(topology: Topology) -> str:
    """Jaeger's sampling strategies: each service's ratio, by the name that its spans bear."""
    default = Service.model_fields["trace_sampling_ratio"].default
    strategies = [
        {
            "service": service.workload,
            "type": "probabilistic",
            "param": service.trace_sampling_ratio,
        }
        for service in topology.services.values()
        if service.trace_sampling_ratio != default
    ]
    document = {
        "service_strategies": strategies,
        "default_strategy": {"type": "probabilistic", "param": default},
    }
    return json.dumps(document, indent=2) + "\n"


def compose_scrapes(topology: Topology) -> str:
    """Prometheus' configuration for `docker compose`, with the labels that a cluster's has."""
    lines = [
        "# Made from services/topology.yaml by `make observability`: for `docker compose`.",
        "# In a cluster Prometheus finds the pods by itself: prometheus.yml.",
        "global:",
        "  scrape_interval: 10s",
        "  evaluation_interval: 10s",
        "",
        "storage:",
        "  exemplars:",
        "    max_exemplars: 20000",
        "",
        "rule_files:",
        "  - /etc/prometheus-rules/*.yaml",
        "",
        "scrape_configs:",
        "  - job_name: pods",
        "    static_configs:",
    ]
    for service in topology.services.values():
        port = service.internal_port or service.http.port
        version = service.variants[0] if service.variants else "v1"
        labels = f"namespace: {COMPOSE_NAMESPACE}, app: {service.workload}, version: {version}"
        lines += [
            f'      - targets: ["{service.workload}:{port}"]',
            f"        labels: {{{labels}}}",
        ]
    lines += [
        "",
        "  # The load test, while it exports figures (loadtest/README.md); down at other times.",
        "  - job_name: load",
        "    static_configs:",
        f'      - targets: ["host.docker.internal:{LOAD_PORT}"]',
        f"        labels: {{namespace: {COMPOSE_NAMESPACE}}}",
    ]
    return "\n".join(lines) + "\n"
