"""The topology is what the services really do: each declared call is bound at the start of its
caller, and one that is not declared stops that start.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.common.errors import ConfigurationError
from services.common.serving.host import hosting
from services.common.settings import ProcessSettings
from services.common.topology import TOPOLOGY_PATH, Edge, load_topology

CALLS = [
    pytest.param(name, edge, protocol, number, id=f"{name}-{edge.callee}-{call.operation}")
    for name, service in load_topology().services.items()
    for edge in service.calls
    for protocol in ("http", "grpc")
    for number, call in enumerate(getattr(edge, protocol))
]


@pytest.mark.parametrize(("caller", "edge", "protocol", "number"), CALLS)
async def test_an_undeclared_call_stops_the_start(
    caller: str, edge: Edge, protocol: str, number: int, tmp_path: Path
) -> None:
    call = getattr(edge, protocol)[number]
    topology_path = tmp_path / "topology.yaml"
    declared: Any = yaml.safe_load(TOPOLOGY_PATH.read_text(encoding="utf-8"))
    calls = declared["services"][caller]["calls"]
    entry = next(entry for entry in calls if entry["callee"] == edge.callee)
    # Some callers share one entry by a YAML anchor; the others keep theirs.
    changed = {**entry, protocol: [c for n, c in enumerate(entry[protocol]) if n != number]}
    others = [other for other in calls if other is not entry]
    is_left = changed.get("http") or changed.get("grpc")
    declared["services"][caller]["calls"] = [*others, changed] if is_left else others
    topology_path.write_text(yaml.safe_dump(declared), encoding="utf-8")

    with pytest.raises(ConfigurationError) as refused:
        await _start(caller, topology_path, tmp_path)

    named = getattr(call, "path", None) or call.rpc if is_left else edge.callee
    sentence = str(refused.value)
    assert sentence.startswith(f"{caller} calls ")
    assert named in sentence
    assert f"services.{caller}.calls" in sentence


@pytest.mark.parametrize("name", load_topology().services)
async def test_what_is_declared_is_enough(name: str, tmp_path: Path) -> None:
    await _start(name, TOPOLOGY_PATH, tmp_path)


async def _start(name: str, topology_path: Path, data: Path) -> None:
    """Builds a service, without serving it."""
    wire = importlib.import_module(f"services.{name}.main").wire
    process = ProcessSettings(database_url=f"sqlite:///{data}")
    async with hosting(name, wire, topology=load_topology(topology_path), process=process):
        pass


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What services cannot start without."""
    monkeypatch.setenv("STRIPE_API_KEY", "sk_test_unused")
    monkeypatch.setenv("FRONTEND_SECRET", "x" * 32)
