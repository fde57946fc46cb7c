"""What a release is made of: ``python -m tools.release notes`` prints its notes, ``chart`` packages
the chart. The release workflow runs both; nothing is published here.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

import yaml

ROOT = Path(__file__).resolve().parent.parent
# Where the version is written.
_PLACES = {
    "pyproject.toml": r'^version = "(.+)"$',
    "helm/Chart.yaml": r"^(?:version|appVersion): (\S+)$",
    "Dockerfile": r"^ARG VERSION=(\S+)$",
    "Makefile": r"^IMAGE \?= meshmart:(\S+)$",
    "tools/kind.py": r'default="meshmart:(\S+)"',
    "mesh/linkerd/faulty/faulty.yaml": r"image: meshmart:(\S+)",
    "docs/gitops/argocd.yaml": r"^ *targetRevision: (\S+)$",
    "docs/gitops/flux.yaml": r"^ *tag: (\S+)$",
}
_VERSION = r"\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?"


def section(changelog: str, version: str) -> str | None:
    """What a changelog says of a version; None when it has no section of that name."""
    heading = re.compile(rf"^## \[{re.escape(version)}\].*$", re.MULTILINE)
    found = heading.search(changelog)
    if found is None:
        return None
    rest = changelog[found.end() :]
    following = re.search(r"^## |^\[[^\]]+\]: ", rest, re.MULTILINE)
    return rest[: following.start() if following else None].strip()


def with_whole_links(text: str, repository: str, version: str) -> str:
    """Markdown whose links to files of the project lead to those of the version on GitHub."""
    files = f"https://github.com/{repository}/blob/v{version}/"
    return re.sub(r"\]\((?!https?://|#|mailto:)", f"]({files}", text)


def declared_versions() -> list[tuple[str, str]]:
    """The version of the project in each place where it is written, with the place."""
    return [
        (place, version)
        for place, pattern in _PLACES.items()
        for version in _found(pattern, (ROOT / place).read_text(encoding="utf-8"), place)
    ]


def notes(version: str, repository: str) -> str:
    """The notes of a release, as Markdown: what has changed, how to install it, how to verify it.

    :param repository: OWNER/NAME on GitHub, whose workflow publishes it.
    """
    _check(version)
    changes = section((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), version)
    if not changes:
        _give_up(
            f"CHANGELOG.md says nothing of {version}: its section is to begin `## [{version}]`."
        )
    registry = f"ghcr.io/{repository.partition('/')[0].lower()}"
    signer = f"https://github.com/{repository}/.github/workflows/release.yml@refs/tags/v{version}"
    return f"""\
{with_whole_links(changes, repository, version)}

## Installing it

```sh
helm install shop oci://{registry}/charts/meshmart --version {version} \\
  --namespace ecommerce --create-namespace
```

The image is `{registry}/meshmart:{version}`, for amd64 and arm64, with a bill of materials and its
provenance. Both are signed by the workflow that has made them:

```sh
for each in {registry}/meshmart:{version} {registry}/charts/meshmart:{version}; do
  cosign verify $each --certificate-oidc-issuer https://token.actions.githubusercontent.com \\
    --certificate-identity {signer}
done
```
"""


def package_chart(version: str, image: str, folder: Path) -> Path:
    """Packages the chart with another image than that of a build on one's own machine.

    :param image: a repository without a tag; the tag is the chart's appVersion.
    :returns: the package.
    """
    _check(version)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as copied:
        chart = Path(copied) / "meshmart"
        shutil.copytree(ROOT / "helm", chart)  # what symlinks lead to, the topology, is copied
        values = chart / "values.yaml"
        text = values.read_text(encoding="utf-8")
        own: str = yaml.safe_load(text)["image"]["repository"]
        line = f"\n  repository: {own}\n"
        if text.count(line) != 1:
            _give_up(f"helm/values.yaml has no single line {line.strip()!r}.")
        values.write_text(text.replace(line, f"\n  repository: {image}\n"), encoding="utf-8")
        changed: Any = yaml.safe_load(values.read_text(encoding="utf-8"))
        assert changed["image"]["repository"] == image
        subprocess.run(["helm", "package", chart, "--destination", folder], check=True)
    return folder / f"meshmart-{version}.tgz"


def main() -> None:
    """Ends with a sentence when a release cannot be made of what is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for_notes = commands.add_parser("notes")
    for_notes.add_argument("version", metavar="VERSION")
    for_notes.add_argument("--repository", required=True, metavar="OWNER/NAME")
    for_chart = commands.add_parser("chart")
    for_chart.add_argument("version", metavar="VERSION")
    for_chart.add_argument("--image", required=True, metavar="REPOSITORY")
    for_chart.add_argument("--output", type=Path, default=ROOT / "build", metavar="DIR")
    arguments = parser.parse_args()
    if arguments.command == "notes":
        print(notes(arguments.version, arguments.repository), end="")
    else:
        print(package_chart(arguments.version, arguments.image, arguments.output))


def _found(pattern: str, text: str, place: str) -> list[str]:
    found = re.findall(pattern, text, re.MULTILINE)
    if not found:
        _give_up(f"{place} says no version like {pattern}.")
    return found


def _check(version: str) -> None:
    if not re.fullmatch(_VERSION, version):
        _give_up(f"{version!r} is no version like 1.2.3.")
    for place, declared in declared_versions():
        if declared != version:
            _give_up(f"{place} says {declared}, and {version} is to be released.")


def _give_up(sentence: str) -> NoReturn:
    sys.exit(sentence)


if __name__ == "__main__":
    main()
