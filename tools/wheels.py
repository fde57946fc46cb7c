"""Asks the package index whether the image can be built for a processor, ``python -m tools.wheels
--machine aarch64`` say: whether everything in requirements.lock has a wheel for it. Prints them.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The C library of Debian 13, which the image's base is made of, takes wheels for any older one.
_OLDEST_GLIBC, _NEWEST_GLIBC = 17, 41


def python_version() -> str:
    """The Python of the image."""
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    (version,) = re.findall(r"^ARG PYTHON_VERSION=(\S+)$", dockerfile, re.MULTILINE)
    return version


def platforms(machine: str) -> list[str]:
    """The tags of wheels that run on a machine, ``aarch64`` say."""
    minor_versions = range(_NEWEST_GLIBC, _OLDEST_GLIBC - 1, -1)
    return [
        *(f"manylinux_2_{minor}_{machine}" for minor in minor_versions),
        f"manylinux2014_{machine}",
    ]


def made_for(machine: str, version: str) -> list[str]:
    """Pip's options for wheels of another machine and Python than this one's."""
    return [
        *("--implementation", "cp", "--python-version", version),
        *(f"--platform={platform}" for platform in platforms(machine)),
    ]


def wheels(machine: str, version: str, lock: Path = ROOT / "requirements.lock") -> list[str]:
    """The file names of a lock's wheels for a machine and a Python version.

    :raises subprocess.CalledProcessError: there is none of some package; pip has said of which.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        subprocess.run(
            [
                *(sys.executable, "-m", "pip", "install", "--dry-run", "--quiet"),
                *("--ignore-installed", "--target", folder, "--report", str(report)),
                *("--require-hashes", "--no-deps", "--only-binary", ":all:"),
                *made_for(machine, version),
                *("--requirement", str(lock)),
            ],
            check=True,
        )
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    return sorted(each["download_info"]["url"].rpartition("/")[2] for each in found)


def main() -> int:
    """Gives the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--machine", required=True, choices=("aarch64", "x86_64"))
    parser.add_argument("--python", default=python_version(), metavar="VERSION")
    arguments = parser.parse_args()
    try:
        found = wheels(arguments.machine, arguments.python)
    except subprocess.CalledProcessError as error:
        return error.returncode
    print("\n".join(found))
    print(f"All {len(found)} packages have a wheel for {arguments.machine}, {arguments.python}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
