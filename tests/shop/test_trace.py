"""One checkout is one trace, and every step of it from service to service is declared."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from pathlib import Path

import aiohttp
import pytest

from services.common.topology import load_topology
from tests.testkit.collector import Collector, Span, collecting
from tests.testkit.customer import Client, Customer
from tests.testkit.shop import Shop
from tests.testkit.visitor import Visitor
from tests.testkit.waiting import eventually

BOARD = "oak-serving-board"
TOPOLOGY = load_topology()
WORKLOADS = {name: service.workload for name, service in TOPOLOGY.services.items()}
DECLARED = {(WORKLOADS[caller], WORKLOADS[callee]) for caller, callee in TOPOLOGY.edges}
# On one machine the frontend is the gateway too, with spans of that name: it is the way in, to
# what is public.
ENTRANCE = {
    ("gateway", service.workload) for service in TOPOLOGY.services.values() if service.public
}
CHECKOUT = {
    (WORKLOADS[caller], WORKLOADS[callee])
    for caller, callee in [
        ("order", "user"),
        ("order", "product"),
        ("order", "inventory"),
        ("order", "payment"),
        ("order", "shipping"),
        ("order", "notification"),
        ("shipping", "notification"),
    ]
}
# Whose stores a checkout is in.
KEEPERS = {WORKLOADS[name] for name in ("order", "user", "inventory", "payment", "shipping")} | {
    WORKLOADS["notification"]
}
OF_A_STORE = {"db.system.name", "db.namespace", "db.collection.name", "db.operation.name"}
WITH_DATABASE = {service.workload for service in TOPOLOGY.services.values() if service.database}
# By each of these, one checkout can be told from all else.
STEPS = {
    "order": "POST /api/orders",
    "inventory": "InventoryService/Reserve",
    "payment": "PaymentService/Authorize",
    "shipping": "ShippingService/CreateShipment",
    "notification": "NotificationService/Notify",
}
TOLD = 3  # confirmed, on its way, delivered


@pytest.fixture
async def collector() -> AsyncGenerator[tuple[Collector, str]]:
    async with collecting() as receiver:
        yield receiver


@pytest.fixture
async def traced_shop(collector: tuple[Collector, str], tmp_path: Path) -> AsyncGenerator[Shop]:
    """A shop that sends all its spans, and whose carrier is quick."""
    async with Shop(
        tmp_path,
        environment={
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector[1],
            "TRACE_SAMPLING_RATIO": "1",
            "TRACE_USER_ID": "true",
            "SHIPPING_STEP_SECONDS": "0.2",
        },
    ) as shop:
        yield shop


async def test_a_checkout_is_one_trace(
    collector: tuple[Collector, str], traced_shop: Shop, http: aiohttp.ClientSession
) -> None:
    async with Visitor(traced_shop.url) as visitor:
        await visitor.register()
        await visitor.bought({BOARD: 1})

    edges = await _edges_of_the_one_trace(collector[0])
    assert edges >= CHECKOUT | {(WORKLOADS["frontend"], WORKLOADS["order"])}
    assert edges <= DECLARED

    # The same without pages.
    collector[0].spans.clear()
    customer = await Customer.register(Client(http, traced_shop.url))
    await customer.bought({BOARD: 1})

    edges = await _edges_of_the_one_trace(collector[0])
    assert edges >= CHECKOUT | {("gateway", WORKLOADS["order"])}
    assert edges <= DECLARED | ENTRANCE

    (order,) = collector[0].named(WORKLOADS["order"], STEPS["order"])
    assert order.user == customer.user_id

    # What is sent is not kept as well.
    async with http.get(f"{traced_shop.url}/mesh/traces") as answer:
        html = await answer.text()
    assert f"are sent to <code>{collector[1]}</code>" in html
    assert "No trace yet" in html


async def test_a_purchase_is_one_trace_on_the_page_of_traces(
    shop: Shop, http: aiohttp.ClientSession
) -> None:
    async with Visitor(shop.url) as visitor:
        await visitor.register()
        html = (await visitor.bought({BOARD: 1})).html
    (purchase,) = re.findall(r"Trace of your previous step.*?href=\"([^\"]+)\"", html)
    assert purchase.startswith("/mesh/traces/")

    async def page(path: str) -> str:
        async with http.get(f"{shop.url}{path}") as answer:
            assert answer.status == 200
            return await answer.text()

    async def whole() -> str | None:
        """The row of the purchase, once all services have finished their spans. `auth` is asked for
        its keys now and then only.
        """
        row = (await page("/mesh/traces")).partition(purchase)[2].partition("</tr>")[0]
        services = row.partition('trace-services">')[2].partition("<")[0].split(", ")
        return row if set(services) >= TOPOLOGY.services.keys() - {"auth"} else None

    row = await eventually(whole, "the purchase has passed all services")
    assert "POST /checkout" in row
    waterfall = re.sub("<wbr>", "", await page(purchase))
    for service, step in STEPS.items():
        cell = rf"</span>{service}</th>\s*<td class=\"trace-span\"><code>{re.escape(step)}"
        assert re.search(cell, waterfall), service
    assert purchase in await page("/mesh/traces?service=payment")
    assert purchase in await page("/mesh?minutes=15&edge=order-to-payment")


async def test_no_span_tells_what_a_customer_types(
    collector: tuple[Collector, str], traced_shop: Shop, http: aiohttp.ClientSession
) -> None:
    """Whatever the spans tell is searched as it comes (tests/testkit/hunt.py)."""
    async with Visitor(traced_shop.url) as visitor:
        email = (await visitor.register()).email
        for path in ("/products", "/orders", "/login?next=/products"):
            await visitor.get(f"{path}?q={email}")
        await visitor.add_to_cart(BOARD)
        await visitor.pay("pm_card_chargeDeclined")
    client = Client(http, traced_shop.url)
    await client.send("GET", "/api/products", query={"q": email})
    customer = await Customer.register(client)
    declined = await customer.place({BOARD: 1}, payment_method="pm_card_chargeDeclined")
    assert declined.status == 402
    await customer.logged_in_again()

    async def has_come() -> bool:
        return bool(collector[0].named(WORKLOADS["auth"], "POST /api/auth/login"))

    await eventually(has_come, "the spans of the log-in have come", 60)


async def _edges_of_the_one_trace(collector: Collector) -> set[tuple[str, str]]:
    """The edges of the only trace that any step of the only checkout is in."""

    def steps(service: str) -> list[Span]:
        # auth has a link mailed after the registration, in a trace of its own.
        of_links = {
            span.trace_id
            for span in collector.named(WORKLOADS["auth"], f"notification {STEPS['notification']}")
        }
        found = collector.named(WORKLOADS[service], STEPS[service])
        return [span for span in found if span.trace_id not in of_links]

    async def all_told() -> bool:
        return len(steps("notification")) >= TOLD

    await eventually(all_told, "the spans of the whole checkout have come")
    await eventually(_complete(collector), "every span's parent has come")
    traces = {span.trace_id for service in STEPS for span in steps(service)}
    assert len(traces) == 1
    spans = collector.of_trace(traces.pop())
    for service, name in STEPS.items():
        assert collector.named(WORKLOADS[service], name), f"no span of {service} {name}"
    roots = [str(span) for span in spans if not span.parent_id]
    assert len(roots) == 1, roots
    for span in spans:
        if "db.system.name" in span.attributes:
            assert collector.spans[span.parent_id].service == span.service
            assert set(span.attributes) == OF_A_STORE, "no ids and no values"
            assert span.attributes["db.system.name"] == "sqlite"
    keepers = {span.service for span in spans if "db.system.name" in span.attributes}
    assert KEEPERS <= keepers <= WITH_DATABASE
    # Stripe is outside: it has no spans of its own, and only payment may call it.
    to_stripe = {span.service for span in collector.spans.values() if span.peer == "stripe"}
    assert to_stripe == {WORKLOADS["payment"]}
    # What the rest of the shop did meanwhile is declared just as well.
    assert collector.edges(list(collector.spans.values())) <= DECLARED | ENTRANCE
    return collector.edges(spans)


def _complete(collector: Collector):
    async def look() -> bool:
        return all(
            not span.parent_id or span.parent_id in collector.spans
            for span in collector.spans.values()
        )

    return look
