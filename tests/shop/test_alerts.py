"""Alerts about what hardly ever happens ask for metrics that there are, with their labels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.testkit.customer import Client, Customer
from tests.testkit.metrics import samples
from tests.testkit.shop import Shop

_FILE = Path(__file__).parents[2] / "observability" / "prometheus" / "rules" / "shop.yaml"
_RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load(_FILE.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
    if "alert" in rule and re.search(r"\b(increase|rate)\(", rule["expr"])
]
_SELECTOR = re.compile(r'(meshmart_\w+)(?:\{(\w+)(=~?)"([^"]+)"\})?')


@pytest.mark.parametrize("rule", _RULES, ids=lambda rule: rule["alert"])
async def test_an_alert_sees_the_first_increase(
    rule: dict[str, Any], shop: Shop, http: aiohttp.ClientSession
) -> None:
    """So each value that it asks for is shown, be it as 0."""
    client = Client(http, shop.url)
    customer = await Customer.register(client)
    wrong = {"email": customer.email, "password": "not this password"}
    assert (await client.send("POST", "/api/auth/login", json=wrong)).status == 401
    found = [
        sample
        for process in shop.processes()
        if process.service != "stripe_sandbox"
        for sample in await samples(http, process.internal_url)
    ]
    selectors = _SELECTOR.findall(rule["expr"])
    assert selectors
    for metric, label, operator, wanted in selectors:
        of_metric = [sample for sample in found if sample.name == metric]
        assert of_metric, metric
        if label:
            values = {sample.labels[label] for sample in of_metric}
            is_rare = metric != "meshmart_authentications_total"
            alternatives = set(wanted.split("|") if operator == "=~" else [wanted])
            assert alternatives <= values if is_rare else alternatives & values, (metric, values)
