"""The examples for Argo CD and Flux: the chart takes their values, and renders the same each time.

The commands of the README.md are run with a kubectl that sends nothing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from tests.testkit.cluster import ROOT, Object, render, run, run_chart

EXAMPLES = ROOT / "docs/gitops"


def values(name: str) -> Mapping[str, Any]:
    """The chart's values in an example."""
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    found: dict[str, Any] = {}
    for each in yaml.safe_load_all(text):
        if each["kind"] == "Application":
            found = each["spec"]["source"]["helm"]["valuesObject"]
        elif each["kind"] == "HelmRelease":
            found = each["spec"]["values"]
    assert found
    return found


@pytest.fixture(params=["argocd.yaml", "flux.yaml"])
def values_file(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    file = tmp_path / "values.json"
    file.write_text(json.dumps(values(request.param)), encoding="utf-8")
    return str(file)


def test_two_renders_are_the_same(values_file: str) -> None:
    assert run_chart("--values", values_file) == run_chart("--values", values_file)


def test_both_examples_say_the_same() -> None:
    assert values("argocd.yaml") == values("flux.yaml")


def test_the_readme_makes_what_pods_ask_for(values_file: str, tmp_path: Path) -> None:
    made = made_by_the_readme(tmp_path)
    manifests = render("--values", values_file)
    in_chart = {
        manifest["metadata"]["name"] for manifest in manifests if manifest["kind"] == "Secret"
    }
    asked = {
        (reference["name"], reference["key"])
        for manifest in manifests
        for reference in secret_references(manifest)
        if reference["name"] not in in_chart
    }
    assert asked == made


def made_by_the_readme(folder: Path) -> set[tuple[str, str]]:
    """The names of Secrets, each with a key, that the commands make."""
    kubectl = shutil.which("kubectl")
    stand_in = folder / "kubectl"
    stand_in.write_text(f'#!/bin/sh\nexec {kubectl} "$@" --dry-run=client -o json\n')
    stand_in.chmod(0o755)
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    (commands,) = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    path = f"{folder}:{os.environ['PATH']}"
    output = run("env", f"PATH={path}", "bash", "-euo", "pipefail", "-c", commands)
    made: set[tuple[str, str]] = set()
    while output := output.lstrip():
        thing, end = json.JSONDecoder().raw_decode(output)
        output = output[end:]
        if thing["kind"] == "Secret":
            assert thing["metadata"]["namespace"] == "ecommerce"
            assert len(set(thing["data"].values())) == len(thing["data"]), "each has its own"
            made |= {(thing["metadata"]["name"], key) for key in thing["data"]}
    return made


def secret_references(thing: object) -> Iterator[Object]:
    """Every `secretKeyRef` below a manifest."""
    if isinstance(thing, dict):
        for key, value in cast("dict[str, Any]", thing).items():
            if key == "secretKeyRef":
                yield value
            else:
                yield from secret_references(value)
    elif isinstance(thing, list):
        for each in cast("list[object]", thing):
            yield from secret_references(each)
