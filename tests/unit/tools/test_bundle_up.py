"""`make up BUNDLE=DIR`: from a bundle, and nothing from the network."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.testkit.programs import Machine, Rules
from tools.bundle import contents
from tools.bundle.contents import Binary, Bundle, BundleError, Image, Manifest, Part, Wheels
from tools.needs import ISTIO_VERSION, LINKERD_VERSION

NODE = "kindest/node:v1.34.8"
CHART = "charts/traefik-1.2.3.tgz"
MESHES = ("none", "istio", "linkerd")
# By when it is used: name, meshes, of observability alone.
IMAGES: Sequence[tuple[str, Sequence[str], bool]] = (
    ("meshmart:0.1.0", MESHES, False),
    ("mongo:8.0", MESHES, False),
    ("proxy-of-istio:1", ("istio",), False),
    ("proxy-of-linkerd:1", ("linkerd",), False),
    ("grafana:1", MESHES, True),
    ("kiali:1", ("istio",), True),
)
ARM: Rules = ((("docker version",), (0, "arm64")),)
AMD: Rules = ((("docker version",), (0, "amd64")),)
INTERNET = re.compile(r"https://|--repo|docker (build|pull)|docker-image")


def write_bundle(folder: Path, architectures: Sequence[str] = ("amd64", "arm64")) -> Bundle:
    """A bundle with small files in the places of images."""
    images: list[Image] = []
    for architecture in architectures:
        for name, meshes, is_of_observability in (*IMAGES, (NODE, MESHES, False)):
            file = f"images/{architecture}/{name.replace(':', '_').replace('/', '_')}.tar"
            images.append(
                Image(name, architecture, meshes, is_of_observability, name == NODE, file)
            )
    for file in (*(each.file for each in images), contents.GATEWAY_API, CHART):
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file, encoding="utf-8")
    contents.write(
        folder,
        Manifest(
            version="0.1.0",
            revision="abc",
            made_with="docker 1",
            image="meshmart:0.1.0",
            images=images,
            traefik_chart=CHART,
            binaries=[
                Binary("istioctl", f"client version: {ISTIO_VERSION}", "Linux-x86_64", "00", ""),
                Binary("linkerd", LINKERD_VERSION, "Linux-x86_64", "00", ""),
            ],
            wheels=[Wheels("requirements.lock", "3.12", "Linux-x86_64")],
            parts=contents.parts_of(folder),
        ),
    )
    return Bundle.read(folder)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    folder = tmp_path / "programs"
    folder.mkdir()
    return Machine(folder)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_bundle(tmp_path / "bundle")


@pytest.mark.parametrize("is_observed", [False, True])
@pytest.mark.parametrize("mesh", MESHES)
def test_nothing_comes_from_the_network(
    machine: Machine, bundle: Bundle, mesh: str, *, is_observed: bool
) -> None:
    options = ("--mesh", mesh, *(("--observability",) if is_observed else ()))
    run = machine.up("--bundle", str(bundle.folder), *options, rules=ARM)
    assert run.status == 0, run.said
    assert not [call for call in run.calls if INTERNET.search(call)]

    expected = {
        name
        for name, meshes, is_of_observability in IMAGES
        if mesh in meshes and (is_observed or not is_of_observability)
    }
    loads = run.called("kind load image-archive")
    files = {run.calls[call].split()[3] for call in loads}
    assert files == {
        str(bundle.path(each.file))
        for each in bundle.manifest.images
        if each.architecture == "arm64" and each.name in expected
    }
    install, *_ = run.called("upgrade --install shop helm")
    assert max(loads) < install
    assert bool(run.called("kubectl", f"-f {bundle.path(contents.GATEWAY_API)}")) == (
        mesh != "none"
    )
    assert bool(run.called(f"--install traefik {bundle.path(CHART)} ")) == (mesh == "linkerd")


def test_with_a_network_it_uses_the_network(machine: Machine) -> None:
    """The search for the network finds it where it is."""
    run = machine.up("--mesh", "linkerd")
    assert len([call for call in run.calls if INTERNET.search(call)]) == 4


def test_linkerd_does_not_ask_for_the_newest_version(machine: Machine, bundle: Bundle) -> None:
    run = machine.up("--bundle", str(bundle.folder), "--mesh", "linkerd", rules=AMD)
    (check,) = run.called("linkerd", " check")
    assert f"--expected-version {LINKERD_VERSION}" in run.calls[check]


def test_the_nodes_image_is_there_before_kind_looks_for_it(
    machine: Machine, bundle: Bundle
) -> None:
    run = machine.up("--bundle", str(bundle.folder), rules=AMD)
    (load,) = run.called(f"docker load --input {bundle.path(bundle.node('amd64').file)}")
    (create,) = run.called("kind create cluster", f"--image {NODE} ")
    assert load < create


def test_a_damaged_archive_is_named_before_anything_is_made(
    machine: Machine, bundle: Bundle
) -> None:
    bundle.path("images/amd64/mongo_8.0.tar").write_text("images/amd64/mongo_8.1.tar")
    bundle.path("images/amd64/meshmart_0.1.0.tar").unlink()
    run = machine.up("--bundle", str(bundle.folder), rules=AMD)
    assert run.status != 0
    assert "images/amd64/mongo_8.0.tar" in run.said
    assert "images/amd64/meshmart_0.1.0.tar" in run.said
    assert not run.called("kind")
    assert machine.up("--bundle", str(bundle.folder), rules=ARM).status == 0


@pytest.mark.parametrize(
    ("options", "rules", "sentence"),
    [
        pytest.param((), ARM, "made for amd64; MESH=istio, linkerd, none", id="architecture"),
        pytest.param(
            ("--mesh", "istio"),
            ((("istioctl version",), (0, "client version: 1.31.4")), *AMD),
            "istioctl is client version: 1.31.4, and the bundle has that of",
            id="version",
        ),
        pytest.param(("--image", "mine:1"), AMD, "has the image meshmart:0.1.0", id="image"),
    ],
)
def test_what_a_bundle_lacks_is_said(
    machine: Machine, tmp_path: Path, options: Sequence[str], rules: Rules, sentence: str
) -> None:
    bundle = write_bundle(tmp_path / "bundle", ("amd64",))
    run = machine.up("--bundle", str(bundle.folder), *options, rules=rules)
    assert run.status != 0
    assert sentence in run.said
    assert not run.called("kind")


def test_a_folder_that_is_none_is_said(machine: Machine, tmp_path: Path) -> None:
    run = machine.up("--bundle", str(tmp_path), rules=AMD)
    assert run.status != 0
    assert "is no bundle: there is no bundle.json in it" in run.said


@pytest.mark.parametrize("text", ["{", "{}", '{"images": [{}]}', "[]"])
def test_a_manifest_that_cannot_be_read_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / contents.MANIFEST).write_text(text, encoding="utf-8")
    with pytest.raises(BundleError, match="cannot be read"):
        Bundle.read(tmp_path)


def test_the_bundles_programs_come_first(machine: Machine, bundle: Bundle) -> None:
    """Those of the meshes then are the ones with which the images fit."""
    programs = bundle.path("bin") / contents.machine()
    programs.mkdir(parents=True)
    own = programs / "linkerd"
    own.write_text(f"#!/bin/sh\necho {LINKERD_VERSION}\n", encoding="utf-8")
    own.chmod(0o755)
    other = ((("linkerd version",), (0, "edge-26.6.5")), *AMD)
    options = ("--mesh", "linkerd")
    refused = machine.up("--bundle", str(bundle.folder), *options, rules=other)
    assert "linkerd is edge-26.6.5, and the bundle has that of" in refused.said
    run = machine.run("tools.bundle", "up", str(bundle.folder), *options, rules=other)
    assert run.status == 0, run.said
    assert not run.called("linkerd version")


def test_it_says_what_is_in_it(bundle: Bundle, machine: Machine) -> None:
    run = machine.run("tools.bundle", "list", str(bundle.folder))
    assert run.status == 0, run.said
    for name, *_ in IMAGES:
        assert f"arm64  {name}\n" in run.said
    assert "requirements.lock for Python 3.12 on Linux-x86_64" in run.said


def test_it_compares_all_files(bundle: Bundle, machine: Machine) -> None:
    check = ("tools.bundle", "check", str(bundle.folder))
    assert machine.run(*check).status == 0
    bundle.path(CHART).write_text("other", encoding="utf-8")
    run = machine.run(*check)
    assert run.status != 0
    assert CHART in run.said


def test_a_file_is_no_part_unless_the_manifest_says_so(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path)
    assert bundle.damaged(["bundle.json"]) == ["bundle.json"]
    assert bundle.manifest.parts[CHART] == Part(contents.sha256_of(tmp_path / CHART), len(CHART))
