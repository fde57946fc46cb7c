"""A bundle: all that a cluster with the shop takes from the network, in one archive.

``python -m tools.bundle make`` writes it, at home; ``up DIR`` brings the shop up from it, in a room
without a network. ``check DIR`` compares its files with their checksums, ``list DIR`` says what is
in it. docs/bundle.md says more.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tools import kind
from tools.bundle import contents
from tools.bundle.contents import Bundle, BundleError
from tools.bundle.making import ARCHITECTURES, BundlePlan, Maker, pack
from tools.needs import MESH_TOOLS
from tools.programs import ROOT, ToolPrograms, give_up
from tools.release import declared_versions

_VERSION = declared_versions()[0][1]
_MEGABYTE = 1_000_000


def main(given: Sequence[str] | None = None) -> int:
    """Gives the exit status.

    :param given: the arguments, instead of the command line's.
    """
    arguments = _parser().parse_args(given)
    try:
        match arguments.command:
            case "make":
                plan = BundlePlan(
                    arguments.image,
                    ("none", *(arguments.mesh or ("istio", "linkerd"))),
                    arguments.architecture or ARCHITECTURES,
                    arguments.python,
                )
                _make(plan, arguments.output.resolve())
            case "up":
                return _up(Bundle.read(arguments.bundle), arguments.options)
            case "check":
                _check(Bundle.read(arguments.bundle))
            case _:
                _list(Bundle.read(arguments.bundle))
    except BundleError as error:
        give_up(str(error))
    except subprocess.CalledProcessError as error:
        return error.returncode
    return 0


def _make(plan: BundlePlan, folder: Path) -> None:
    left_out = Maker(ToolPrograms(), plan, folder).make()
    archive = folder.with_name(f"meshmart-bundle-{_VERSION}.tar")
    print(f"Packing {archive} ...")
    pack(folder, archive)
    _list(Bundle.read(folder))
    for each in left_out:
        print(f"Left out: {each}.")
    print(f"{archive}: {archive.stat().st_size // _MEGABYTE:,} MB")
    print(f"SHA-256: {contents.sha256_of(archive)}")


def _up(bundle: Bundle, others: Sequence[str]) -> int:
    """The options that are not its own are those of `tools.kind up`."""
    programs = bundle.path("bin") / contents.machine()
    os.environ["PATH"] = f"{programs}{os.pathsep}{os.environ['PATH']}"
    return kind.main(["up", "--bundle", str(bundle.folder), *others])


def _check(bundle: Bundle) -> None:
    parts = bundle.manifest.parts
    if damaged := bundle.damaged(parts):
        raise BundleError(
            f"Missing or damaged: {', '.join(damaged)}. Copy the archive again, and unpack it."
        )
    print(f"All {len(parts)} files of {bundle.folder} are whole.")


def _list(bundle: Bundle) -> None:
    manifest = bundle.manifest
    print(f"Meshmart {manifest.version}, commit {manifest.revision}, for {bundle.has()}")
    print(f"Images, copied by {manifest.made_with}:")
    for image in manifest.images:
        print(f"  {image.architecture}  {image.name}")
    print("Programs:")
    for each in manifest.binaries:
        first, *_ = each.version.splitlines()
        where = f"in {each.file}" if each.file else "to be installed"
        print(f"  {each.name} ({first}), for {each.machine}, SHA-256 {each.sha256}: {where}")
    print("Wheels:")
    for each in manifest.wheels:
        print(f"  {each.lock} for Python {each.python} on {each.machine}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.bundle", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    make = commands.add_parser("make", help="write a bundle; needs a network")
    make.add_argument("--output", type=Path, default=ROOT / "build/bundle", metavar="DIR")
    make.add_argument("--image", default=f"meshmart:{_VERSION}")
    make.add_argument(
        "--mesh",
        action="append",
        choices=[mesh for mesh in MESH_TOOLS if mesh != "none"],
        help="only with this one; may be repeated",
    )
    make.add_argument(
        "--architecture",
        action="append",
        choices=ARCHITECTURES,
        help="only for this one; may be repeated",
    )
    make.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="VERSION",
        help="with wheels for this Python on Linux, too, 3.12 say; may be repeated",
    )
    up = commands.add_parser("up", help="a cluster with the shop from it")
    up.add_argument("bundle", type=Path, metavar="DIR")
    up.add_argument(
        "options", nargs=argparse.REMAINDER, metavar="OPTION", help="of `tools.kind up`"
    )
    for name, text in (
        ("check", "compare its files with their checksums"),
        ("list", "what is in it"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("bundle", type=Path, metavar="DIR")
    return parser


if __name__ == "__main__":
    sys.exit(main())
