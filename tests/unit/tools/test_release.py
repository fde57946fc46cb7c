"""What a release says and how it is published."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools import release

ROOT = Path(__file__).parents[3]
WORKFLOWS = sorted((ROOT / ".github/workflows").iterdir())

_CHANGELOG = """\
# Changelog

## [Unreleased]

- Not yet.

## [0.2.0] - 2026-12-01

### Added

- An audit ([docs](docs/backup.md), [elsewhere](https://example.com/)).

## [0.1.0] - 2026-11-01

- The shop.

[0.1.0]: https://example.com/0.1.0
"""


def test_a_version_has_its_own_section() -> None:
    assert (release.section(_CHANGELOG, "0.2.0") or "").startswith("### Added\n\n- An audit")
    assert release.section(_CHANGELOG, "0.1.0") == "- The shop."
    assert release.section(_CHANGELOG, "0.3.0") is None
    assert release.section(_CHANGELOG, "0.1") is None


def test_links_lead_to_the_files_of_that_version() -> None:
    text = release.with_whole_links(release.section(_CHANGELOG, "0.2.0") or "", "ada/shop", "0.2.0")
    assert "[docs](https://github.com/ada/shop/blob/v0.2.0/docs/backup.md)" in text
    assert "[elsewhere](https://example.com/)" in text


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what bears a version, which is 0.2.0 in it."""
    for name, version in release.declared_versions():
        copy = tmp_path / name
        copy.parent.mkdir(exist_ok=True, parents=True)
        text = (ROOT / name).read_text(encoding="utf-8")
        copy.write_text(text.replace(version, "0.2.0"), encoding="utf-8")
    (tmp_path / "CHANGELOG.md").write_text(_CHANGELOG, encoding="utf-8")
    monkeypatch.setattr(release, "ROOT", tmp_path)
    return tmp_path


def test_the_notes_say_how_to_install_and_verify_it(project: Path) -> None:
    text = release.notes("0.2.0", "Ada/shop")
    assert "An audit" in text
    assert "The shop." not in text
    assert "helm install shop oci://ghcr.io/ada/charts/meshmart --version 0.2.0 " in text
    assert "Ada/shop/.github/workflows/release.yml@refs/tags/v0.2.0" in text


@pytest.mark.parametrize("place", sorted({place for place, _ in release.declared_versions()}))
def test_a_tag_that_is_not_the_version_is_refused(project: Path, place: str) -> None:
    file = project / place
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("0.2.0", "0.1.9"), encoding="utf-8")
    with pytest.raises(SystemExit, match=f"{place} says 0.1.9, and 0.2.0 is to be released"):
        release.notes("0.2.0", "ada/shop")


@pytest.mark.parametrize("version", ["v0.2.0", "0.2", "latest"])
def test_what_is_no_version_is_refused(version: str) -> None:
    with pytest.raises(SystemExit, match="is no version like"):
        release.notes(version, "ada/shop")


def test_a_version_without_changes_is_refused(project: Path) -> None:
    (project / "CHANGELOG.md").write_text("## [Unreleased]\n", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"CHANGELOG.md says nothing of 0\.2\.0"):
        release.notes("0.2.0", "ada/shop")


def test_all_places_name_one_version() -> None:
    assert len({version for _, version in release.declared_versions()}) == 1


def steps(workflow: Path) -> list[dict[str, Any]]:
    """All steps of a workflow."""
    jobs = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_other_peoples_actions_are_named_by_their_commit(workflow: Path) -> None:
    for step in steps(workflow):
        owner, _, rest = step.get("uses", "actions/").partition("/")
        assert owner == "actions" or re.search(r"@[0-9a-f]{40}$", rest), step["uses"]


def test_a_run_by_hand_publishes_nothing() -> None:
    publishing = re.compile(r"cosign sign|helm push|gh release|docker login|--push\b|push=true")
    found = [
        step
        for step in steps(ROOT / ".github/workflows/release.yml")
        if publishing.search(step.get("run", ""))
    ]
    assert len(found) == 4
    for step in found:
        assert step.get("if") == "env.IS_RELEASE == 'true'", step


@pytest.mark.needs_programs("actionlint")
@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actionlint_finds_nothing(workflow: Path) -> None:
    done = subprocess.run(
        ["actionlint", workflow], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout
