"""The mesh page's figures out of Prometheus."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.common.observing.recent_traffic import TREND_POINTS, RecentTraffic
from services.common.serving.host import Host
from services.common.topology import load_topology
from services.frontend.mesh_page.figures import VISITORS, Figures, figures_of
from services.frontend.mesh_page.prometheus import PrometheusSource, queries
from services.frontend.mesh_page.sources import SeenHere
from tests.testkit.ports import free_port
from tests.unit.common.kit import process_settings

Labels = Mapping[str, str]
Told = Mapping[str, Sequence[tuple[Labels, float]]]
SELECTOR = 'namespace="ecommerce"'


def labels(**found: str) -> Labels:
    return found


def histogram(counts: Mapping[str, float], **found: str) -> list[tuple[Labels, float]]:
    return [({**found, "le": bound}, count) for bound, count in counts.items()]


FRONTEND_TO_V1 = {"shop_service": "frontend", "callee": "product", "callee_version": "v1"}
FRONTEND_TO_V2 = {**FRONTEND_TO_V1, "callee_version": "v2"}
ORDER_TO_PAYMENT = {"shop_service": "order", "callee": "payment", "callee_version": ""}
# As the HTTP API answers: https://prometheus.io/docs/prometheus/latest/querying/api/
TOLD: Told = {
    "calls": [
        ({**FRONTEND_TO_V1, "status": "200"}, 88.0),
        ({**FRONTEND_TO_V1, "status": "denied"}, 2.0),
        ({**FRONTEND_TO_V2, "status": "200"}, 8.2),
        ({**FRONTEND_TO_V2, "status": "internal"}, 1.8),
        ({**ORDER_TO_PAYMENT, "status": "denied"}, 4.0),
        ({**ORDER_TO_PAYMENT, "status": "refused"}, 7.0),
        ({**ORDER_TO_PAYMENT, "status": "timeout"}, float("nan")),
    ],
    "call_times": [
        *histogram({"0.005": 45, "0.01": 90, "+Inf": 90}, **FRONTEND_TO_V1),
        *histogram({"0.005": 0, "0.01": 0, "+Inf": 10}, **FRONTEND_TO_V2),
    ],
    "served": [
        (labels(shop_service="product", shop_version="v1", status="200"), 180.0),
        (labels(shop_service="product", shop_version="v2", status="200"), 10.0),
        (labels(shop_service="frontend", shop_version="v1", status="200"), 40.0),
        (labels(shop_service="frontend", shop_version="v1", status="500"), 10.0),
    ],
    "served_times": [],
    "retries": [(labels(shop_service="order", callee="payment"), 3.0)],
    "circuits": [(labels(shop_service="order", callee="payment"), 1.0)],
    "up": [
        (labels(shop_service="product", shop_version="v1", shop_instance="product-a"), 1.0),
        (labels(shop_service="product", shop_version="v2", shop_instance="product-b"), 0.0),
    ],
}
TRENDS: Mapping[str, Sequence[tuple[Labels, float]]] = {
    "call_trends": [(labels(shop_service="frontend", callee="product"), 5.0)],
    "served_trends": [
        (labels(shop_service="product"), 9.0),
        (labels(shop_service="frontend"), 2.5),
    ],
}


@asynccontextmanager
async def prometheus(
    failure: tuple[int, str] | None = None,
) -> AsyncGenerator[PrometheusSource]:
    """One that answers each query with what stands above, or all of them with a status and a body.
    This frontend itself has seen nothing.
    """
    instant, ranges = queries(60, SELECTOR)
    names = {query: name for name, query in (*instant.items(), *ranges.items())}

    async def asked(request: web.Request) -> web.Response:
        form = await request.post()
        name = names[str(form["query"])]
        if failure is not None:
            return web.Response(status=failure[0], text=failure[1])
        result: list[dict[str, Any]] = []
        if request.path.endswith("/query_range"):
            times = [float(str(form["start"])) + 3 * n for n in range(TREND_POINTS)]
            assert times[-1] == pytest.approx(float(str(form["end"])))
            result = [
                {"metric": dict(found), "values": [[time, str(value)] for time in times[5:]]}
                for found, value in TRENDS[name]
            ]
        else:
            result = [
                {"metric": dict(found), "value": [1.5, str(value)]} for found, value in TOLD[name]
            ]
        answer = web.json_response({"status": "success", "data": {"result": result}})
        answer.enable_compression()  # as Prometheus does, where it is accepted
        return answer

    app = web.Application()
    app.router.add_post("/prometheus/api/v1/{what}", asked)
    async with TestServer(app, host="127.0.0.1") as server, AsyncExitStack() as resources:
        host = Host("frontend", load_topology(), process_settings(), resources)
        url = str(server.make_url("/prometheus/"))
        yield PrometheusSource(url, SELECTOR, host.http_session(), SeenHere(RecentTraffic(), list))


async def told() -> Figures:
    async with prometheus() as source:
        return figures_of(await source.traffic(60))


async def test_calls_have_versions_errors_and_who_denied_them() -> None:
    found = await told()
    edge = found.edges["frontend", "product"]
    assert (edge.numbers.calls, edge.numbers.errors) == (100, 2)
    assert (edge.denied, edge.denied_before) == (2, 0)
    shares = [(one.version, round(one.percent), one.numbers.errors) for one in edge.versions]
    assert shares == [("v1", 90, 0), ("v2", 10, 2)]
    payment = found.edges["order", "payment"]
    assert (payment.denied, payment.denied_before) == (0, 4)
    assert (payment.refused, payment.retries, payment.is_circuit_open) == (7, 3, True)


async def test_percentiles_are_those_of_the_buckets() -> None:
    v1, v2 = (await told()).edges["frontend", "product"].versions
    assert v1.numbers.p50_ms == pytest.approx(5, rel=0.1)
    assert v1.numbers.p99_ms == pytest.approx(9.9, rel=0.1)
    # Beyond the last bound that is known: that bound.
    assert v2.numbers.p50_ms == pytest.approx(10, rel=0.1)


async def test_what_nobody_in_the_shop_has_called_came_from_outside() -> None:
    found = await told()
    gateway = found.edges[VISITORS, "product"]
    assert gateway.numbers.calls == 90
    assert [one.version for one in gateway.versions] == ["v1"]
    assert gateway.trend == [0.0] * 5 + [4.0] * 15
    pages = found.edges[VISITORS, "frontend"]
    assert (pages.numbers.calls, pages.numbers.errors) == (50, 10)
    assert pages.trend[-1] == 2.5


async def test_a_service_is_what_its_processes_have_answered() -> None:
    product = (await told()).services["product"]
    shares = [(one.version, round(one.percent)) for one in product.versions]
    assert shares == [("v1", 95), ("v2", 5)]
    assert [process.instance for process in product.down] == ["product-b"]


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (503, "", "it answered 503"),
        (200, "<html>", "its answer cannot be read"),
        (200, '{"status": "success"}', "its answer cannot be read"),
    ],
)
async def test_without_it_what_was_seen_here_is_shown_and_said_so(
    status: int, body: str, reason: str
) -> None:
    async with prometheus((status, body)) as source:
        traffic = await source.traffic(60)
    assert traffic.notes[0] == f"Prometheus cannot be asked now: {reason}."
    assert "seen by this frontend" in traffic.notes[1]


async def test_one_that_is_not_there_is_said_so() -> None:
    async with aiohttp.ClientSession() as session:
        source = PrometheusSource(
            f"http://127.0.0.1:{free_port()}", "", session, SeenHere(RecentTraffic(), list)
        )
        notes = (await source.traffic(60)).notes
    assert notes[0] == "Prometheus cannot be asked now: it cannot be reached."


@pytest.mark.needs_programs("promtool")
def test_prometheus_understands_the_queries(tmp_path: Path) -> None:
    """Two shops behind one Prometheus, whose target labels are named as the shop's could be, and a
    pod that had our address before.
    """
    instant, ranges = queries(60, SELECTOR)
    target = 'job="shop",instance="a:3000",service="x",version="y"'
    other = 'job="shop",instance="b:3000",namespace="other"'
    ours = f'{target},namespace="ecommerce",pod="new"'
    before = f'{target},namespace="ecommerce",pod="old"'
    call = 'callee="product",callee_version="v2",operation="GET /x",status="200"'
    info = 'shop_service="frontend",shop_version="v1",shop_instance="frontend-1"'
    formerly = 'shop_service="user",shop_version="v1",shop_instance="user-1"'
    series = {
        f"meshmart_process_info{{{ours},{info}}}": "1x20",
        f"meshmart_process_info{{{other},{info}}}": "1x20",
        f"meshmart_process_info{{{before},{formerly}}}": "1x5 stale",
        f"meshmart_call_seconds_count{{{ours},{call}}}": "0+15x20",
        f"meshmart_call_seconds_count{{{other},{call}}}": "0+99x20",
        f'meshmart_call_seconds_bucket{{{ours},{call},le="0.1"}}': "0+15x20",
        f'meshmart_circuit_open{{{ours},callee="product"}}': "1x20",
        f'meshmart_request_seconds_count{{{ours},operation="GET /",status="200"}}': "0+15x20",
        f'meshmart_request_seconds_count{{{ours},operation="GET /mesh",status="200"}}': "0+99x20",
        f"up{{{ours}}}": "0x20",
    }
    whose = 'shop_service="frontend"'
    expected = {
        instant["calls"]: (f'{{{whose},callee="product",callee_version="v2",status="200"}}', 60),
        instant["call_times"]: (f'{{{whose},callee="product",callee_version="v2",le="0.1"}}', 60),
        instant["served"]: (f'{{{whose},shop_version="v1",status="200"}}', 60),
        instant["circuits"]: (f'{{{whose},callee="product"}}', 1),
        instant["up"]: (f"{{{info}}}", 0),
        ranges["call_trends"]: (f'{{{whose},callee="product"}}', 3),
        ranges["served_trends"]: (f"{{{whose}}}", 3),
    }
    test: dict[str, Any] = {
        "rule_files": [],
        "fuzzy_compare": True,
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": [
                    {"series": name, "values": values} for name, values in series.items()
                ],
                "promql_expr_test": [
                    *(
                        {
                            "expr": query,
                            "eval_time": "4m",
                            "exp_samples": [{"labels": found, "value": value}],
                        }
                        for query, (found, value) in expected.items()
                    ),
                    *(
                        {"expr": query, "eval_time": "4m", "exp_samples": []}
                        for query in (*instant.values(), *ranges.values())
                        if query not in expected
                    ),
                ],
            }
        ],
    }
    file = tmp_path / "test.json"
    file.write_text(json.dumps(test), encoding="utf-8")
    run = subprocess.run(
        ["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
