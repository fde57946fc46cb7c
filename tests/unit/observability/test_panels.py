"""Panels of services and canaries show what there is in samples.yaml, whoever has counted it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.observability.metrics import FOLDER, filled_in

pytestmark = pytest.mark.needs_programs("promtool")

SAMPLES: Mapping[str, Mapping[str, str]] = yaml.safe_load(
    (Path(__file__).parent / "samples.yaml").read_text(encoding="utf-8")
)
# How each of them names a version.
VERSION = {
    "services": "version",
    "istio": "destination_canonical_revision",
    "linkerd": "version",
}
WITNESSES = pytest.mark.parametrize("witness", SAMPLES)


def queries(witness: str, board: str) -> Iterator[tuple[str, str]]:
    """The panels of a dashboard with what they ask: of product-service, or of all."""
    folder = FOLDER / "grafana" / "dashboards"
    path = folder / f"{board}.json"
    if witness != "services":
        path = folder / witness / f"{witness}-{board}.json"
    for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
        for target in panel.get("targets", []):
            service = "product-service" if board == "canary" else ".*"
            yield panel["title"], filled_in(target["expr"], service=service)


def answers(
    folder: Path, witness: str, asked: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]
) -> str:
    """What Prometheus finds wrong with the expected answers, after four minutes of the samples."""
    document = {
        "evaluation_interval": "10s",
        "tests": [
            {
                "interval": "10s",
                "input_series": [
                    {"series": series, "values": values}
                    for series, values in SAMPLES[witness].items()
                ],
                "promql_expr_test": [
                    {"expr": expression, "eval_time": "4m", "exp_samples": list(expected)}
                    for expression, expected in asked
                ],
            }
        ],
    }
    file = folder / "panels.yaml"
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    command = ["promtool", "test", "rules", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@WITNESSES
@pytest.mark.parametrize("board", ["services", "canary"])
def test_each_panel_has_an_answer(tmp_path: Path, witness: str, board: str) -> None:
    asked = [
        (f"count({query}) > bool 0", [{"labels": "{}", "value": 1}])
        for _, query in queries(witness, board)
    ]
    assert len(asked) >= 4
    assert not answers(tmp_path, witness, asked)


@WITNESSES
@pytest.mark.parametrize(
    ("panel", "of_v1", "of_v2"), [("Share", 0.9, 0.1), ("Failures", 0, 0.2), ("Requests", 540, 60)]
)
def test_a_canary_is_seen_as_it_is(
    tmp_path: Path, witness: str, panel: str, of_v1: float, of_v2: float
) -> None:
    (query,) = [query for title, query in queries(witness, "canary") if title == panel]
    expected = [
        {"labels": f'{{{VERSION[witness]}="{version}"}}', "value": value}
        for version, value in (("v1", of_v1), ("v2", of_v2))
    ]
    assert not answers(tmp_path, witness, [(f"round({query}, 0.001)", expected)])
