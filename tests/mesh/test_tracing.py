"""One trace from the way in to the last service, through every proxy on the way."""

from __future__ import annotations

import secrets

from tests.mesh.meshed import Mesh, takes_effect
from tests.testkit.customer import Client, Customer, order_body
from tests.testkit.matrix import STRANGER, TOPOLOGY
from tests.testkit.waiting import eventually

# Those that a purchase through the public API needs.
SERVICES = ("order", "product", "inventory", "payment", "shipping", "notification", "user")


def roots(spans: list[dict[str, str]]) -> list[dict[str, str]]:
    """Those whose parent is none of them."""
    known = {span["span"] for span in spans}
    return [span for span in spans if span["parent"] not in known]


async def test_a_purchase_is_one_trace(mesh: Mesh, client: Client) -> None:
    customer = await Customer.register(client)
    trace = secrets.token_hex(16)
    answer = await customer.send(
        "POST",
        "/api/orders",
        json=order_body({"oak-serving-board": 1}),
        headers={
            "idempotency-key": secrets.token_hex(8),
            "traceparent": f"00-{trace}-{secrets.token_hex(8)}-01",
        },
    )
    assert answer.status == 201, answer
    workloads = {TOPOLOGY.services[name].workload for name in SERVICES}

    async def is_whole() -> bool:
        spans = [span for span in mesh.spans() if span["trace"] == trace]
        begins_at = [span["service"] for span in roots(spans)]  # their parent is the client
        seen = {(span["service"], span["by_proxy"]) for span in spans}
        missing = {
            *((workload, False) for workload in workloads),
            *((mesh.span_service(workload), True) for workload in workloads if mesh.proxy),
        } - seen
        print(
            f"{len(spans)} spans; begins at {begins_at}; without (service, by its proxy) {missing}"
        )
        (first, *others) = begins_at or [""]
        return first.startswith(mesh.first_span) and not others and not missing

    # Proxies send theirs every five seconds, each for itself.
    await eventually(
        is_whole, "one trace from the gateway through all services and their proxies", 30
    )


async def test_who_was_refused_is_logged(in_a_mesh: Mesh) -> None:
    path = f"/api/orders/{secrets.token_hex(8)}"
    url = f"http://order-service.ecommerce:3000{path}"
    words = list(in_a_mesh.words_of_a_refusal("order-service", path))

    async def is_logged() -> bool:
        (answer,) = in_a_mesh.probe(STRANGER, [{"method": "GET", "url": url}])
        assert answer.outcome == "denied", answer
        container = ("-c", in_a_mesh.proxy)
        log = in_a_mesh.namespace.kubectl("logs", "deployment/order-service", *container)
        return any(all(word in line for word in words) for line in log.splitlines())

    with in_a_mesh.without_network_policies():
        await takes_effect(is_logged, "the refusal is in the proxy's log")
