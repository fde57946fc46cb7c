"""Prometheus' rules: each alert fires when it should, and says what to do."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.common import error_codes
from services.common.topology import load_topology
from services.order.model import NOT_COMPLETED
from tests.unit.observability import metrics
from tests.unit.observability.metrics import FOLDER, ROOT, RULES

ALERTS = [rule for rule in metrics.rules() if "alert" in rule]
# Made-up series, and which alerts there are then: what `promtool test rules` takes.
CASES = sorted((Path(__file__).parent / "rules").glob("*.yaml"))


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_says_what_to_do(alert: Mapping[str, Any]) -> None:
    notes = alert["annotations"]
    assert notes["summary"]
    assert notes["description"]
    assert alert["labels"]["severity"] in {"page", "ticket"}
    document, _, anchor = notes["runbook_url"].partition("#")
    assert anchor == alert["alert"].lower()
    assert paragraph(ROOT / document, alert["alert"]), notes["runbook_url"]


def paragraph(document: Path, heading: str) -> str:
    """What stands under a heading."""
    text = document.read_text(encoding="utf-8")
    found = re.search(rf"^#+ {heading}\n\n(.+?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else ""


def test_runbooks_are_of_alerts_that_there_are() -> None:
    text = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
    headings = set(re.findall(r"^### (\w+)$", text, re.MULTILINE))
    assert headings == {alert["alert"] for alert in ALERTS}


def test_pages_of_the_objective_are_public() -> None:
    (expression,) = (
        rule["expr"] for rule in metrics.rules() if rule.get("record") == "meshmart:pages:rate5m"
    )
    found = re.search(r'operation=~"([^"]+)"', expression)
    assert found is not None
    public = {
        f"{method} {route.path}"
        for route in load_topology().services["frontend"].public
        for method in route.methods
    }
    assert set(found[1].split("|")) <= public


def test_checkouts_are_judged_by_reasons_that_there_are() -> None:
    expressions = " ".join(rule["expr"] for rule in metrics.rules())
    reasons = set(re.findall(r'reason!?=~?"([^"]+)"', expressions))
    assert reasons == {f"{error_codes.CHECKOUT_UNAVAILABLE}|{NOT_COMPLETED}"}


def test_each_rule_file_comes_to_prometheus() -> None:
    place = FOLDER / "prometheus"
    text = (place / "kustomization.yaml").read_text(encoding="utf-8")
    generators = yaml.safe_load(text)["configMapGenerator"]
    (taken,) = [each["files"] for each in generators if each["name"] == "prometheus-rules"]
    assert {place / name for name in taken} == set(RULES)


def test_each_alert_has_a_case_in_which_it_fires() -> None:
    fired: set[str] = set()
    for path in CASES:
        for case in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            checks = case.get("alert_rule_test", [])
            fired |= {check["alertname"] for check in checks if check["exp_alerts"]}
    assert fired == {alert["alert"] for alert in ALERTS}


@pytest.mark.needs_programs("promtool")
def test_prometheus_takes_the_rules() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", *map(str, RULES))


@pytest.mark.needs_programs("promtool")
@pytest.mark.parametrize("name", ["prometheus.yml", "compose.yml"])
def test_prometheus_takes_its_configuration(name: str) -> None:
    promtool("check", "config", str(FOLDER / "prometheus" / name))


@pytest.mark.needs_programs("promtool")
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should(path: Path) -> None:
    promtool("test", "rules", str(path))


def promtool(*arguments: str) -> None:
    """Runs it; what it says is the message when it finds something."""
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
