"""The steps of the release workflow, run in their order with programs in the place of docker, helm,
cosign and gh that publish nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.release import declared_versions

ROOT = Path(__file__).parents[3]
(VERSION,) = {version for _, version in declared_versions()}
IMAGE, CHART = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"

# Writes down how it was called, and leaves what the real one would leave for the steps after it.
_PROGRAM = """\
#!{python}
import json, sys
from pathlib import Path
name, arguments = Path(__file__).name, sys.argv[1:]
with Path(__file__).with_name("calls").open("a") as calls:
    calls.write(" ".join([name, *arguments]) + chr(10))
build = Path("build")
build.mkdir(exist_ok=True)
if name == "make" and arguments == ["sbom"]:
    (build / "sbom.json").write_text("{{}}")
elif arguments[:2] == ["buildx", "build"]:
    file = arguments[arguments.index("--metadata-file") + 1]
    Path(file).write_text(json.dumps({{"containerimage.digest": "{image}"}}))
elif arguments[:1] == ["package"]:
    (Path(arguments[-1]) / "meshmart-{version}.tgz").write_text("")
elif arguments[:1] == ["push"]:
    assert Path(arguments[1]).exists()
    print("Pushed: ...", "Digest: {chart}", sep=chr(10), file=sys.stderr)
elif name == "jq":
    assert arguments[:2] == ["--raw-output", '."containerimage.digest"']
    print(json.loads(Path(arguments[2]).read_text())["containerimage.digest"])
elif name == "gh":
    assert Path(arguments[arguments.index("--notes-file") + 1]).read_text()
"""


@dataclass
class Runner:
    """A machine that runs the workflow in a copy of the project."""

    project: Path
    programs: Path
    status: int = 0
    calls: list[str] = field(default_factory=list[str])

    def run(self, *, event: str, ref: str) -> None:
        """Runs it until its end or its first failure."""
        workflow: dict[str, Any] = yaml.safe_load(
            (ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8")
        )
        (job,) = workflow["jobs"].values()
        kind, _, name = ref.partition("/")
        is_release = str(kind == "tags" and event == "push").lower()
        expression = "${{ github.ref_type == 'tag' && github.event_name == 'push' }}"
        assert job["env"]["IS_RELEASE"] == expression
        variables = self.project / "variables"
        variables.touch()
        for step in job["steps"]:
            condition = step.get("if")
            assert condition in {None, "env.IS_RELEASE == 'true'"}
            if "run" not in step or (condition and is_release != "true"):
                continue
            said = dict(
                line.split("=", 1) for line in variables.read_text(encoding="utf-8").splitlines()
            )
            self.status = subprocess.run(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
                cwd=self.project,
                env={
                    **os.environ,
                    **said,
                    "PATH": f"{self.programs}:{os.environ['PATH']}",
                    "IS_RELEASE": is_release,
                    "GH_TOKEN": "a-token",
                    "GITHUB_ACTOR": "ada",
                    "GITHUB_ENV": str(variables),
                    "GITHUB_REF_NAME": name,
                    "GITHUB_REPOSITORY": "Ada/shop",
                    "GITHUB_REPOSITORY_OWNER": "Ada",
                    "GITHUB_SERVER_URL": "https://github.com",
                    "GITHUB_SHA": "c" * 40,
                },
                check=False,
            ).returncode
            if self.status != 0:
                break
        calls = self.programs / "calls"
        self.calls = calls.read_text(encoding="utf-8").splitlines()

    def called(self, *words: str) -> Sequence[str]:
        """The calls that have all of these words."""
        return [call for call in self.calls if all(word in call for word in words)]


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    project = tmp_path / "project"
    shutil.copytree(ROOT / "tools", project / "tools")
    shutil.copytree(ROOT / "helm", project / "helm")
    for place, _ in declared_versions():
        copy = project / place
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / place, copy)
    (project / ".venv/bin").mkdir(parents=True)
    (project / ".venv/bin/python").symlink_to(sys.executable)
    changes = f"## [{VERSION}] - 2026-12-01\n\n- The shop.\n"
    (project / "CHANGELOG.md").write_text(changes, encoding="utf-8")
    programs = tmp_path / "programs"
    programs.mkdir()
    text = _PROGRAM.format(python=sys.executable, image=IMAGE, chart=CHART, version=VERSION)
    for name in ("make", "docker", "helm", "cosign", "gh", "jq"):
        program = programs / name
        program.write_text(text, encoding="utf-8")
        program.chmod(0o755)
    return Runner(project, programs)


def test_a_tag_publishes_and_signs_the_image_and_the_chart(runner: Runner) -> None:
    runner.run(event="push", ref=f"tags/v{VERSION}")
    assert runner.status == 0
    (build,) = runner.called("docker buildx build", "linux/amd64,linux/arm64", "push=true")
    assert f"--tag ghcr.io/ada/meshmart:{VERSION} " in build
    assert "--sbom=true" in build
    assert "--provenance=mode=max" in build
    assert runner.called("helm push", "oci://ghcr.io/ada/charts")
    assert runner.called("cosign sign") == [
        f"cosign sign --yes ghcr.io/ada/meshmart@{IMAGE}",
        f"cosign sign --yes ghcr.io/ada/charts/meshmart@{CHART}",
    ]
    assert runner.calls[-1].startswith(f"gh release create v{VERSION} ")
    assert "oci://ghcr.io/ada/charts/meshmart" in (runner.project / "build/notes.md").read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize("ref", ["heads/main", f"tags/v{VERSION}"])
def test_a_run_by_hand_builds_and_publishes_nothing(runner: Runner, ref: str) -> None:
    runner.run(event="workflow_dispatch", ref=ref)
    assert runner.status == 0
    assert runner.called("docker buildx build", "push=false")
    assert runner.called("helm package")
    for published in (
        ("docker login",),
        ("helm push",),
        ("cosign",),
        ("gh release",),
        ("push=true",),
    ):
        assert not runner.called(*published)


def test_a_tag_of_another_version_publishes_nothing(runner: Runner) -> None:
    runner.run(event="push", ref="tags/v9.9.9")
    assert runner.status != 0
    assert not runner.called("docker")
    assert not runner.called("helm")


def test_a_version_that_the_changelog_does_not_know_publishes_nothing(runner: Runner) -> None:
    (runner.project / "CHANGELOG.md").write_text("## [Unreleased]\n", encoding="utf-8")
    runner.run(event="push", ref=f"tags/v{VERSION}")
    assert runner.status != 0
    assert not runner.called("docker")


def test_a_chart_that_is_not_pushed_is_not_signed(runner: Runner) -> None:
    helm = runner.programs / "helm"
    refusing = f'#!/bin/sh\ntest "$1" != push && exec {sys.executable} {helm}.real "$@"\nexit 1\n'
    helm.rename(runner.programs / "helm.real")
    helm.write_text(refusing, encoding="utf-8")
    helm.chmod(0o755)
    runner.run(event="push", ref=f"tags/v{VERSION}")
    assert runner.status != 0
    assert len(runner.called("cosign sign")) == 1
    assert not runner.called("gh release")
