"""skaffold.yaml fits the cluster of `make up`, the chart and what the services are made of."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.local.reloading import WATCHED
from tools.kind import WAY_IN
from tools.needs import KIND_CONFIG

ROOT = Path(__file__).parents[3]
FILE = ROOT / "skaffold.yaml"
PROFILES: Sequence[tuple[str, ...]] = (
    (),
    ("istio",),
    ("linkerd",),
    ("debug",),
    ("istio", "debug"),
    ("linkerd", "debug"),
)
# A context of the right name, behind which nobody answers.
_KUBECONFIG: Mapping[str, Any] = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "kind-meshmart",
    "contexts": [{"name": "kind-meshmart", "context": {"cluster": "none", "user": "none"}}],
    "clusters": [{"name": "none", "cluster": {"server": "https://127.0.0.1:1"}}],
    "users": [{"name": "none", "user": {}}],
}
_MESH = {"none": (), "istio": ("istio",), "linkerd": ("linkerd",)}


def with_profiles(*names: str) -> dict[str, Any]:
    """The file as Skaffold reads it with these profiles: patches in their order."""
    config = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    profiles = {profile["name"]: profile for profile in config.pop("profiles")}
    for name in names:
        assert profiles[name].keys() == {"name", "patches"}
        for patch in profiles[name]["patches"]:
            *parents, last = patch["path"].removeprefix("/").split("/")
            place: Any = config
            for part in parents:
                place = place[int(part) if part.isdigit() else part]
            assert (last in place) is (patch["op"] == "replace"), patch["path"]
            place[last] = deepcopy(patch["value"])
    return config


def release(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The one release of the chart."""
    (only,) = config["deploy"]["helm"]["releases"]
    return only


def as_set(values: Mapping[str, Any]) -> dict[str, str]:
    """Values as `helm --set` takes them."""
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in values.items()
    }


@pytest.mark.parametrize("mesh", WAY_IN)
def test_it_keeps_the_way_in_that_make_up_has_made(mesh: str) -> None:
    values = as_set(release(with_profiles(*_MESH[mesh]))["setValues"])
    way_in = dict(value.split("=") for value in WAY_IN[mesh].split(","))
    assert values.items() >= way_in.items()
    assert values.get("mesh", "none") == mesh
    assert values["development"] == "true"
    assert (values.get("linkerd.defaultInboundPolicy") == "deny") is (mesh == "linkerd")


def test_nothing_else_is_forwarded_to_a_port_of_the_cluster() -> None:
    (node,) = json.loads(KIND_CONFIG)["nodes"]
    taken = {mapping["hostPort"] for mapping in node["extraPortMappings"]}
    for profiles in PROFILES:
        for forward in with_profiles(*profiles).get("portForward", ()):
            assert forward.get("localPort", forward["port"]) not in taken


def test_what_restarts_a_service_is_copied_into_it() -> None:
    (artifact,) = with_profiles()["build"]["artifacts"]
    rules = artifact["sync"]["manual"]
    assert {rule["src"] for rule in rules} == {f"services/**/*{suffix}" for suffix in WATCHED}
    assert {rule["dest"] for rule in rules} == {"/app"}


def test_the_debugger_is_in_the_image_that_is_debugged_alone() -> None:
    for profiles in PROFILES:
        (artifact,) = with_profiles(*profiles)["build"]["artifacts"]
        assert ("DEBUGPY_VERSION" in artifact["docker"].get("buildArgs", {})) is (
            "debug" in profiles
        )
    (forward,) = with_profiles("debug")["portForward"]
    assert forward["port"] == 5678


@pytest.mark.needs_programs("skaffold")
@pytest.mark.parametrize("profiles", PROFILES, ids=",".join)
def test_skaffold_reads_it(profiles: Sequence[str], tmp_path: Path) -> None:
    config = yaml.safe_load(_skaffold(tmp_path, profiles, "diagnose", "--yaml-only"))
    expected = release(with_profiles(*profiles))
    (read,) = config["deploy"]["helm"]["releases"]
    assert as_set(read["setValues"]) == as_set(expected["setValues"])
    assert read["setValueTemplates"] == expected["setValueTemplates"]
    assert config["deploy"]["kubeContext"] == "kind-meshmart"


@pytest.mark.needs_programs("skaffold", "helm")
@pytest.mark.parametrize("profiles", PROFILES, ids=",".join)
def test_skaffold_renders_the_shop(profiles: Sequence[str], tmp_path: Path) -> None:
    images = ("--digest-source=none", "--images=meshmart:seen")
    file = tmp_path / "manifests.yaml"
    _skaffold(tmp_path, profiles, "render", "--offline", *images, f"--output={file}")
    documents = yaml.safe_load_all(file.read_text(encoding="utf-8"))
    manifests = {
        (each["kind"], each["metadata"]["name"]): each for each in documents if each is not None
    }
    order = manifests["Deployment", "order-service"]["spec"]["template"]["spec"]["containers"][0]
    assert order["image"] == "meshmart:seen"
    assert order["args"] == ["--reload", "order"]
    environment = {each["name"]: each.get("value") for each in order["env"]}
    is_debugged = "debug" in profiles
    assert (environment.get("DEBUG_PORT") == "5678") is is_debugged
    assert (environment.get("LOG_LEVEL") == "debug") is is_debugged
    service = manifests["Service", "frontend"]["spec"]
    has_mesh = {"istio", "linkerd"} & set(profiles)
    assert (service["type"] == "NodePort") is not bool(has_mesh)


def _skaffold(folder: Path, profiles: Sequence[str], *words: str) -> str:
    """What Skaffold prints; it finds no cluster.

    :param folder: for what it stores.
    """
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(json.dumps(_KUBECONFIG), encoding="utf-8")
    done = subprocess.run(
        ["skaffold", *words, *(f"--profile={profile}" for profile in profiles)],
        cwd=ROOT,
        env={
            **os.environ,
            "HOME": str(folder),
            "KUBECONFIG": str(kubeconfig),
            "DEBUG_SERVICE": "order",
            "SKAFFOLD_UPDATE_CHECK": "false",
            "SKAFFOLD_INTERACTIVE": "false",
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
