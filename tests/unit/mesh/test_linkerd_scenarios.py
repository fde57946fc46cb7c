"""Linkerd has the scenarios that Istio has, number for number, or says why not; and what they refer
to exists.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.mesh.scenarios import says_what_to_do_instead
from tests.testkit.matrix import TOPOLOGY

MESH = Path(__file__).parents[3] / "mesh"
SCENARIOS = sorted((MESH / "linkerd/scenarios").iterdir())
WITHOUT_EQUIVALENT = {
    "09-connection-pool",
    "10-consistent-hash",
    "11-rate-limit-at-the-gateway",
    "13-mirroring",
    "15-user-rules",
    "16-failover",
    "18-tracing",
}


def objects(*folders: Path) -> list[Any]:
    return [
        document
        for folder in folders
        for path in folder.rglob("*.yaml")
        if path.name != "kustomization.yaml"
        for document in yaml.load_all(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    ]


def services(*folders: Path) -> dict[str, set[int]]:
    """The ports of the chart's Services and of those in the folders."""
    found = {
        service.workload: {
            port.service_port for port in (service.http, service.grpc) if port is not None
        }
        for service in TOPOLOGY.services.values()
    }
    found["stripe-sandbox"] = {12111}
    for each in objects(*folders):
        if each["kind"] == "Service":
            found[each["metadata"]["name"]] = {port["port"] for port in each["spec"]["ports"]}
    return found


def test_the_numbers_and_names_are_istios() -> None:
    istios = sorted(path.name for path in (MESH / "istio/scenarios").iterdir())
    assert [path.name for path in SCENARIOS] == istios


@pytest.mark.parametrize("folder", SCENARIOS, ids=lambda path: path.name)
def test_there_are_manifests_or_a_text_that_says_why_not(folder: Path) -> None:
    has_manifests = bool(list(folder.rglob("kustomization.yaml")))
    assert has_manifests == (folder.name not in WITHOUT_EQUIVALENT)
    if not has_manifests:
        says_what_to_do_instead(folder)


@pytest.mark.parametrize("folder", SCENARIOS, ids=lambda path: path.name)
def test_every_route_leads_from_and_to_a_port_that_exists(folder: Path) -> None:
    there = services(MESH / "gateway-api", MESH / "linkerd/faulty", folder)
    for route in objects(folder):
        if route["kind"] not in {"HTTPRoute", "GRPCRoute"} or "spec" not in route:  # a patch
            continue
        named = [each for rule in route["spec"]["rules"] for each in rule.get("backendRefs", ())]
        named += [each for each in route["spec"]["parentRefs"] if each["kind"] == "Service"]
        for each in named:
            assert each["port"] in there[each["name"]], (route["metadata"]["name"], each)


@pytest.mark.parametrize("folder", SCENARIOS, ids=lambda path: path.name)
def test_what_takes_the_place_of_the_bases_is_there(folder: Path) -> None:
    """A route that fits no closer than the base's would not be asked."""
    base = {(each["kind"], each["metadata"]["name"]) for each in objects(MESH / "linkerd/base")}
    for path in folder.rglob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        for document in text.split("---\n"):
            if "# in the place of the base's" in document:
                each = yaml.safe_load(document)
                assert (each["kind"], each["metadata"]["name"]) in base, path
