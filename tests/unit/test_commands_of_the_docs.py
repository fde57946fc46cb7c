"""Commands in the docs come in an order in which they work, and what they warn of is said there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for pattern in (
        *("README.md", "docs/**/*.md", "labs/**/*.md", "mesh/**/*.md"),
        "helm/**/NOTES.txt",
    )
    for path in ROOT.glob(pattern)
)
_UPGRADE = re.compile(r"helm upgrade (?:--install )?shop (?:\\\n|[^\n`])*")
_SCENARIOS = sorted((ROOT / "mesh/istio/scenarios").iterdir())


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_an_upgrade_keeps_the_other_settings(page: Path) -> None:
    for command in _UPGRADE.findall(page.read_text(encoding="utf-8")):
        assert "--reuse-values" in command, command


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_namespace_is_made_before_what_goes_into_it(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        made = block.find("create namespace")
        for secret in re.finditer(r"create secret", block):
            assert 0 <= made < secret.start(), block


def test_a_port_is_forwarded_when_somebody_listens_there() -> None:
    """Without the base, the gateway has no port before the first hour's Gateway opens one."""
    text = (ROOT / "mesh/istio/start/README.md").read_text(encoding="utf-8")
    assert 0 < text.index("kubectl apply -f") < text.index("port-forward")


@pytest.mark.parametrize("scenario", _SCENARIOS, ids=named)
def test_the_warning_of_an_envoy_filter_is_expected(scenario: Path) -> None:
    kinds = {
        each["kind"]
        for path in scenario.rglob("*.yaml")
        for each in yaml.load_all(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    }
    text = (scenario / "README.md").read_text(encoding="utf-8")
    assert ("EnvoyFilter" in kinds) == ("EnvoyFilter exposes" in text)


@pytest.mark.parametrize("mesh", ["istio", "linkerd"])
def test_the_warnings_of_the_steps_are_expected(mesh: str) -> None:
    text = (ROOT / f"mesh/{mesh}/README.md").read_text(encoding="utf-8")
    base = (ROOT / f"mesh/{mesh}/base/kustomization.yaml").read_text(encoding="utf-8")
    assert ("Sorting order" in text) == ("sortOptions" in base)
    is_link = (ROOT / "helm/topology.yaml").is_symlink()
    for page in (text, (ROOT / "docs/kubernetes.md").read_text(encoding="utf-8")):
        assert ("found symbolic link" in page) == is_link
