"""Stripe, and nothing else, outside of the mesh: HTTPS that the proxy makes and verifies."""

from __future__ import annotations

import json
from typing import Any

from tests.mesh.istio.mesh import BASE, IstioMesh
from tests.mesh.meshed import takes_effect
from tests.testkit.customer import Client, Customer

STRIPE = {"method": "GET", "url": "http://api.stripe.com/livez"}


async def test_payment_reaches_it_over_tls(mesh: IstioMesh) -> None:
    (answer,) = mesh.probe("deployment/payment-service", [STRIPE])
    assert (answer.outcome, answer.detail) == ("answered", "200")
    (pod,) = mesh.release.pods("payment-service")
    hosts = mesh.upstream_hosts(pod, "api.stripe.com")
    assert [host["address"]["socket_address"]["port_value"] for host in hosts] == [443], hosts


async def test_nobody_else_does(mesh: IstioMesh) -> None:
    for workload in ("order-service", "frontend"):
        (answer,) = mesh.probe(f"deployment/{workload}", [STRIPE])
        assert answer.outcome == "failed", (workload, answer)


async def test_a_certificate_for_somebody_else_is_not_taken(
    mesh: IstioMesh, client: Client
) -> None:
    """The proxy verifies who answers: with another name expected, there is no payment."""
    rule = mesh.namespace.object("destinationrule", "stripe")
    expected = rule["spec"]["trafficPolicy"]["portLevelSettings"][0]["tls"]["subjectAltNames"]
    assert expected == ["api.stripe.com"]
    path = "/spec/trafficPolicy/portLevelSettings/0/tls/subjectAltNames"

    def expect(name: str) -> None:
        patch = f'[{{"op": "replace", "path": "{path}", "value": ["{name}"]}}]'
        mesh.namespace.kubectl("patch", "destinationrule", "stripe", "--type=json", "-p", patch)

    def reaches(outcome: str) -> bool:
        return mesh.probe("deployment/payment-service", [STRIPE])[0].outcome == outcome

    async def is_refused() -> bool:
        return reaches("failed")

    async def is_back() -> bool:
        return reaches("answered")

    expect("evil.example.com")
    try:
        await takes_effect(is_refused, "the proxy does not take the certificate")
    finally:
        expect("api.stripe.com")
    await takes_effect(is_back, "the proxy takes the certificate again")
    customer = await Customer.register(client)
    assert (await customer.place({"oak-serving-board": 1})).status == 201


async def test_with_a_key_stripe_itself_is_asked(mesh: IstioMesh) -> None:
    """It is found by its name, and its certificate is judged by the world's authorities."""
    (pod,) = mesh.release.pods("payment-service")

    def way_to_stripe() -> Any:
        dump = json.loads(mesh.proxy_admin(pod, "config_dump?resource=dynamic_active_clusters"))
        clusters = [each["cluster"] for each in dump["configs"]]
        (cluster,) = (each for each in clusters if "api.stripe.com" in each["name"])
        return cluster

    def judge() -> str:
        tls = way_to_stripe()["transport_socket"]["typed_config"]["common_tls_context"]
        judged = tls["combined_validation_context"]
        names = judged["default_validation_context"]["match_subject_alt_names"]
        assert names == [{"exact": "api.stripe.com"}]
        return judged["validation_context_sds_secret_config"]["name"]

    async def asks_the_sandbox() -> bool:
        return judge() == "file-root:/etc/stripe-ca/ca.crt"

    async def asks_stripe() -> bool:
        return judge() == "file-root:/etc/ssl/certs/ca-certificates.crt"

    await takes_effect(asks_the_sandbox, "the sandbox's authority is trusted")
    mesh.apply(BASE.parent / "stripe-key")
    try:
        await takes_effect(asks_stripe, "the world's authorities are trusted")
        (endpoints,) = way_to_stripe()["load_assignment"]["endpoints"]
        addresses = [
            each["endpoint"]["address"]["socket_address"] for each in endpoints["lb_endpoints"]
        ]
        assert [(each["address"], each["port_value"]) for each in addresses] == [
            ("api.stripe.com", 443)
        ]
    finally:
        mesh.apply(BASE)
    await takes_effect(asks_the_sandbox, "the sandbox's authority is trusted again")


async def test_an_unknown_address_is_not_reached(mesh: IstioMesh) -> None:
    """REGISTRY_ONLY: the sandbox is there, and listens; only nobody has declared it."""
    leak = {"method": "GET", "url": "http://stripe-sandbox.stripe:12111/livez"}
    for workload in ("payment-service", "product-service"):
        (answer,) = mesh.probe(f"deployment/{workload}", [leak])
        assert answer.outcome == "failed", (workload, answer)
