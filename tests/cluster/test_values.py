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
    "frontend.service.externalTrafficPolicy=local",
    "frontend.servesApi=perhaps",
    "proxiesInFront=-1",
    "proxiesInFront=some",
    "ingress.kind=nginx",
    "mongodb.uri=postgres://db",
    "mongodb.image=mongo:latest",
    "mongodb.storage.size=big",
    "stripe.apiKey=sk_live_of_mine",
    "stripe.apiKey=sk_test_",
    "stripe.apiBase=api.stripe.com",
    "ingress.controllerNamespaces={Ingress}",
    "ingress.controllerAddresses={10.0.0.1}",
    "networkPolicies.dnsAddresses={dns}",
    "observability.namespaces={of all}",
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


@pytest.mark.parametrize(
    ("values", "frontend", "auth"),
    [
        ("frontend.servesApi=true", "0", "1"),
        ("frontend.servesApi=false", "1", "1"),
        ("ingress.kind=ingress", "1", "1"),
        ("ingress.kind=gateway,proxiesInFront=2", "2", "2"),
        ("ingress.kind=ingress,proxiesInFront=0", "0", "1"),
    ],
)
def test_each_service_knows_how_many_proxies_to_believe(
    values: str, frontend: str, auth: str
) -> None:
    """The frontend is a proxy in front of `auth`."""
    believing = {
        manifest["metadata"]["name"]: variable["value"]
        for manifest in render("--set", values)
        if manifest["kind"] == "Deployment"
        for container in manifest["spec"]["template"]["spec"]["containers"]
        for variable in container.get("env", ())
        if variable["name"] == "PROXIES_IN_FRONT"
    }
    assert believing == {"frontend": frontend, "auth-service": auth}


def test_linkerd_looks_for_no_http_in_mongodbs_bytes() -> None:
    """`linkerd check --proxy` wants it of the Service as of its pods."""
    (service,), (pods,) = (
        [
            manifest
            for manifest in render("--set", "mesh=linkerd")
            if (manifest["kind"], manifest["metadata"]["name"]) == (kind, "mongodb")
        ]
        for kind in ("Service", "StatefulSet")
    )
    for metadata in (service["metadata"], pods["spec"]["template"]["metadata"]):
        assert metadata["annotations"]["config.linkerd.io/opaque-ports"] == "27017"


def test_linkerd_leaves_a_pod_alone_only_where_others_take_its_place() -> None:
    values = "mesh=linkerd,services.payment.replicas=2,services.product.variants.v2=1"
    left_alone = {
        manifest["metadata"]["name"]
        for manifest in render("--set", values)
        if manifest["kind"] == "Service"
        and "balancer.linkerd.io/failure-accrual" in manifest["metadata"].get("annotations", {})
    }
    assert left_alone == {"payment-service"}


@pytest.mark.parametrize(
    ("values", "policy"),
    [
        ("", None),
        ("frontend.service.type=NodePort", "Cluster"),
        (
            "frontend.service.type=LoadBalancer,frontend.service.externalTrafficPolicy=Local",
            "Local",
        ),
    ],
)
def test_clients_addresses_may_be_kept_on_their_way_in(values: str, policy: str | None) -> None:
    (service,) = (
        manifest
        for manifest in render("--set", values)
        if (manifest["kind"], manifest["metadata"]["name"]) == ("Service", "frontend")
    )
    assert service["spec"].get("externalTrafficPolicy") == policy
