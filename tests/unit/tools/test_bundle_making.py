"""`make bundle`, with a docker, a helm and the others that do as the real ones do."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.unit.tools.test_bundle_images import ISTIO, LINKERD, TRAEFIK
from tools.bundle import contents
from tools.bundle.contents import Bundle, BundleError
from tools.bundle.making import SOURCE, BundlePlan, Maker, architecture_of, pack
from tools.needs import (
    GATEWAY_API,
    ISTIO_VERSION,
    LINKERD_VERSION,
    NODE_IMAGE,
    TRAEFIK_REPOSITORY,
)

SHOP = "meshmart:0.1.0"
NODE, _, _DIGEST = NODE_IMAGE.partition("@")
_VERSIONS = {
    "docker": "Docker version 28",
    "kind": "kind v0.32.0",
    "kubectl": "Client Version: v1.34.1",
    "helm": "v3.18.4",
    "istioctl": f"client version: {ISTIO_VERSION}",
    "linkerd": LINKERD_VERSION,
    "skopeo": "skopeo version 1.18",
}
_PROGRAMS = ("docker", "kind", "kubectl", "helm", "istioctl", "linkerd")


class FakePrograms:
    """Programs and a network that are recorded, and keep what they would keep.

    :ivar images: of docker: the architecture of each name.
    :ivar unbuildable: architectures for which nothing can be built.
    :ivar registry_has: what a registry has, whatever it is asked for; empty for all.
    """

    def __init__(self, folder: Path) -> None:
        self.calls: list[str] = []
        self.images: dict[str, str] = {}
        self.unbuildable: set[str] = set()
        self.registry_has = ""
        self.knows_platforms = True
        self.is_changed = False
        self.moving: set[str] = set()
        self._folder = folder
        for tool in ("git", *_PROGRAMS):
            self.install(tool)

    def install(self, tool: str) -> None:
        self._folder.mkdir(exist_ok=True)
        (self._folder / tool).write_text(tool, encoding="utf-8")

    def find(self, tool: str) -> Path | None:
        path = self._folder / tool
        return path if path.exists() else None

    def succeeds(self, *command: str) -> bool:
        raise AssertionError(command)

    def download(self, url: str) -> bytes:
        assert url == GATEWAY_API
        return b"kind: CustomResourceDefinition\n"

    def run(
        self, *command: str, given: str | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        self.calls.append(" ".join(command))
        assert given is None
        match command:
            case ("docker", "build", "--platform", platform, "--tag", name, *_):
                assert environment == {"BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
                architecture = platform.removeprefix("linux/")
                if architecture in self.unbuildable:
                    raise subprocess.CalledProcessError(1, command)
                self.images[name] = architecture
            case ("docker", "pull", "--quiet", "--platform", platform, name):
                self.images[name] = self.registry_has or platform.removeprefix("linux/")
            case ("docker", "tag", source, name):
                self.images[name] = self.images[source]
            case ("docker", "save", *options, "--output", archive, name):
                assert bool(options) == self.knows_platforms
                write_image(Path(archive), name, self.images[name])
            case ("skopeo", "copy", _, _, _, architecture, _, target):
                _, archive, *name = target.split(":")
                write_image(Path(archive), ":".join(name), architecture)
            case ("helm", "pull", "traefik", "--repo", repository, "--version", _, _, folder):
                assert repository == TRAEFIK_REPOSITORY
                (Path(folder) / "traefik-1.tgz").write_text("chart", encoding="utf-8")
            case ("git", "archive", _, _, "--output", archive, "HEAD"):
                Path(archive).write_text("source", encoding="utf-8")
            case (sys.executable, "-m", "pip", "download", *options):
                assert "--require-hashes" in options
                folder = Path(options[options.index("--dest") + 1])
                folder.mkdir(exist_ok=True)
                (folder / f"oak-{len(self.calls)}.whl").write_text("wheel", encoding="utf-8")
            case _:
                raise AssertionError(command)

    def output(self, *command: str) -> str:
        if "version" in " ".join(command) and command[:2] != ("docker", "version"):
            program = Path(command[0])
            is_moved = program.is_absolute() and program.name in self.moving
            return "other" if is_moved else _VERSIONS[program.name]
        said = {
            ("docker", "version"): "amd64\n",
            ("docker", "save"): "--platform string" if self.knows_platforms else "--output",
            ("git", "rev-parse"): "abc\n",
            ("git", "status"): " M helm/values.yaml\n" if self.is_changed else "",
            ("istioctl", "manifest"): ISTIO,
            ("kubectl", "kustomize"): f"image: observer-{Path(command[-1]).name}:1\n",
            ("linkerd", "install"): LINKERD,
            ("helm", "template"): TRAEFIK,
        }
        first, second, *_ = command
        return said[first, second]


def write_image(archive: Path, name: str, architecture: str, count: int = 1) -> None:
    """As `docker save` does."""
    config = json.dumps({"architecture": architecture, "os": "linux"})
    manifest = json.dumps([{"Config": "c.json", "RepoTags": [name], "Layers": []}] * count)
    with tarfile.open(archive, "w") as file:
        for member, text in (("c.json", config), ("manifest.json", manifest)):
            info = tarfile.TarInfo(member)
            info.size = len(text)
            file.addfile(info, io.BytesIO(text.encode()))


@pytest.fixture
def programs(tmp_path: Path) -> FakePrograms:
    return FakePrograms(tmp_path / "programs")


def plan(
    meshes: Sequence[str] = ("none", "istio", "linkerd"),
    architectures: Sequence[str] = ("amd64", "arm64"),
    pythons: Sequence[str] = (),
) -> BundlePlan:
    return BundlePlan(SHOP, meshes, architectures, pythons)


def made(programs: FakePrograms, folder: Path, wanted: BundlePlan) -> tuple[Bundle, list[str]]:
    left_out = Maker(programs, wanted, folder).make()
    return Bundle.read(folder), left_out


def test_it_holds_all_for_both_architectures(programs: FakePrograms, tmp_path: Path) -> None:
    bundle, left_out = made(programs, tmp_path / "bundle", plan())
    assert not left_out
    names = {
        *(SHOP, "mongo:8.0", "hub/istio/proxyv2:9.9", "hub/istio/pilot:9.9", "l/init:1"),
        *("l/proxy:1", "t/traefik:1", "observer-plain:1", "observer-istio:1"),
        *("observer-linkerd:1", NODE),
    }
    found = {(each.name, each.architecture) for each in bundle.manifest.images}
    assert found == {(name, each) for name in names for each in ("amd64", "arm64")}
    for image in bundle.manifest.images:
        assert architecture_of(bundle.path(image.file)) == image.architecture
    for part in (contents.GATEWAY_API, bundle.manifest.traefik_chart, SOURCE):
        assert bundle.path(part).is_file()
    assert not bundle.damaged(bundle.manifest.parts)
    files = {str(p.relative_to(bundle.folder)) for p in bundle.folder.rglob("*") if p.is_file()}
    assert files == {contents.MANIFEST, *bundle.manifest.parts}
    assert bundle.manifest.made_with == _VERSIONS["docker"]


def test_no_file_of_it_names_a_place_of_the_builder(programs: FakePrograms, tmp_path: Path) -> None:
    bundle, _ = made(programs, tmp_path / "bundle", plan())
    text = (bundle.folder / contents.MANIFEST).read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    assert "://" not in text


def test_docker_has_its_own_images_at_the_end(programs: FakePrograms, tmp_path: Path) -> None:
    """Where it keeps one image under a name, the last one that was fetched."""
    made(programs, tmp_path / "bundle", plan())
    assert set(programs.images.values()) == {"amd64"}


def test_the_nodes_image_is_fetched_by_its_digest_and_kept_by_its_name(
    programs: FakePrograms, tmp_path: Path
) -> None:
    bundle, _ = made(programs, tmp_path / "bundle", plan(architectures=("amd64",)))
    node = bundle.node("amd64")
    assert node.name == NODE
    assert f"docker pull --quiet --platform linux/amd64 {NODE_IMAGE}" in programs.calls


def test_skopeo_copies_what_is_not_built_here(programs: FakePrograms, tmp_path: Path) -> None:
    programs.install("skopeo")
    bundle, _ = made(programs, tmp_path / "bundle", plan(architectures=("amd64",)))
    assert not [call for call in programs.calls if call.startswith("docker pull")]
    (saved,) = [call for call in programs.calls if call.startswith("docker save")]
    assert saved.endswith(SHOP)
    repository = NODE.partition(":")[0]
    assert any(f"docker://{repository}@{_DIGEST} " in call for call in programs.calls)
    assert bundle.manifest.made_with == "skopeo version 1.18"


def test_an_architecture_that_cannot_be_built_is_left_out_and_said(
    programs: FakePrograms, tmp_path: Path
) -> None:
    programs.unbuildable = {"arm64"}
    bundle, left_out = made(programs, tmp_path / "bundle", plan())
    assert {each.architecture for each in bundle.manifest.images} == {"amd64"}
    assert any(each.startswith("arm64: ") for each in left_out)


def test_without_its_own_architecture_there_is_no_bundle(
    programs: FakePrograms, tmp_path: Path
) -> None:
    programs.unbuildable = {"amd64"}
    with pytest.raises(subprocess.CalledProcessError):
        made(programs, tmp_path / "bundle", plan())
    with pytest.raises(BundleError, match="amd64, has to be with it"):
        made(programs, tmp_path / "other", plan(architectures=("arm64",)))


def test_an_image_for_another_architecture_is_refused(
    programs: FakePrograms, tmp_path: Path
) -> None:
    programs.registry_has = "amd64"
    with pytest.raises(BundleError, match="was asked for arm64, and what came is for amd64"):
        made(programs, tmp_path / "bundle", plan())


def test_an_older_docker_is_not_asked_for_a_platform(
    programs: FakePrograms, tmp_path: Path
) -> None:
    programs.knows_platforms = False
    bundle, _ = made(programs, tmp_path / "bundle", plan())
    assert {each.architecture for each in bundle.manifest.images} == {"amd64", "arm64"}


def test_without_linkerd_there_is_no_chart(programs: FakePrograms, tmp_path: Path) -> None:
    bundle, _ = made(programs, tmp_path / "bundle", plan(meshes=("none", "istio")))
    assert bundle.manifest.traefik_chart == ""
    assert bundle.binary("linkerd") is None
    assert bundle.has() == "amd64, arm64; MESH=istio, none"


def test_each_asked_python_has_wheels(programs: FakePrograms, tmp_path: Path) -> None:
    bundle, _ = made(programs, tmp_path / "bundle", plan(pythons=("3.99",)))
    of_99 = {(each.lock, each.machine) for each in bundle.manifest.wheels if each.python == "3.99"}
    assert of_99 == {("requirements.lock", f"Linux-{each}") for each in ("x86_64", "aarch64")}
    downloads = [call for call in programs.calls if "pip download" in call]
    assert len(downloads) == len(bundle.manifest.wheels)
    assert "requirements-check.lock" in downloads[0]
    (call,) = [each for each in downloads if "3.99" in each and "manylinux_2_17_aarch64" in each]
    assert "--only-binary :all:" in call


def test_programs_are_listed_and_those_that_can_be_are_copied(
    programs: FakePrograms, tmp_path: Path
) -> None:
    programs.moving = {"helm"}  # a copy of it says something else
    bundle, left_out = made(programs, tmp_path / "bundle", plan())
    by_name = {each.name: each for each in bundle.manifest.binaries}
    assert {name: each.version for name, each in by_name.items()} == {
        name: _VERSIONS[name] for name in _PROGRAMS
    }
    copied = {name for name, each in by_name.items() if each.file}
    assert copied == {"kind", "kubectl", "istioctl", "linkerd"}
    for name in copied:
        assert bundle.manifest.parts[by_name[name].file].sha256 == by_name[name].sha256
    assert any(each.startswith("helm: ") for each in left_out)


def test_what_is_not_committed_would_be_missing(programs: FakePrograms, tmp_path: Path) -> None:
    programs.is_changed = True
    with pytest.raises(BundleError, match="commit them first"):
        made(programs, tmp_path / "bundle", plan())


def test_a_folder_with_something_in_it_is_left_alone(
    programs: FakePrograms, tmp_path: Path
) -> None:
    (tmp_path / "precious").write_text("", encoding="utf-8")
    with pytest.raises(BundleError, match="is not empty"):
        made(programs, tmp_path, plan())
    assert not programs.calls


def test_the_archive_is_one_folder(programs: FakePrograms, tmp_path: Path) -> None:
    bundle, _ = made(programs, tmp_path / "bundle", plan())
    archive = tmp_path / "bundle.tar"
    pack(bundle.folder, archive)
    with tarfile.open(archive) as file:
        file.extractall(tmp_path / "room", filter="data")
    unpacked = Bundle.read(tmp_path / "room" / "bundle")
    assert not unpacked.damaged(unpacked.manifest.parts)


def test_an_archive_of_several_images_is_none(tmp_path: Path) -> None:
    write_image(tmp_path / "two.tar", "oak:1", "amd64", count=2)
    with pytest.raises(BundleError, match="no archive of one image"):
        architecture_of(tmp_path / "two.tar")
