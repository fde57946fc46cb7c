"""Which container images `make up` and the labs use, as the manifests say that they apply."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import yaml

from tools.kind import OBSERVABILITY
from tools.programs import ROOT, ToolCommands

# What the manifests of the labs and of the meshes call the shop's image (labs/meshed.py).
SHOP = "meshmart:"
# Istio puts its proxy there when the pod is made.
_INJECTED = "auto"
_ISTIO_PROXY = "istio-sidecar-injector"


class Used(NamedTuple):
    """An image, and when it is used: see :class:`tools.bundle.contents.Image`."""

    name: str
    meshes: tuple[str, ...]
    is_of_observability: bool = False


def used(
    commands: ToolCommands, shop: str, meshes: Sequence[str], traefik_chart: Path
) -> list[Used]:
    """All images but that of kind's nodes.

    :param shop: the shop's image.
    :param meshes: those of ``none``, ``istio`` and ``linkerd`` that are wanted.
    :param traefik_chart: the chart's package; read only where ``linkerd`` is among them.
    :raises subprocess.CalledProcessError: kubectl, helm, istioctl or linkerd fails.
    """
    found = [Used(name, tuple(meshes)) for name in (shop, mongodb(), *sorted(of_files()))]
    for mesh in meshes:
        observers = commands.output("kubectl", "kustomize", OBSERVABILITY[mesh])
        found += [Used(name, (mesh,), is_of_observability=True) for name in images(observers)]
    if "istio" in meshes:
        found += [Used(name, ("istio",)) for name in of_istio(commands)]
    if "linkerd" in meshes:
        found += [Used(name, ("linkerd",)) for name in of_linkerd(commands)]
        found += [Used(name, ("linkerd",)) for name in of_traefik(commands, traefik_chart)]
    return _merged(found)


def mongodb() -> str:
    """That of the chart."""
    values = yaml.safe_load((ROOT / "helm/values.yaml").read_text(encoding="utf-8"))
    return values["mongodb"]["image"]


def of_files() -> set[str]:
    """Those that the labs and the meshes' scenarios name, besides the shop's own."""
    paths = [path for folder in ("labs", "mesh") for path in (ROOT / folder).rglob("*.yaml")]
    found = {name for path in paths for name in images(path.read_text(encoding="utf-8"))}
    return {name for name in found if not name.startswith(SHOP)}


def of_istio(commands: ToolCommands) -> set[str]:
    """Of istiod, of the gateway, and of the proxies that istiod puts into pods."""
    text = commands.output("istioctl", "manifest", "generate", "-f", "mesh/istio/install.yaml")
    (injector,) = (
        each
        for each in _documents(text)
        if (each["kind"], each["metadata"]["name"]) == ("ConfigMap", _ISTIO_PROXY)
    )
    settings = json.loads(injector["data"]["values"])["global"]
    image = settings["proxy"]["image"]
    proxy = image if "/" in image else f"{settings['hub']}/{image}:{settings['tag']}"
    return {proxy, *images(text)}


def of_linkerd(commands: ToolCommands) -> set[str]:
    """Of the control plane; its pods have the proxies that all others get, too."""
    options = ("--ignore-cluster", "--values", "mesh/linkerd/install.yaml")
    return images(commands.output("linkerd", "install", *options))


def of_traefik(commands: ToolCommands, chart: Path) -> set[str]:
    """Of the way in of Linkerd."""
    options = ("--values", "mesh/linkerd/traefik.yaml")
    return images(commands.output("helm", "template", "traefik", str(chart), *options))


def images(text: str) -> set[str]:
    """What the fields ``image`` of a stream of YAML documents name."""
    return {name for each in _documents(text) for name in _named(each) if name != _INJECTED}


def _named(node: object) -> Iterator[str]:
    if isinstance(node, list):
        for each in cast("list[object]", node):
            yield from _named(each)
    elif isinstance(node, dict):
        for key, value in cast("dict[str, object]", node).items():
            if key == "image" and isinstance(value, str):
                yield value
            else:
                yield from _named(value)


def _documents(text: str) -> list[dict[str, Any]]:
    return [each for each in yaml.load_all(text, Loader=yaml.CSafeLoader) if each]


def _merged(found: Iterable[Used]) -> list[Used]:
    """One entry of each name. What is used without observability is not observability's alone."""
    merged: dict[str, Used] = {}
    for each in found:
        before = merged.get(each.name, each)
        meshes = dict.fromkeys((*before.meshes, *each.meshes))
        is_of_observability = before.is_of_observability and each.is_of_observability
        merged[each.name] = Used(each.name, tuple(meshes), is_of_observability)
    return list(merged.values())
