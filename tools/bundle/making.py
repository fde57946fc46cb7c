"""Makes a bundle, with a network and the programs that a cluster needs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tools import needs
from tools.bundle import contents
from tools.bundle.contents import Binary, BundleError, Image, Manifest, Wheels
from tools.bundle.images import Used, used
from tools.needs import CLUSTER_TOOLS, MESH_TOOLS, VERSION_COMMANDS
from tools.programs import ROOT, ToolCommands, need
from tools.release import declared_versions
from tools.supplies import check_version
from tools.wheels import made_for

ARCHITECTURES = ("amd64", "arm64")
# Of Linux, by the names that wheels have for it.
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
SOURCE = "meshmart.tar.gz"
# Python's own, for this machine: with it, all that `make` installs.
_EVERYTHING = "requirements-check.lock"
_RUNTIME = "requirements.lock"
# An image has to be one image and no list with a proof of how it was built, which kind cannot load.
_ONE_IMAGE = {"BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}


class BundlePlan(NamedTuple):
    """What goes into a bundle.

    :ivar image: the shop's.
    :ivar meshes: those of ``none``, ``istio`` and ``linkerd``.
    :ivar architectures: those of ``amd64`` and ``arm64``. Docker's own has to be among them.
    :ivar pythons: for which versions of Python on Linux there are wheels, besides this one's:
        ``3.12``.
    """

    image: str
    meshes: Sequence[str]
    architectures: Sequence[str]
    pythons: Sequence[str]


class Maker:
    """Fills a folder.

    :param folder: it must not be there, or be empty.
    """

    def __init__(self, commands: ToolCommands, plan: BundlePlan, folder: Path) -> None:
        self._commands = commands
        self._plan = plan
        self._folder = folder

    def make(self) -> list[str]:
        """Makes the bundle. Returns what had to be left out, a sentence each.

        :raises BundleError: it cannot be made.
        :raises subprocess.CalledProcessError: a program fails; it has said why.
        """
        tools = self._check()
        self._folder.mkdir(parents=True, exist_ok=True)
        chart = self._fetch_chart()
        self._fetch_gateway_api()
        images, left_out = self._save_images(chart)
        made_wheels = self._fetch_wheels()
        binaries = [self._keep_binary(tool) for tool in tools]
        self._git("archive", "--prefix", "meshmart/", "--output", str(self._folder / SOURCE))
        left_out += [
            f"{each.name}: a copy of it does not run elsewhere, so it has to be installed"
            for each in binaries
            if not each.file and each.name != "docker"
        ]
        contents.write(
            self._folder,
            Manifest(
                version=declared_versions()[0][1],
                revision=self._commands.output("git", "rev-parse", "HEAD").strip(),
                made_with=self._copier(),
                image=self._plan.image,
                images=images,
                traefik_chart="" if chart is None else self._named(chart),
                binaries=binaries,
                wheels=made_wheels,
                parts=contents.parts_of(self._folder),
            ),
        )
        return left_out

    def _check(self) -> list[str]:
        """The programs that a laptop needs. That they are there, and all is ready."""
        of_meshes = [tool for mesh in self._plan.meshes for tool in MESH_TOOLS[mesh]]
        tools = [*CLUSTER_TOOLS, *of_meshes]
        need(self._commands, "git", *tools)
        for tool in of_meshes:
            check_version(self._commands, tool)
        if self._native() not in self._plan.architectures:
            raise BundleError(f"Docker's own architecture, {self._native()}, has to be with it.")
        if self._commands.output("git", "status", "--porcelain", "--untracked-files=no").strip():
            raise BundleError(
                "Some files are changed and not committed, and the bundle's copy of the project "
                "would not have the changes: commit them first."
            )
        if self._folder.exists() and any(self._folder.iterdir()):
            raise BundleError(f"{self._folder} is not empty: remove it, or give another --output.")
        return tools

    def _git(self, command: str, *options: str) -> None:
        self._commands.run("git", command, *options, "HEAD")

    # Manifests and charts

    def _fetch_gateway_api(self) -> None:
        text = self._commands.download(needs.GATEWAY_API)
        kinds = {each["kind"] for each in yaml.load_all(text, Loader=yaml.CSafeLoader) if each}
        if "CustomResourceDefinition" not in kinds:
            raise BundleError(f"{needs.GATEWAY_API} is not the Gateway API's definitions.")
        path = self._folder / contents.GATEWAY_API
        path.parent.mkdir()
        path.write_bytes(text)

    def _fetch_chart(self) -> Path | None:
        if "linkerd" not in self._plan.meshes:
            return None
        charts = self._folder / "charts"
        charts.mkdir()
        self._commands.run(
            *("helm", "pull", "traefik", "--repo", needs.TRAEFIK_REPOSITORY),
            *("--version", needs.TRAEFIK_CHART, "--destination", str(charts)),
        )
        (chart,) = charts.iterdir()
        return chart

    # Images

    def _save_images(self, chart: Path | None) -> tuple[list[Image], list[str]]:
        """Those of other architectures first: docker then has its own under each name again."""
        plan, native = self._plan, self._native()
        wanted = used(self._commands, plan.image, plan.meshes, chart or Path())
        saved: list[Image] = []
        left_out: list[str] = []
        for architecture in sorted(plan.architectures, key=lambda each: each == native):
            try:
                self._build(architecture)
            except subprocess.CalledProcessError:
                if architecture == native:
                    raise
                left_out.append(
                    f"{architecture}: {plan.image} cannot be built for it here "
                    "(https://docs.docker.com/build/building/multi-platform/#qemu says what helps)"
                )
                continue
            saved += [self._save(each, architecture) for each in wanted]
            saved.append(self._save_node(architecture))
        return saved, left_out

    def _build(self, architecture: str) -> None:
        platform = f"linux/{architecture}"
        revision = self._commands.output("git", "rev-parse", "HEAD").strip()
        self._commands.run(
            *("docker", "build", "--platform", platform, "--tag", self._plan.image),
            *("--build-arg", f"REVISION={revision}", "."),
            environment=_ONE_IMAGE,
        )

    def _save(self, wanted: Used, architecture: str) -> Image:
        name = wanted.name
        file = self._file(name, architecture)
        if name != self._plan.image and self._has_skopeo():
            self._skopeo(name, name, architecture, file)
        else:
            if name != self._plan.image:
                self._pull(name, architecture)
            self._docker_save(name, architecture, file)
        return self._saved(
            Image(
                name=name,
                architecture=architecture,
                meshes=wanted.meshes,
                is_of_observability=wanted.is_of_observability,
                is_node=False,
                file=file,
            )
        )

    def _save_node(self, architecture: str) -> Image:
        """By its digest, and then by its name alone: `docker load` knows no digests, and kind would
        look for one in the network.
        """
        repository, _, tag, digest = re.split(r"(:)([^:@/]+)@", needs.NODE_IMAGE)
        name = f"{repository}:{tag}"
        file = self._file(name, architecture)
        if self._has_skopeo():
            self._skopeo(f"{repository}@{digest}", name, architecture, file)
        else:
            self._pull(needs.NODE_IMAGE, architecture)
            self._commands.run("docker", "tag", needs.NODE_IMAGE, name)
            self._docker_save(name, architecture, file)
        return self._saved(
            Image(
                name=name,
                architecture=architecture,
                meshes=tuple(self._plan.meshes),
                is_of_observability=False,
                is_node=True,
                file=file,
            )
        )

    def _pull(self, name: str, architecture: str) -> None:
        self._commands.run("docker", "pull", "--quiet", "--platform", f"linux/{architecture}", name)

    def _docker_save(self, name: str, architecture: str, file: str) -> None:
        """A docker that keeps images of several platforms is asked for one of them."""
        knows_platforms = "--platform" in self._commands.output("docker", "save", "--help")
        options = ("--platform", f"linux/{architecture}") if knows_platforms else ()
        archive = str(self._folder / file)
        self._commands.run("docker", "save", *options, "--output", archive, name)

    def _skopeo(self, source: str, name: str, architecture: str, file: str) -> None:
        self._commands.run(
            *("skopeo", "copy", "--override-os", "linux", "--override-arch", architecture),
            *(f"docker://{source}", f"docker-archive:{self._folder / file}:{name}"),
        )

    def _saved(self, image: Image) -> Image:
        found = architecture_of(self._folder / image.file)
        if found != image.architecture:
            raise BundleError(
                f"{image.name} was asked for {image.architecture}, and what came is for {found}. "
                "Install skopeo or a newer Docker, or leave that architecture out."
            )
        return image

    def _file(self, name: str, architecture: str) -> str:
        folder = Path("images") / architecture
        (self._folder / folder).mkdir(parents=True, exist_ok=True)
        return str(folder / f"{re.sub(r'[^A-Za-z0-9.-]+', '_', name)}.tar")

    def _native(self) -> str:
        return self._commands.output("docker", "version", "--format", "{{.Server.Arch}}").strip()

    def _has_skopeo(self) -> bool:
        return self._commands.find("skopeo") is not None

    def _copier(self) -> str:
        if self._has_skopeo():
            return self._commands.output("skopeo", "--version").strip()
        return self._commands.output(*VERSION_COMMANDS["docker"]).strip()

    # Wheels and programs

    def _fetch_wheels(self) -> list[Wheels]:
        own = f"{sys.version_info.major}.{sys.version_info.minor}"
        self._download_wheels(_EVERYTHING, ())
        found = [Wheels(_EVERYTHING, own, contents.machine())]
        for python in dict.fromkeys((own, *self._plan.pythons)):
            for architecture in self._plan.architectures:
                machine = _MACHINES[architecture]
                each = Wheels(_RUNTIME, python, f"Linux-{machine}")
                if each[1:] != found[0][1:]:
                    self._download_wheels(_RUNTIME, made_for(machine, python))
                    found.append(each)
        return found

    def _download_wheels(self, lock: str, options: Sequence[str]) -> None:
        """Pip compares each with the lock's hash."""
        self._commands.run(
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
            *("--require-hashes", "--no-deps", "--only-binary", ":all:", *options),
            *("--dest", str(self._folder / contents.WHEELS), "--requirement", str(ROOT / lock)),
        )

    def _keep_binary(self, tool: str) -> Binary:
        """A copy of a program, if it says the same as the program. docker is more than a file."""
        path = self._commands.find(tool)
        assert path is not None
        version = self._commands.output(*VERSION_COMMANDS[tool]).strip()
        sha256 = contents.sha256_of(path)
        file = f"bin/{contents.machine()}/{tool}"
        if tool == "docker" or not self._is_copied(tool, path, file, version):
            file = ""
        return Binary(tool, version, contents.machine(), sha256, file)

    def _is_copied(self, tool: str, path: Path, file: str, version: str) -> bool:
        copy = self._folder / file
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
        _, *options = VERSION_COMMANDS[tool]
        try:
            said = self._commands.output(str(copy), *options).strip()
        except (OSError, subprocess.CalledProcessError):  # a script that needs what is beside it
            said = ""
        if said != version:
            copy.unlink()
        return said == version

    def _named(self, path: Path) -> str:
        return str(path.relative_to(self._folder))


def pack(folder: Path, archive: Path) -> None:
    """Writes the archive: one folder, ``bundle``. What is in it is mostly compressed already."""
    with tarfile.open(archive, "w") as file:
        file.add(folder, arcname="bundle")


def architecture_of(archive: Path) -> str:
    """For which architecture the image in an archive of `docker save` is.

    :raises BundleError: there is not exactly one image in it.
    """
    with tarfile.open(archive) as file:
        try:
            images = _member(file, "manifest.json")
            (image,) = images
            config: Mapping[str, Any] = _member(file, image["Config"])
        except (KeyError, ValueError) as error:
            raise BundleError(f"{archive} is no archive of one image.") from error
        return str(config["architecture"])


def _member(file: tarfile.TarFile, name: str) -> Any:
    member = file.extractfile(name)
    if member is None:
        raise KeyError(name)
    return json.load(member)
