"""The chart as a release publishes it."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.testkit.cluster import run
from tools.release import declared_versions, package_chart


def test_the_packaged_chart_names_the_published_image(tmp_path: Path) -> None:
    (version,) = {version for _, version in declared_versions()}
    package = package_chart(version, "ghcr.io/ada/meshmart", tmp_path)
    rendered = run("helm", "template", "shop", str(package), "--kube-version", "1.32.0")
    images = [
        container["image"]
        for manifest in yaml.safe_load_all(rendered)
        if manifest and manifest["kind"] in {"Deployment", "StatefulSet", "Job"}
        for container in manifest["spec"]["template"]["spec"]["containers"]
    ]
    own = [image for image in images if "meshmart" in image]
    # The nine services, the sandbox, and the job that makes MongoDB's users.
    assert own == [f"ghcr.io/ada/meshmart:{version}"] * 11
