"""Every folder of mesh/ as kubectl builds it, for a shop elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from tests.testkit.cluster import ROOT, CommandFailed, run
from tests.testkit.elsewhere import ISTIO, LINKERD, left_behind
from tools.mesh import render

_MESHES = (ROOT / "mesh/istio", ROOT / "mesh/linkerd")
FOLDERS = sorted(
    {path.parent.relative_to(ROOT / "mesh") for mesh in _MESHES for path in mesh.rglob("*.yaml")}
    - {Path("istio"), Path("linkerd")}  # what the installations of the meshes are told
)


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_nothing_speaks_of_the_files_shop(folder: Path) -> None:
    mesh, _, below = str(folder).partition("/")
    shop = ISTIO if mesh == "istio" else LINKERD
    objects = render.rendered(shop, below)
    assert objects
    assert left_behind(objects) == []


@pytest.mark.parametrize("folder", [each for each in FOLDERS if each.name != "shared"], ids=str)
def test_what_is_outside_of_the_namespace_is_this_shops_alone(folder: Path) -> None:
    """So that another shop neither overwrites it nor takes it back."""
    mesh, _, below = str(folder).partition("/")
    shop = ISTIO if mesh == "istio" else LINKERD
    for each in render.rendered(shop, below):
        metadata = each["metadata"]
        if metadata.get("namespace") != shop.namespace:
            assert metadata["name"].startswith(f"{shop.namespace}-"), metadata
            labels = metadata.get("labels", {})
            if "meshmart/scenario" in labels:
                assert labels["meshmart/shop"] == shop.namespace, metadata


def test_stripe_itself_takes_the_place_of_the_sandbox() -> None:
    shop = render.Shop(has_stripe_key=True)
    assert render.rendered(shop, "base") == render.built("istio", "stripe-key")


def test_a_scenario_leaves_the_way_to_stripe_as_it_is() -> None:
    """README.md takes scenarios back by the base without ``meshmart/part=stripe``: in a shop with a
    key of its own, too, Stripe stays what it is.
    """

    def by_part(folder: str) -> tuple[list[str], list[render.Object]]:
        of_stripe: list[str] = []
        others: list[render.Object] = []
        for each in render.built("istio", folder):
            if each["metadata"].get("labels", {}).get("meshmart/part") == "stripe":
                of_stripe.append(f"{each['kind']}/{each['metadata']['name']}")
            else:
                others.append(each)
        return of_stripe, others

    of_stripe, others = by_part("base")
    assert of_stripe == ["ServiceEntry/stripe", "DestinationRule/stripe", "VirtualService/stripe"]
    assert by_part("stripe-key") == (of_stripe, others)
    for folder in FOLDERS:
        if folder.parts[:2] == ("istio", "scenarios"):
            for each in render.built("istio", str(folder.relative_to("istio"))):
                assert f"{each['kind']}/{each['metadata']['name']}" not in of_stripe


def command(*arguments: str) -> str:
    return run(sys.executable, "-m", "tools.mesh", "render", *arguments)


def test_the_command_prints_them() -> None:
    here = ("--namespace", "student-07", "--host", "student-07.example.org")
    labelled = ("--gateway-namespace", "edge", "--gateway-label", "istio=edge")
    text = command(*here, *labelled, "--smtp", "mail.acme.example:587", "base")
    objects = list(yaml.load_all(text, Loader=yaml.CSafeLoader))
    gateway = next(each for each in objects if each["kind"] == "Gateway")
    assert gateway["metadata"] == {
        "name": "student-07-gateway",
        "namespace": "student-07",
        "labels": {"meshmart/step": "entry"},
    }
    assert gateway["spec"]["selector"] == {"istio": "edge"}
    assert "./mail.acme.example" in text


def test_the_command_says_why_it_cannot() -> None:
    with pytest.raises(CommandFailed, match="linkerd has no gateway 'helm'"):
        command("--mesh", "linkerd", "--gateway", "helm", "base")
    with pytest.raises(CommandFailed, match="holds no manifests"):
        command("scenarios/99")
