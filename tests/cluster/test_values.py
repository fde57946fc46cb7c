"""values.schema.json refuses what would not work, before anything is installed."""

from __future__ import annotations

import json

import pytest

from services.common.topology import load_topology
from tests.harness.cluster import CHART, CommandFailed, render

WRONG = [
    "image.tag=latest",
    "image.pulPolicy=Always",
    "image.pullPolicy=Sometimes",
    "defaults.replicas=-1",
    "defaults.replicas=two",
    "defaults.resources.requests.memory=lots",
    "services.checkout.replicas=2",
    "services.product.variants.v2=many",
    "services.order.environment.log-level=debug",
    "frontend.service.type=Ingress",
    "frontend.service.nodePort=99999",
    "frontend.servesApi=perhaps",
    "ingress.kind=nginx",
    "mongodb.uri=postgres://db",
    "mongodb.image=mongo:latest",
    "mongodb.storage.size=big",
    "stripe.apiKey=sk_live_of_mine",
    "stripe.apiKey=sk_test_",
    "stripe.apiBase=api.stripe.com",
    "observability.otlpEndpoint=jaeger",
    "mesh=consul",
    "nonsense=1",
]


@pytest.mark.parametrize("value", WRONG)
def test_a_wrong_value_is_refused_by_its_name(value: str) -> None:
    with pytest.raises(CommandFailed, match="values don't meet the specifications") as refused:
        render("--set", value)
    name = value.partition("=")[0].split(".")
    assert any(part in str(refused.value) for part in name)


def test_the_schema_knows_every_service_of_the_topology() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    known = schema["properties"]["services"]["properties"]
    assert list(known) == list(load_topology().services)


def test_a_variant_that_the_topology_does_not_know_is_refused() -> None:
    with pytest.raises(CommandFailed, match="product has no variant v3; it has v1, v2"):
        render("--set", "services.product.variants.v3=1")
