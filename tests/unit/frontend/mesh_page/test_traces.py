"""The pages of traces: what several processes have kept, as one picture."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.common.errors import ConfigurationError
from services.common.observing.kept_traces import (
    KeptSpan,
    ProcessSpans,
    ProcessTraces,
    TraceSummary,
)
from services.common.settings import read_settings
from services.common.topology import Topology
from services.frontend.mesh_page.sources import WatchedProcess
from services.frontend.mesh_page.traces import TraceLinks, Traces
from services.frontend.settings import FrontendSettings
from tests.testkit.ports import free_port
from tests.testkit.visitor import Visitor
from tests.unit.frontend.conftest import StartFrontend
from tests.unit.frontend.fakes import SECRET

pytestmark = pytest.mark.asyncio(loop_scope="session")

TRACE = "a" * 32
MS = 1_000_000


def span(
    span_id: str,
    parent_id: str,
    service: str,
    name: str,
    start_ms: int,
    end_ms: int,
    *,
    kind: str = "server",
    problem: str = "",
    **attributes: str,
) -> KeptSpan:
    return KeptSpan(
        span_id=span_id,
        parent_id=parent_id,
        service=service,
        name=name,
        kind=kind,
        start_ns=start_ms * MS,
        end_ns=end_ms * MS,
        is_error=bool(problem),
        problem=problem,
        attributes={name.replace("_", ".", 1): value for name, value in attributes.items()},
    )


FRONTEND = [
    span("f2", "f1", "frontend", "order GET /api/orders", 10, 90, kind="client"),
    span(
        "f1",
        "",
        "frontend",
        "GET /orders/{id}",
        0,
        100,
        http_target="/orders/7",
        http_status_code="200",
    ),
]
ORDER = [
    span("o2", "o1", "order-service", "later", 30_000, 30_010),
    span("o1", "f2", "order-service", "GET /api/orders", 20, 80, problem="the disk is full"),
]


def summary(spans: Sequence[KeptSpan], trace_id: str = TRACE) -> TraceSummary:
    return TraceSummary(
        trace_id=trace_id,
        first=min(spans, key=lambda one: one.start_ns),
        spans=len(spans),
        services=sorted({one.service for one in spans}),
        is_error=any(one.is_error for one in spans),
    )


@asynccontextmanager
async def telling(
    kept: Sequence[Sequence[KeptSpan]], *, sent_to: str = "", status: int = 200, first_id: int = 1
) -> AsyncGenerator[str]:
    """A process that has kept these traces: TRACE, and others from `first_id` on."""

    def answer(told: object) -> web.Response:
        return web.Response(body=orjson.dumps(told), status=status, content_type="application/json")

    ids = [TRACE, *(f"{first_id + number:032x}" for number in range(len(kept)))][: len(kept)]

    async def traces(_: web.Request) -> web.Response:
        summaries = [summary(spans, one) for one, spans in zip(ids, kept, strict=True)]
        return answer(ProcessTraces(sent_to, summaries))

    async def spans(request: web.Request) -> web.Response:
        trace_id = request.query["trace_id"]
        found = list(kept[ids.index(trace_id)]) if trace_id in ids else []
        return answer(ProcessSpans("v1", "one", found, 0))

    app = web.Application()
    app.add_routes([web.get("/traces", traces), web.get("/spans", spans)])
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


@asynccontextmanager
async def asking(topology: Topology, **processes: Any) -> AsyncGenerator[Traces]:
    async with AsyncExitStack() as stack, aiohttp.ClientSession() as session:
        watched = [
            WatchedProcess(
                service=name,
                instance=name,
                url=given if isinstance(given, str) else await stack.enter_async_context(given),
            )
            for name, given in processes.items()
        ]
        yield Traces(watched, session, topology)


async def test_what_each_has_seen_of_a_request_is_one_trace(topology: Topology) -> None:
    async with asking(topology, frontend=telling([FRONTEND]), order=telling([ORDER])) as traces:
        (one,) = (await traces.latest()).traces
    assert (one.asked, one.entrance) == ("GET /orders/7", "frontend")
    assert (one.spans, one.services, one.is_error) == (4, ["frontend", "order"], True)
    assert one.milliseconds == 100, "what the visitor waited, not what was done later"


async def test_a_trace_is_a_waterfall_by_parts(topology: Topology) -> None:
    async with asking(topology, frontend=telling([FRONTEND]), order=telling([ORDER])) as traces:
        whole = await traces.one(TRACE)
        assert await traces.one("b" * 32) is None
    assert whole is not None
    at_once, later = whole.parts
    assert [
        (row.call.callee, row.call.operation, row.depth, row.start_percent, row.width_percent)
        for row in at_once.rows
    ] == [
        ("frontend", "GET /orders/{id}", 0, 0, 100),
        ("frontend", "→ order GET /api/orders", 1, 10, 80),
        ("order", "GET /api/orders", 2, 20, 60),
    ]
    assert [row.call.status for row in at_once.rows] == ["200", "ok", "error"]
    assert [list(row.notes) for row in at_once.rows] == [["/orders/7"], [], ["the disk is full"]]
    assert [(row.call.operation, row.depth) for row in later.rows] == [("later", 0)]
    assert later.start_milliseconds == 30_000


async def test_who_does_not_answer_is_named_and_costs_nothing_else(topology: Topology) -> None:
    async with asking(
        topology,
        frontend=telling([FRONTEND]),
        order=telling([ORDER], status=500),
        user=f"http://127.0.0.1:{free_port()}",
    ) as traces:
        listing = await traces.latest()
        whole = await traces.one(TRACE)
    assert listing.silent == ["order", "user"]
    assert [trace.spans for trace in listing.traces] == [2]
    assert whole is not None
    assert whole.silent == ["order", "user"]


async def test_the_newest_200_come_first(topology: Topology) -> None:
    def every_other(first: int) -> list[list[KeptSpan]]:
        return [
            [span("f1", "", "frontend", f"GET /{start}", 1000 * start, 1000 * start + 1)]
            for start in range(first, 300, 2)
        ]

    async with asking(
        topology,
        frontend=telling(every_other(0)),
        order=telling(every_other(1)[1:], first_id=1000),
    ) as traces:
        starts = [trace.start_seconds for trace in (await traces.latest()).traces]
    # TRACE is known to both, and began at 0.
    assert starts == list(range(299, 99, -1))


@pytest.mark.parametrize(
    ("jaeger", "is_kept", "trace", "service"),
    [
        (None, False, "", ""),
        (None, True, f"/mesh/traces/{TRACE}", "/mesh/traces?service=order"),
        (
            "http://j:1",
            True,
            f"http://j:1/trace/{TRACE}",
            "http://j:1/search?service=order-service",
        ),
    ],
)
async def test_links_lead_to_who_has_it(
    jaeger: str | None, is_kept: bool, trace: str, service: str
) -> None:
    links = TraceLinks(jaeger_url=jaeger, is_kept_here=is_kept)
    assert links.trace(TRACE) == trace
    assert links.service("order", "order-service") == service


@pytest.mark.parametrize("value", ["jaeger:16686", "ftp://jaeger", "http://jaeger/?a=b"])
async def test_a_wrong_address_of_jaeger_is_named(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("FRONTEND_SECRET", SECRET)
    monkeypatch.setenv("JAEGER_URL", value)
    with pytest.raises(ConfigurationError, match=r"^The setting JAEGER_URL is wrong: "):
        read_settings(FrontendSettings)


class TestPages:
    async def test_without_traces_there_is_no_page_and_no_link(
        self, start_frontend: StartFrontend
    ) -> None:
        async with Visitor(await start_frontend()) as visitor:
            assert (await visitor.get("/mesh/traces")).status == 404
            assert (await visitor.get(f"/mesh/traces/{TRACE}")).status == 404
            assert "/mesh/traces" not in (await visitor.get("/")).html
            assert "/mesh/traces" not in (await visitor.get("/products/no-such")).html

    async def test_where_there_is_jaeger_everything_leads_there(
        self, start_frontend: StartFrontend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("JAEGER_URL", "http://jaeger.example/")
        async with Visitor(await start_frontend()) as visitor:
            page = await visitor.get(f"/mesh/traces/{TRACE}")
            assert (page.status, links(page.html, "jaeger")) == (
                200,
                [f"http://jaeger.example/trace/{TRACE}"],
            )
            assert len(links((await visitor.get("/")).html, "jaeger")) == 1
            assert len(links((await visitor.get("/products/no-such")).html, "jaeger")) == 2
            # Of a page of the mesh no trace is kept.
            assert links((await visitor.get("/mesh")).html, "jaeger") == ["http://jaeger.example"]

    async def test_the_list_can_be_narrowed(
        self,
        start_frontend: StartFrontend,
        new_visitor: Callable[[str], Visitor],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        fine = [span("x1", "", "frontend", "GET /cart", 0, 5)]
        async with (
            telling([FRONTEND, fine], sent_to="") as frontend,
            telling([ORDER]) as order,
            telling([], sent_to="http://elsewhere:4317") as user,
        ):
            told = {"frontend": frontend, "order": order, "user": user}
            processes = [
                {"service": name, "instance": name, "url": url} for name, url in told.items()
            ]
            monkeypatch.setenv("SHOP_PROCESSES", orjson.dumps(processes).decode())
            visitor = new_visitor(await start_frontend())
            everything = await visitor.get("/mesh/traces")
            assert "The spans of user are sent to http://elsewhere:4317" in everything.text
            for query, shown in {
                "": ["GET /orders/7", "GET /cart"],
                "?service=order": ["GET /orders/7"],
                "?service=payment": [],
                "?errors=only": ["GET /orders/7"],
                "?service=frontend": ["GET /orders/7", "GET /cart"],
            }.items():
                page = await visitor.get(f"/mesh/traces{query}")
                assert page.status == 200
                found = [name for name in ("GET /orders/7", "GET /cart") if name in page.text]
                assert found == shown, query
            trace = await visitor.get(f"/mesh/traces/{TRACE}")
            assert trace.status == 200
            assert "the disk is full" in trace.text
            assert "30.0 s later" in trace.text
            for unknown in ("b" * 32, "no-id"):
                assert (await visitor.get(f"/mesh/traces/{unknown}")).status == 404


def links(html: str, word: str) -> list[str]:
    """Where the links of a page lead that have this word in their address."""
    return [
        part.partition('"')[0]
        for part in html.split('href="')[1:]
        if word in part.partition('"')[0]
    ]
