"""Grafana's dashboards ask for what there is, and say what to look at."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.common.topology import load_topology
from tests.unit.observability import metrics
from tests.unit.observability.metrics import DASHBOARDS, FOLDER

TOPOLOGY = load_topology()
WORKLOADS = [service.workload for service in TOPOLOGY.services.values()]
KNOWN = {**metrics.declared(), **metrics.recorded(), **metrics.DOCUMENTED}
QUERIES = [*metrics.queries_of_dashboards(), *metrics.queries_of_rules()]


def board(path: Path) -> dict[str, Any]:
    """A dashboard as Grafana reads it."""
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_declarations_are_found() -> None:
    own = metrics.declared()
    assert own["meshmart_request_seconds_bucket"] == {"protocol", "operation", "status", "le"}
    assert own["meshmart_orders_total"] == {"state", "reason"}
    assert own["meshmart_circuit_open"] == {"callee"}
    assert own["meshmart_order_step_seconds_bucket"] == {"step", "outcome", "le"}
    assert own["meshmart_order_oldest_unfinished_seconds"] == frozenset()


def test_queries_ask_for_metrics_that_there_are() -> None:
    for query in QUERIES:
        asked = metrics.names(query.expression)
        assert asked, query
        assert asked <= KNOWN.keys(), (query.where, asked - KNOWN.keys())


def test_queries_ask_for_labels_that_there_are() -> None:
    seen: set[str] = set()
    for query in QUERIES:
        known = set[str]().union(*(KNOWN[name] for name in metrics.names(query.expression)))
        for metric, label in metrics.labels(query.expression):
            assert label in KNOWN[metric] | metrics.TARGET_LABELS, (query.where, metric, label)
            seen.add(label)
        for label in metrics.groupings(query.expression):
            assert label in known | metrics.TARGET_LABELS, (query.where, label)
            seen.add(label)
    assert {"operation", "exported_job", "destination_service_name", "client_id"} <= seen


def test_a_metric_that_there_is_not_is_noticed() -> None:
    wrong = 'sum by (app) (rate(meshmart_requests_total{status=~"5.."}[5m])) or vector(0)'
    assert metrics.names(wrong) == {"meshmart_requests_total"}
    assert "meshmart_requests_total" not in KNOWN


@pytest.mark.needs_programs("promtool")
def test_queries_are_promql() -> None:
    for query in QUERIES:
        command = ["promtool", "--experimental", "promql", "format", query.expression]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{query.where}: {done.stderr}"


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_says_what_to_look_at(path: Path) -> None:
    texts = [panel for panel in board(path)["panels"] if panel["type"] == "text"]
    (first,) = texts
    assert first == board(path)["panels"][0]
    assert re.search(r"\w+ \w+ .*[.]$", first["options"]["content"])


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_asks_the_provisioned_prometheus(path: Path) -> None:
    text = (FOLDER / "grafana" / "datasources.yaml").read_text(encoding="utf-8")
    uids = {source["uid"] for source in yaml.safe_load(text)["datasources"]}
    for panel in board(path)["panels"]:
        for target in panel.get("targets", []):
            assert target["datasource"]["uid"] == "prometheus"
    assert {"prometheus", "jaeger"} == uids


def test_dashboards_are_told_apart() -> None:
    for name in ("uid", "title"):
        values = [board(path)[name] for path in DASHBOARDS]
        assert len(set(values)) == len(values), values


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_panels_lie_beside_each_other(path: Path) -> None:
    taken: set[tuple[int, int]] = set()
    ids: list[int] = []
    for panel in board(path)["panels"]:
        ids.append(panel["id"])
        place = panel["gridPos"]
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_services_are_those_of_the_topology(path: Path) -> None:
    offered = [
        variable["query"].split(",")
        for variable in board(path)["templating"]["list"]
        if variable["name"] == "service"
    ]
    with_versions = {each.workload for each in TOPOLOGY.services.values() if each.variants}
    for services in offered:
        assert set(services) == (with_versions if "canary" in path.stem else set(WORKLOADS))


@pytest.mark.parametrize("folder", ["", "dashboards/istio", "dashboards/linkerd"])
def test_each_dashboard_comes_to_grafana(folder: str) -> None:
    place = FOLDER / "grafana" / folder
    text = (place / "kustomization.yaml").read_text(encoding="utf-8")
    generators = yaml.safe_load(text)["configMapGenerator"]
    (taken,) = [each["files"] for each in generators if each["name"] == "dashboards"]
    below = place / "dashboards" if not folder else place
    assert {(place / name) for name in taken} == set(below.glob("*.json"))


def test_kiali_leads_to_dashboards_that_there_are() -> None:
    text = (FOLDER / "kiali" / "config.yaml").read_text(encoding="utf-8")
    linked = yaml.safe_load(text)["external_services"]["grafana"]["dashboards"]
    in_istio = [board(path) for path in DASHBOARDS if path.parent.name == "istio"]
    assert {each["name"] for each in linked} == {each["title"] for each in in_istio}
    for each in linked:
        (target,) = [candidate for candidate in in_istio if candidate["title"] == each["name"]]
        variables = {f"var-{variable['name']}" for variable in target["templating"]["list"]}
        assert set(each["variables"].values()) <= variables
