"""The list of a bundle's images, charts and manifests: nothing that is applied is forgotten."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from tests.testkit.goldens import golden
from tools.bundle.images import images, mongodb, of_files, of_istio, used
from tools.kind import OBSERVABILITY
from tools.needs import GATEWAY_API, TRAEFIK_CHART, TRAEFIK_REPOSITORY
from tools.programs import ROOT, ToolPrograms

SHOP = "meshmart:0.1.0"
MESHES = ("none", "istio", "linkerd")
CHART = Path("charts/traefik.tgz")
_INJECTED = json.dumps(
    {"global": {"hub": "hub/istio", "tag": "9.9", "proxy": {"image": "proxyv2"}}}
)
# What `istioctl manifest generate` prints, shortened. `auto` becomes the injector's image.
ISTIO = f"""\
apiVersion: v1
kind: ConfigMap
metadata: {{name: istio-sidecar-injector}}
data:
  config: "image: template"
  values: '{_INJECTED}'
---
kind: Deployment
metadata: {{name: istiod}}
spec: {{template: {{spec: {{containers: [{{image: "hub/istio/pilot:9.9"}}]}}}}}}
---
kind: Deployment
metadata: {{name: istio-ingressgateway}}
spec: {{template: {{spec: {{containers: [{{image: auto}}]}}}}}}
"""
LINKERD = """\
kind: Deployment
spec: {initContainers: [{image: "l/init:1"}], containers: [{image: "l/proxy:1"}]}
---
"""
TRAEFIK = 'kind: Deployment\nspec: {template: {spec: {containers: [{image: "t/traefik:1"}]}}}\n'


class Rendering(ToolPrograms):
    """kubectl itself; the others print what they would."""

    def output(self, *command: str) -> str:
        match command:
            case ("istioctl", "manifest", "generate", "-f", "mesh/istio/install.yaml"):
                return ISTIO
            case ("linkerd", "install", "--ignore-cluster", "--values", _):
                return LINKERD
            case ("helm", "template", "traefik", chart, "--values", _):
                assert chart == str(CHART)
                return TRAEFIK
            case _:
                return super().output(*command)


@pytest.fixture(scope="module")
def all_images() -> dict[str, tuple[tuple[str, ...], bool]]:
    found = used(Rendering(), SHOP, MESHES, CHART)
    assert len(found) == len({each.name for each in found})
    return {each.name: (each.meshes, each.is_of_observability) for each in found}


def of_manifests(*folders: str) -> set[str]:
    """By the text of all files, so that no rule of how they are combined hides one."""
    lines = [
        line
        for folder in folders
        for path in (ROOT / folder).rglob("*.yaml")
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    found = {match[1] for line in lines if (match := re.match(r"\s*(?:- )?image: *(\S+)", line))}
    assert found
    return found


@pytest.mark.needs_programs("kubectl")
@pytest.mark.parametrize("folder", ["observability", "labs", "mesh"])
def test_every_image_of_the_manifests_is_in_it(
    all_images: dict[str, tuple[tuple[str, ...], bool]], folder: str
) -> None:
    assert of_manifests(folder) <= set(all_images)


@pytest.mark.needs_programs("kubectl")
@pytest.mark.parametrize("rendered", ["default", "istio", "linkerd"])
def test_every_image_of_the_chart_is_in_it(
    all_images: dict[str, tuple[tuple[str, ...], bool]], rendered: str
) -> None:
    assert images("---\n".join(golden(rendered).values())) == {SHOP, mongodb()} <= set(all_images)


@pytest.mark.needs_programs("kubectl")
def test_each_is_there_when_it_is_used(
    all_images: dict[str, tuple[tuple[str, ...], bool]],
) -> None:
    assert all_images[SHOP] == all_images[mongodb()] == (MESHES, False)
    assert all_images["hub/istio/proxyv2:9.9"] == (("istio",), False)
    assert all_images["l/proxy:1"] == all_images["t/traefik:1"] == (("linkerd",), False)
    (kiali,) = (name for name in all_images if "kiali" in name)
    assert all_images[kiali] == (("istio",), True)
    for mesh, folder in OBSERVABILITY.items():
        for name in images(ToolPrograms().output("kubectl", "kustomize", folder)):
            meshes, is_of_observability = all_images[name]
            assert mesh in meshes
            assert is_of_observability


@pytest.mark.needs_programs("kubectl")
def test_only_what_is_wanted_is_in_it() -> None:
    names = {each.name for each in used(Rendering(), SHOP, ("none",), Path())}
    assert SHOP in names
    assert not [name for name in names if re.search("istio|kiali|l/|traefik", name)]


def test_istios_proxy_is_that_of_its_injector() -> None:
    assert of_istio(Rendering()) == {"hub/istio/proxyv2:9.9", "hub/istio/pilot:9.9"}


def test_an_image_that_a_lab_brings_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = tmp_path / "labs/99-new/start"
    lab.mkdir(parents=True)
    pod = {"kind": "Pod", "spec": {"containers": [{"image": "curl:8"}, {"image": SHOP}]}}
    (lab / "pod.yaml").write_text(yaml.safe_dump(pod), encoding="utf-8")
    monkeypatch.setattr("tools.bundle.images.ROOT", tmp_path)
    assert of_files() == {"curl:8"}


def test_what_the_pages_fetch_is_in_it() -> None:
    """What `kubectl apply` and `helm` take from an address, in the steps of the meshes and labs."""
    pages = [path for folder in ("labs", "mesh", "docs") for path in (ROOT / folder).rglob("*.md")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in pages)
    applied = set(re.findall(r"kubectl [^\n]*?-f (https://\S+)", text))
    charts = set(re.findall(r"--repo (\S+) --version (\S+)", text))
    assert applied == {GATEWAY_API}
    assert charts == {(TRAEFIK_REPOSITORY, TRAEFIK_CHART)}


def test_only_values_of_fields_are_images() -> None:
    text = 'image: a:1\nspec:\n- {image: "b:1", x: "image: c:1"}\n- image: {repository: d}\n---\n'
    assert images(text) == {"a:1", "b:1"}
