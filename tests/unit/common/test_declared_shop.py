"""The real topology is true: what it declares is what the services offer."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from google.protobuf.descriptor import FileDescriptor
from starlette.routing import Match, Mount
from starlette.types import Scope

from services.common.serving.host import hosting
from services.common.settings import ProcessSettings
from services.common.topology import Topology, load_topology

TOPOLOGY = load_topology()
SERVICES = tuple(TOPOLOGY.services)

# What services cannot start without; the values are of no account here.
SETTINGS: Mapping[str, str] = {
    "STRIPE_API_KEY": "sk_test_nobody",
    "FRONTEND_SECRET": "nobody-signs-anything-with-this-text",
}

HTTP_CALLS = [
    (caller, edge.callee, call.method, call.path)
    for caller, service in TOPOLOGY.services.items()
    for edge in service.calls
    for call in edge.http
]
RPCS = [
    (edge.callee, call.rpc)
    for service in TOPOLOGY.services.values()
    for edge in service.calls
    for call in edge.grpc
]
API_ROUTES = [
    (name, method, route.path)
    for name, service in TOPOLOGY.services.items()
    for route in service.public
    for method in route.methods
    if name != "frontend"
]
PAGES = [
    (method, route.path)
    for route in TOPOLOGY.services["frontend"].public
    for method in route.methods
]


@pytest.fixture
def apps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Apps:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    return Apps(TOPOLOGY, ProcessSettings(database_url=f"sqlite:///{tmp_path}"))


class Apps:
    """Builds the services' FastAPI apps as their processes do."""

    def __init__(self, topology: Topology, process: ProcessSettings) -> None:
        self._topology = topology
        self._process = process

    async def get(self, name: str) -> FastAPI:
        """The app of one service."""
        built: list[FastAPI] = []
        main = importlib.import_module(f"services.{name}.main")
        async with hosting(name, main.wire, topology=self._topology, process=self._process) as host:
            host.app_setup(built.append)
        return built[0]


def operations(app: FastAPI) -> set[tuple[str, str]]:
    """What the app's OpenAPI document offers, as (method, path)."""
    paths: dict[str, dict[str, Any]] = app.openapi()["paths"]
    return {(method.upper(), path) for path, methods in paths.items() for method in methods}


@pytest.mark.parametrize(("callee", "rpc"), sorted(set(RPCS)))
def test_every_declared_rpc_is_in_the_protos(callee: str, rpc: str) -> None:
    proto: FileDescriptor = importlib.import_module(f"services.pb.{callee}_pb2").DESCRIPTOR
    full_name, _, method = rpc.partition("/")
    package, _, service = full_name.rpartition(".")
    assert package == proto.package
    assert method in proto.services_by_name[service].methods_by_name


@pytest.mark.parametrize("name", SERVICES)
async def test_every_declared_http_operation_is_offered(apps: Apps, name: str) -> None:
    called = {(method, path) for _, callee, method, path in HTTP_CALLS if callee == name}
    public = {(method, path) for service, method, path in API_ROUTES if service == name}
    offered = operations(await apps.get(name))
    assert called | public <= offered


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "frontend"])
async def test_a_route_wants_a_user_exactly_where_it_is_declared(apps: Apps, name: str) -> None:
    paths = (await apps.get(name)).openapi()["paths"]
    declared = {
        (method, route.path): route.user
        for route in TOPOLOGY.services[name].public
        for method in route.methods
    }
    assert declared == {
        (method, path): "security" in paths[path][method.lower()] for method, path in declared
    }


async def test_every_declared_page_exists(apps: Apps) -> None:
    app = await apps.get("frontend")

    def is_served(method: str, path: str) -> bool:
        sample = path.replace("/**", "/x").replace("{", "").replace("}", "")
        scope: Scope = {
            "type": "http",
            "method": method,
            "path": sample,
            "root_path": "",
            "headers": [],
        }
        return any(
            route.matches(scope)[0] is Match.FULL and isinstance(route, Mount) == ("**" in path)
            for route in app.routes
        )

    assert [page for page in PAGES if not is_served(*page)] == []


def test_no_two_services_claim_a_public_path() -> None:
    claimed = [(method, path) for _, method, path in API_ROUTES] + PAGES
    assert len(claimed) == len(set(claimed))


def test_the_sampling_ratios_are_the_lessons() -> None:
    ratios = {name: service.trace_sampling_ratio for name, service in TOPOLOGY.services.items()}
    assert ratios == {**dict.fromkeys(SERVICES, 0.1), "frontend": 1.0, "product": 0.8}
