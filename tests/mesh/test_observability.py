"""observability/ beside the shop: its Prometheus has an answer to what each panel of each dashboard
asks, and its Jaeger has a purchase as one trace.

Grafana and Kiali are applied and not started: what they ask is tried without them.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp

from tests.cluster.crowd import in_turn
from tests.mesh.meshed import Mesh
from tests.mesh.observers import FOLDER, OBSERVABILITY
from tests.mesh.test_tracing import SERVICES, roots
from tests.testkit.customer import Client, Customer, Items, order_body
from tests.testkit.matrix import STRANGER, TOPOLOGY
from tests.testkit.waiting import eventually
from tests.unit.observability.metrics import filled_in

_LOAD_SECONDS = 60.0
_PATIENCE_SECONDS = 120.0
# Counted by Istio's own build of Envoy, which not every cluster's proxies are.
_OF_ISTIOS_BUILD = re.compile(r"\bistio_request")
BOARD = {"oak-serving-board": 1}


async def test_each_panel_has_an_answer(
    observed: Mesh, client: Client, http: aiohttp.ClientSession
) -> None:
    wanted = in_turn()
    async with asyncio.TaskGroup() as crowd:
        for _ in range(3):
            crowd.create_task(buy_and_browse(client, wanted))
        crowd.create_task(try_in_vain(observed))
    asked = panels(observed)
    left_to_samples = {
        panel
        for panel, query in asked.items()
        if _OF_ISTIOS_BUILD.search(query) and not observed.counts_answers()
    }
    silent = asked.keys() - left_to_samples

    with OBSERVABILITY.forwarded("service/prometheus", 9090) as address:

        async def all_answer() -> bool:
            nonlocal silent
            silent = {panel for panel in silent if not await answer(http, address, asked[panel])}
            return not silent

        try:
            await eventually(all_answer, "all panels have an answer", _PATIENCE_SECONDS)
        finally:
            for panel in asked:
                seen = "tried on samples" if panel in left_to_samples else panel not in silent
                print(f"{panel}: {seen}")


async def test_a_purchase_is_one_trace_in_jaeger(
    observed: Mesh, client: Client, http: aiohttp.ClientSession
) -> None:
    trace = secrets.token_hex(16)
    customer = await Customer.register(client)
    headers = {
        "idempotency-key": secrets.token_hex(8),
        "traceparent": f"00-{trace}-{secrets.token_hex(8)}-01",
    }
    placed = await customer.send("POST", "/api/orders", json=order_body(BOARD), headers=headers)
    assert placed.status == 201, placed
    workloads = {TOPOLOGY.services[name].workload for name in SERVICES}

    with OBSERVABILITY.forwarded("service/jaeger", 16686) as address:

        async def is_whole() -> bool:
            spans = await spans_of(http, address, trace)
            begin = [span["service"] for span in roots(spans)]
            missing = workloads - {span["service"] for span in spans}
            print(f"{len(spans)} spans; begins at {begin}; without {missing}")
            return [name.startswith(observed.first_span) for name in begin] == [
                True
            ] and not missing

        await eventually(is_whole, "one trace, in Jaeger", 60)


async def buy_and_browse(client: Client, wanted: Iterator[Items]) -> None:
    """Somebody who buys, with a good card and a bad one, changes their mind and looks around."""
    until = time.monotonic() + _LOAD_SECONDS
    customer = await Customer.register(client)
    while time.monotonic() < until:
        for path in ("/", "/products?q=oak", "/products/oak-serving-board"):
            assert (await client.send("GET", path)).status == 200
        await customer.cancel(await customer.bought(next(wanted)))
        await customer.place(next(wanted), payment_method="pm_card_chargeDeclined")
        await customer.bought(next(wanted))


async def try_in_vain(mesh: Mesh) -> None:
    """Somebody whom the mesh refuses, where the network does not."""
    until = time.monotonic() + _LOAD_SECONDS
    asked = {"method": "GET", "url": "http://order-service.ecommerce:3000/api/orders/x"}
    while time.monotonic() < until:
        await asyncio.to_thread(mesh.probe, STRANGER, [asked])
        await asyncio.sleep(2)  # refusals are to be seen in the figures, not to be most of them


def panels(mesh: Mesh) -> Mapping[str, str]:
    """What each panel asks, of the dashboards for every shop and of those for this mesh."""
    folder = FOLDER / "grafana/dashboards"
    found: dict[str, str] = {}
    for path in (*sorted(folder.glob("*.json")), *sorted((folder / mesh.name).glob("*.json"))):
        for panel, query in _queries(path):
            found[f"{path.stem}: {panel}"] = query
    return found


def _queries(path: Path) -> Generator[tuple[str, str]]:
    service = "product-service" if path.stem.endswith("canary") else ".*"
    for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
        for target in panel.get("targets", ()):
            name = f"{panel['id']}, {panel['title']} ({target['refId']})"
            yield name, filled_in(target["expr"], service=service)


async def answer(http: aiohttp.ClientSession, address: str, query: str) -> list[Any]:
    """The series that Prometheus answers with."""
    async with http.get(f"http://{address}/api/v1/query", params={"query": query}) as response:
        body = await response.json()
    assert body["status"] == "success", (query, body)
    return body["data"]["result"]


async def spans_of(http: aiohttp.ClientSession, address: str, trace: str) -> list[dict[str, str]]:
    """The spans of a trace that Jaeger has so far."""
    async with http.get(f"http://{address}/api/traces/{trace}") as response:
        if response.status == 404:
            return []
        (whole,) = (await response.json())["data"]
    return [
        {
            "span": span["spanID"],
            "parent": next((each["spanID"] for each in span["references"]), ""),
            "service": whole["processes"][span["processID"]]["serviceName"],
        }
        for span in whole["spans"]
    ]
