"""The requirements locks: written by uv from pyproject.toml, proved to fit it without a network.

Each lock bears a digest of the dependencies it was made from, so that a changed pyproject.toml is
noticed; all locks pin the same versions, so that one virtual environment can hold any of them.
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
# The last one holds all the others and is made first: it decides the versions.
LOCKS: dict[str, list[str]] = {
    "requirements.lock": [],
    "requirements-test.lock": ["test"],
    "requirements-load.lock": ["load"],
    "requirements-check.lock": ["test", "load", "check"],
}
EVERYTHING = "requirements-check.lock"
PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^ ;\\]+)")


def declared(groups: list[str]) -> list[str]:
    """The requirements that pyproject.toml declares for the run time and these groups, sorted."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lists = [project["project"]["dependencies"], *(project["dependency-groups"][g] for g in groups)]
    return sorted(requirement for requirements in lists for requirement in requirements)


def header(groups: list[str]) -> str:
    digest = hashlib.sha256(json.dumps(declared(groups)).encode()).hexdigest()
    return f"# Made from pyproject.toml by `make lock`. Dependencies: sha256 {digest}\n"


def pins(lock: str) -> dict[str, str]:
    """The locked version of each distribution, by canonical name."""
    lines = (ROOT / lock).read_text().splitlines()
    found = [match for line in lines if (match := PIN.match(line))]
    return {canonicalize_name(match["name"]): match["version"] for match in found}


def write(lock: str, *, upgrade: bool) -> None:
    """Makes one lock anew; its present versions stay where they still fit, unless `upgrade`."""
    groups = LOCKS[lock]
    command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "--universal"]
    command += ["--output-file", lock]
    command += ["--generate-hashes", "--only-binary", ":all:", "--python-version", "3.11"]
    command += ["--no-header", "--no-annotate", "--no-emit-index-url", "--quiet"]
    command += [argument for group in groups for argument in ("--group", group)]
    if lock != EVERYTHING:
        command += ["--constraint", EVERYTHING]
    if upgrade:
        command += ["--upgrade"]
    subprocess.run(command, cwd=ROOT, check=True)
    path = ROOT / lock
    path.write_text(header(groups) + path.read_text())


def faults(lock: str) -> list[str]:
    """What is wrong with a lock, one sentence each."""
    if not (ROOT / lock).exists():
        return [f"{lock} is missing"]
    text = (ROOT / lock).read_text()
    pinned, everything = pins(lock), pins(EVERYTHING)
    found: list[str] = []
    if not text.startswith(header(LOCKS[lock])):
        found.append(f"{lock} was made from other dependencies than pyproject.toml declares")
    if "://" in text or "index-url" in text:
        found.append(f"{lock} names a host")
    for requirement in map(Requirement, declared(LOCKS[lock])):
        version = pinned.get(canonicalize_name(requirement.name))
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            found.append(f"{lock} has {requirement.name} {version}, not {requirement}")
    for name, version in pinned.items():
        if everything.get(name) != version:
            found.append(f"{lock} has {name} {version}, {EVERYTHING} {everything.get(name)}")
    blocks = re.split(r"\n(?=\S)", text.partition("\n")[2].strip())
    found.extend(f"{lock} has no hash for: {block}" for block in blocks if "--hash=" not in block)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say what is wrong")
    parser.add_argument("--upgrade", action="store_true", help="take the newest releases")
    arguments = parser.parse_args()
    if not arguments.check:
        for lock in sorted(LOCKS, key=lambda lock: lock != EVERYTHING):
            write(lock, upgrade=arguments.upgrade)
    found = [fault for lock in LOCKS for fault in faults(lock)]
    if found:
        sys.exit("\n".join([*found, 'Run "make lock".']))


if __name__ == "__main__":
    main()
