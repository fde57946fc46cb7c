"""Writes compose.yaml from topology.yaml; with --check says whether it is up to date.

The image, the version and MongoDB's settings are the chart's; those of Jaeger, Prometheus and
Grafana are of observability/.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from services.common.topology import Topology, load_topology
from services.local.plan import SANDBOX_KEY
from tools.derived import ROOT, written

FILE = ROOT / "compose.yaml"
BOARDS = ROOT / "observability" / "grafana" / "dashboards"


def readiness(port: int) -> str:
    """A health check's command: the image has Python, and no curl."""
    url = f"http://127.0.0.1:{port}/readyz"
    program = f"import urllib.request; urllib.request.urlopen('{url}', timeout=4)"
    return f"[CMD, python, -c, {json.dumps(program)}]"


def observer(name: str) -> Mapping[str, Any]:
    """The container of Jaeger, Prometheus or Grafana in a cluster, with its pod's `user`."""
    text = (ROOT / "observability" / name / f"{name}.yaml").read_text(encoding="utf-8")
    (pod,) = (
        each["spec"]["template"]["spec"]
        for each in yaml.safe_load_all(text)
        if each["kind"] == "Deployment"
    )
    (container,) = pod["containers"]
    security = pod["securityContext"]
    return {**container, "user": f"{security['runAsUser']}:{security['runAsGroup']}"}


def compose(topology: Topology) -> str:
    """The file's text."""
    (http_port,) = {service.http.port for service in topology.services.values()}
    chart = yaml.safe_load((ROOT / "helm/Chart.yaml").read_text(encoding="utf-8"))
    values = yaml.safe_load((ROOT / "helm/values.yaml").read_text(encoding="utf-8"))
    environment = Environment(  # noqa: S701  it makes YAML, of our own words
        loader=FileSystemLoader(Path(__file__).resolve().parent),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    return environment.get_template("compose.yaml.j2").render(
        services=topology.services,
        http_port=http_port,
        version=chart["appVersion"],
        mongodb=values["mongodb"],
        sandbox_key=SANDBOX_KEY,
        readiness=readiness,
        boards=sorted(path.name for path in BOARDS.glob("*.json")),
        observers={name: observer(name) for name in ("jaeger", "prometheus", "grafana")},
    )


def main() -> int:
    """Gives the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    return written({FILE: compose(load_topology())}, "compose", is_check=arguments.check)


if __name__ == "__main__":
    sys.exit(main())
