"""A topology that contradicts itself is refused with one sentence that names the place."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.common.errors import ConfigurationError
from services.common.topology import Topology, load_topology, path_pattern

Document = dict[str, Any]
Change = Callable[[Document], object]

SOUND: Document = {
    "namespace": "shop",
    "services": {
        "a": {
            "workload": "a-service",
            "about": "Calls b.",
            "http": {"port": 3000, "service_port": 80},
            "trace_sampling_ratio": 0.5,
            "public": [{"path": "/api/a/{name}", "methods": ["GET"]}],
            "calls": [
                {
                    "callee": "b",
                    "http": [{"method": "GET", "path": "/api/b", "timeout_ms": 1000}],
                    "grpc": [{"rpc": "shop.b.v1.BService/Do", "timeout_ms": 1000}],
                }
            ],
        },
        "b": {
            "workload": "b-service",
            "about": "Is called.",
            "http": {"port": 3000, "service_port": 3000},
            "grpc": {"port": 9000, "service_port": 9000},
            "trace_sampling_ratio": 0.5,
            "public": [{"path": "/static/**", "methods": ["GET"]}],
        },
    },
}


def a(document: Document) -> Document:
    return document["services"]["a"]


def edge(document: Document) -> Document:
    return a(document)["calls"][0]


def read(tmp_path: Path, text: str) -> Topology:
    file = tmp_path / "topology.yaml"
    file.write_text(text, encoding="utf-8")
    return load_topology(file)


def refusal(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigurationError) as refused:
        read(tmp_path, text)
    sentence = str(refused.value)
    assert sentence.startswith("The topology ")
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def test_a_sound_file_is_read(tmp_path: Path) -> None:
    topology = read(tmp_path, yaml.safe_dump(SOUND))
    assert topology.edges == {("a", "b")}
    assert [call.operation for call in topology.edge("a", "b").http] == ["GET /api/b"]
    assert [call.operation for call in topology.edge("a", "b").grpc] == ["BService/Do"]
    assert [caller for caller, _ in topology.callers_of("b")] == ["a"]


def test_one_trace_in_ten_is_kept_where_nothing_is_said(tmp_path: Path) -> None:
    document = copy.deepcopy(SOUND)
    a(document).pop("trace_sampling_ratio")
    services = read(tmp_path, yaml.safe_dump(document)).services
    assert (services["a"].trace_sampling_ratio, services["b"].trace_sampling_ratio) == (0.1, 0.5)


CONTRADICTIONS: list[tuple[Change, str, str]] = [
    (lambda d: d.pop("namespace"), "namespace", "Field required"),
    (lambda d: d.update(services={}), "services", "at least 1"),
    (lambda d: d.update(colour="red"), "colour", "Extra inputs"),
    (lambda d: a(d).update(colour="red"), "services.a.colour", "Extra inputs"),
    (lambda d: a(d).pop("about"), "services.a.about", "Field required"),
    (lambda d: a(d).update(workload="A b"), "services.a.workload", "match pattern"),
    (lambda d: a(d).update(workload="b-service"), "the file", "b-service is declared twice"),
    (lambda d: a(d)["http"].update(port=0), "services.a.http.port", "greater than"),
    (lambda d: a(d)["http"].update(port=65536), "services.a.http.port", "less than"),
    (lambda d: a(d).update(trace_sampling_ratio=1.1), "trace_sampling_ratio", "less than"),
    (lambda d: a(d)["public"][0].update(path="api"), "services.a.public.0.path", "match pattern"),
    (lambda d: a(d)["public"][0].update(path="/a/**/b"), "public.0.path", "match pattern"),
    (lambda d: a(d)["public"][0].update(methods=[]), "public.0.methods", "at least 1"),
    (lambda d: a(d)["public"][0].update(methods=["TRACE"]), "public.0.methods.0", "'GET'"),
    (lambda d: edge(d).update(callee="c"), "the file", "a -> c: there is no service c"),
    (lambda d: edge(d).update(callee="a"), "the file", "a -> a: a service does not call itself"),
    (lambda d: a(d)["calls"].append(edge(d)), "the file", "a -> b: the edge is declared twice"),
    (
        lambda d: d["services"]["b"].pop("grpc"),
        "the file",
        "a -> b: b offers no gRPC port",
    ),
    (
        lambda d: edge(d).update(http=[], grpc=[]),
        "services.a.calls.0",
        "the edge to b declares no call",
    ),
    (
        lambda d: edge(d)["http"].append(edge(d)["http"][0]),
        "services.a.calls.0",
        "GET /api/b is declared twice",
    ),
    (
        lambda d: edge(d)["grpc"].append(edge(d)["grpc"][0]),
        "services.a.calls.0",
        "BService/Do is declared twice",
    ),
    (
        lambda d: edge(d)["http"][0].update(client_retries=1),
        "services.a.calls.0",
        "GET /api/b is retried but not idempotent",
    ),
    (
        lambda d: edge(d)["grpc"][0].update(client_retries=1),
        "services.a.calls.0",
        "BService/Do is retried but not idempotent",
    ),
    (lambda d: edge(d)["http"][0].update(client_retries=9), "http.0.client_retries", "less than"),
    (lambda d: edge(d)["http"][0].update(method="get"), "http.0.method", "'GET'"),
    (lambda d: edge(d)["http"][0].update(timeout_ms=0), "http.0.timeout_ms", "greater than"),
    (lambda d: edge(d)["http"][0].update(timeout_ms=60_001), "http.0.timeout_ms", "less than"),
    (lambda d: edge(d)["http"][0].pop("timeout_ms"), "http.0.timeout_ms", "Field required"),
    (lambda d: edge(d)["grpc"][0].update(rpc="BService/Do"), "grpc.0.rpc", "match pattern"),
]


@pytest.mark.parametrize(
    ("change", "place", "message"),
    CONTRADICTIONS,
    ids=[f"{place}: {message}" for _, place, message in CONTRADICTIONS],
)
def test_a_contradiction_is_named(tmp_path: Path, change: Change, place: str, message: str) -> None:
    document = copy.deepcopy(SOUND)
    change(document)
    sentence = refusal(tmp_path, yaml.safe_dump(document))
    assert f"{place}: " in sentence
    assert message in sentence


def test_no_yaml_is_named(tmp_path: Path) -> None:
    assert "is not valid YAML" in refusal(tmp_path, "services: [")


@pytest.mark.parametrize("text", ["", "- a\n", "just text"])
def test_no_mapping_is_named(tmp_path: Path, text: str) -> None:
    assert "wrong at the file: " in refusal(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.yaml cannot be read: No such file"):
        load_topology(tmp_path / "nowhere.yaml")


def test_what_is_not_declared_is_named() -> None:
    topology = Topology.model_validate(SOUND)
    with pytest.raises(ConfigurationError, match="no service 'c' in the topology; it knows a, b"):
        topology.service("c")
    with pytest.raises(
        ConfigurationError, match=r"^b calls a, but .*add it under services\.b\.calls"
    ):
        topology.edge("b", "a")


@pytest.mark.parametrize(
    ("method", "path", "service"),
    [
        ("GET", "/api/a/x", "a"),
        ("POST", "/api/a/x", None),
        ("GET", "/api/a", None),
        ("GET", "/api/a/", None),
        ("GET", "/api/a/x/y", None),
        ("GET", "/static/x", "b"),
        ("GET", "/static/x/y.css", "b"),
        ("GET", "/static", None),
        ("GET", "/static/", None),
        ("GET", "/staticx/y", None),
    ],
)
def test_public_routes_are_exact(method: str, path: str, service: str | None) -> None:
    assert Topology.model_validate(SOUND).public_service(method, path) == service


def test_a_template_is_no_regular_expression() -> None:
    assert path_pattern("/robots.txt").fullmatch("/robotsXtxt") is None
    assert path_pattern("/a/{b}").fullmatch("/a/c\n") is not None, "one segment, whatever is in it"
