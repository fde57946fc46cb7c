"""What is in the folder of a bundle, as its ``bundle.json`` says.

Nothing but Python's own library is imported here: `tools.preflight` reads it, too.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

MANIFEST = "bundle.json"
GATEWAY_API = "manifests/gateway-api.yaml"
WHEELS = "wheels"
_CHUNK_BYTES = 1024 * 1024


class BundleError(Exception):
    """There is no such bundle, or it lacks something. The message says what to do."""


class Image(NamedTuple):
    """A container image for one architecture, as `docker save` writes it.

    :ivar architecture: ``amd64`` or ``arm64``.
    :ivar meshes: in which of ``none``, ``istio`` and ``linkerd`` it is used.
    :ivar is_of_observability: whether it is used with OBSERVABILITY=1 alone.
    :ivar is_node: whether it is that of kind's nodes, which docker runs, and no pod.
    :ivar file: where it is, from the bundle's folder.
    """

    name: str
    architecture: str
    meshes: Sequence[str]
    is_of_observability: bool
    is_node: bool
    file: str


class Binary(NamedTuple):
    """A program that is needed on the laptop.

    :ivar version: what it says of itself.
    :ivar machine: what it runs on: see :func:`machine`.
    :ivar sha256: in hexadecimal.
    :ivar file: where a copy is, from the bundle's folder; empty where there is none.
    """

    name: str
    version: str
    machine: str
    sha256: str
    file: str


class Wheels(NamedTuple):
    """For which Python the folder of wheels has those of a lock.

    :ivar python: ``3.12``.
    :ivar machine: what it runs on: see :func:`machine`.
    """

    lock: str
    python: str
    machine: str


class Part(NamedTuple):
    """A file of the bundle.

    :ivar sha256: in hexadecimal.
    """

    sha256: str
    size_bytes: int


class Manifest(NamedTuple):
    """What ``bundle.json`` says.

    :ivar version: the project's.
    :ivar revision: the commit that it was made of.
    :ivar made_with: the program that has copied the images, with its version.
    :ivar parts: by their path from the bundle's folder. All files but ``bundle.json``.
    """

    version: str
    revision: str
    made_with: str
    image: str
    images: Sequence[Image]
    traefik_chart: str
    binaries: Sequence[Binary]
    wheels: Sequence[Wheels]
    parts: dict[str, Part]


class Bundle:
    """A bundle that is there."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest

    @classmethod
    def read(cls, folder: Path) -> Bundle:
        """Reads what it says of itself.

        :raises BundleError: it cannot be read.
        """
        file = folder / MANIFEST
        try:
            return cls(folder.resolve(), _manifest(json.loads(file.read_text(encoding="utf-8"))))
        except FileNotFoundError:
            raise BundleError(
                f"{folder} is no bundle: there is no {MANIFEST} in it. `make bundle` writes one, "
                "and `tar -xf` unpacks it (docs/bundle.md)."
            ) from None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise BundleError(f"{file} cannot be read: unpack the bundle again.") from error

    def path(self, part: str) -> Path:
        """Where a part of it is."""
        return self.folder / part

    def images(self, architecture: str, mesh: str, *, is_observed: bool) -> list[Image]:
        """The images that pods of such a cluster have.

        :raises BundleError: the bundle was made without that architecture or mesh.
        """
        fitting = [
            each
            for each in self.manifest.images
            if each.architecture == architecture and mesh in each.meshes and not each.is_node
        ]
        if not fitting:
            raise BundleError(
                f"The bundle was made for {self.has()}, and not for {architecture} and "
                f"MESH={mesh}: docs/bundle.md says how to make one."
            )
        return [each for each in fitting if is_observed or not each.is_of_observability]

    def has(self) -> str:
        """For what it was made: ``amd64, arm64; MESH=none, istio``."""
        architectures = sorted({each.architecture for each in self.manifest.images})
        meshes = sorted({mesh for each in self.manifest.images for mesh in each.meshes})
        return f"{', '.join(architectures)}; MESH={', '.join(meshes)}"

    def node(self, architecture: str) -> Image:
        """The image of kind's nodes.

        :raises BundleError: the bundle was made without that architecture.
        """
        for each in self.manifest.images:
            if each.is_node and each.architecture == architecture:
                return each
        raise BundleError(f"The bundle was made for {self.has()}, and not for {architecture}.")

    def binary(self, name: str) -> Binary | None:
        """A program with which the bundle was made."""
        return next((each for each in self.manifest.binaries if each.name == name), None)

    def damaged(self, parts: Iterable[str]) -> list[str]:
        """Which of the parts are missing, or are not what they were."""
        return [each for each in parts if not self._is_whole(each)]

    def _is_whole(self, part: str) -> bool:
        path, wanted = self.path(part), self.manifest.parts.get(part)
        if wanted is None or not path.is_file() or path.stat().st_size != wanted.size_bytes:
            return False
        return sha256_of(path) == wanted.sha256


def write(folder: Path, manifest: Manifest) -> None:
    """Writes ``bundle.json``."""
    told = {
        **manifest._asdict(),
        **{
            name: [each._asdict() for each in getattr(manifest, name)]
            for name in ("images", "binaries", "wheels")
        },
        "parts": {path: part._asdict() for path, part in sorted(manifest.parts.items())},
    }
    (folder / MANIFEST).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def parts_of(folder: Path) -> dict[str, Part]:
    """Its files, all but ``bundle.json``."""
    return {
        str(path.relative_to(folder)): Part(sha256_of(path), path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / MANIFEST
    }


def sha256_of(path: Path) -> str:
    """In hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def machine() -> str:
    """What programs for this machine are made for: ``Linux-x86_64``, ``Darwin-arm64``. The
    Makefile looks for a bundle's programs by the same name.
    """
    return f"{platform.system()}-{platform.machine()}"


def _manifest(told: dict[str, Any]) -> Manifest:
    read: dict[str, Any] = {
        **told,
        "images": [Image(**each) for each in told["images"]],
        "binaries": [Binary(**each) for each in told["binaries"]],
        "wheels": [Wheels(**each) for each in told["wheels"]],
        "parts": {path: Part(**part) for path, part in told["parts"].items()},
    }
    return Manifest(**read)
