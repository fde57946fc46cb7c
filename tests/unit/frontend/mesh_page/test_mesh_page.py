"""The mesh page: whose figures it shows, and how."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from services.common.call_record import REFUSED, Call
from services.common.errors import ConfigurationError
from services.common.observing.recent_traffic import (
    TREND_POINTS,
    ProcessReport,
    RecentTraffic,
    Tally,
    WayReport,
)
from services.common.settings import read_settings
from services.common.topology import TOPOLOGY_PATH, Topology
from services.frontend.assets import STATIC
from services.frontend.mesh_page.figures import (
    VISITORS,
    Entrance,
    Figures,
    ProcessStatus,
    Traffic,
    figures_of,
)
from services.frontend.mesh_page.graph_layout import NODE_HEIGHT, NODE_WIDTH, draw
from services.frontend.mesh_page.mesh_map import MeshMap, MeshView, percentage, rate, sparkline
from services.frontend.mesh_page.sources import AllProcesses, SeenHere, TrafficWatch, WatchedProcess
from services.frontend.settings import FrontendSettings
from tests.testkit.ports import free_port
from tests.testkit.visitor import Visitor
from tests.testkit.waiting import eventually
from tests.unit.common.kit import ManualClock
from tests.unit.frontend.conftest import StartFrontend
from tests.unit.frontend.fakes import SECRET, Backends

pytestmark = pytest.mark.asyncio(loop_scope="session")


def call(
    callee: str, *calls: Call, version: str = "v1", status: str = "200", ms: float = 1.0
) -> Call:
    instance = f"{callee}-{version}" if version else ""
    return Call(callee, "GET /x", version, instance, ms, status, calls)


def traffic(recent: RecentTraffic, **changes: object) -> Traffic:
    """What one process has counted, as a source tells it."""
    report = recent.report(60)
    found = Traffic(seconds=report.seconds, ways=report.ways, notes=[])
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def figures(recent: RecentTraffic, **changes: object) -> Figures:
    return figures_of(traffic(recent, **changes))


def view_of(topology: Topology, found: Figures) -> MeshView:
    return MeshMap(topology).view(found)


class TestFigures:
    @pytest.mark.parametrize("v2", [0, 1, 30])
    async def test_shares_rest_on_what_was_answered(self, v2: int) -> None:
        recent = RecentTraffic(ManualClock())
        for version, count in {"v1": 90, "v2": v2, "": 5}.items():
            for _ in range(count):
                recent.called("frontend", call("product", version=version))
        versions = figures(recent).services["product"].versions
        assert {one.version: one.numbers.calls for one in versions} == {
            version: count for version, count in {"v1": 90, "v2": v2}.items() if count
        }
        assert versions[0].percent == pytest.approx(100 * 90 / (90 + v2))
        assert sum(one.percent for one in versions) == pytest.approx(100)

    @given(st.lists(st.tuples(st.sampled_from(["v1", "v2", "v3"]), st.booleans())))
    async def test_versions_add_up_to_their_edge(self, made: list[tuple[str, bool]]) -> None:
        recent = RecentTraffic(ManualClock())
        for version, is_bad in made:
            recent.called(
                "frontend", call("product", version=version, status="503" if is_bad else "200")
            )
        edge = figures(recent).edges.get(("frontend", "product"))
        if not made:
            assert edge is None
            return
        assert edge is not None
        assert edge.numbers.calls == sum(one.numbers.calls for one in edge.versions) == len(made)
        assert edge.numbers.errors == sum(one.numbers.errors for one in edge.versions)
        assert edge.numbers.errors == sum(is_bad for _, is_bad in made)

    async def test_old_errors_fade(self) -> None:
        clock = ManualClock()
        recent = RecentTraffic(clock)
        recent.called("order", call("payment", status="503"))
        clock.advance(70)
        recent.called("order", call("payment"))
        edge = figures(recent).edges["order", "payment"]
        assert (edge.numbers.calls, edge.numbers.errors) == (1, 0)
        longer = figures_of(Traffic(seconds=300, ways=recent.report(300).ways, notes=[])).edges[
            "order", "payment"
        ]
        assert (longer.numbers.calls, longer.numbers.errors) == (2, 1)

    async def test_what_a_service_says_of_itself_comes_first(self) -> None:
        recent = RecentTraffic(ManualClock())
        recent.called("frontend", call("product"))
        found = figures(
            recent, served={("product", "v1"): Tally(calls=7), ("product", "v2"): Tally(calls=3)}
        )
        product = found.services["product"]
        assert [(one.version, one.percent) for one in product.versions] == [("v1", 70), ("v2", 30)]

    async def test_a_service_that_is_down_is_there_with_its_versions(self) -> None:
        processes = [
            ProcessStatus("product", "product-v1", "v1", is_up=True),
            ProcessStatus("product", "product-v2", "v2", is_up=False),
        ]
        product = figures(RecentTraffic(), processes=processes).services["product"]
        assert [one.version for one in product.versions] == ["v1", "v2"]
        assert [process.instance for process in product.down] == ["product-v2"]

    async def test_an_open_circuit_is_an_edge_even_without_a_call(self) -> None:
        edge = figures(
            RecentTraffic(), open_circuits={("order", "payment")}, ways=[_empty_way()]
        ).edges["order", "payment"]
        assert edge.is_circuit_open

    async def test_the_entrance_counts_at_every_depth_where_nobody_else_can(self) -> None:
        for with_calls_below, edges in (
            (True, {(VISITORS, "frontend"), ("frontend", "order"), ("order", "payment")}),
            (False, {(VISITORS, "frontend")}),
        ):
            recent = RecentTraffic(ManualClock())
            entrance = Entrance(recent, with_calls_below=with_calls_below)
            entrance.passed(call("frontend", call("order", call("payment"))))
            assert set(figures(recent).edges) == edges


def _empty_way() -> WayReport:
    return WayReport("order", "payment", "", Tally(), [0.0] * TREND_POINTS)


class TestProcesses:
    @asynccontextmanager
    async def telling(self, told: ProcessReport | bytes) -> AsyncGenerator[str]:
        """The internal side of a process that says this of itself."""

        async def recent(request: web.Request) -> web.Response:
            assert request.query["seconds"] == "60"
            body = told if isinstance(told, bytes) else orjson.dumps(told, option=_INT_KEYS)
            return web.Response(body=body)

        app = web.Application()
        app.router.add_get("/recent", recent)
        async with TestServer(app, host="127.0.0.1") as server:
            yield str(server.make_url("")).rstrip("/")

    async def test_all_are_added_up_and_those_that_are_silent_are_down(
        self, topology: Topology
    ) -> None:
        first, second = RecentTraffic(ManualClock()), RecentTraffic(ManualClock())
        first.served("GET /x", 0.002, is_error=False)
        second.served("GET /x", 0.004, is_error=True)
        first.called("order", call("payment"))
        second.called("order", call("payment", status="503"))
        reports = [
            ProcessReport("order", "v1", "order-1", ["payment"], first.report(60)),
            ProcessReport("order", "v1", "order-2", [], second.report(60)),
            b"nonsense",
        ]
        async with AsyncExitStack() as stack:
            urls = [await stack.enter_async_context(self.telling(told)) for told in reports]
            session = await stack.enter_async_context(aiohttp.ClientSession())
            urls.append(f"http://127.0.0.1:{free_port()}")
            watched = [
                WatchedProcess(service="order", instance=f"order-{n}", version="", url=url)
                for n, url in enumerate(urls, start=1)
            ]
            found = figures_of(await AllProcesses(watched, session).traffic(60))
        edge = found.edges["order", "payment"]
        assert (edge.numbers.calls, edge.numbers.errors, edge.is_circuit_open) == (2, 1, True)
        order = found.services["order"]
        assert (order.numbers.calls, order.numbers.errors) == (2, 1)
        assert [process.instance for process in order.down] == ["order-3", "order-4"]
        node = next(node for node in view_of(topology, found).nodes if node.placed.name == "order")
        assert node.facts == "2 of 4 down"

    async def test_they_are_asked_once_however_many_look(self) -> None:
        clock, asked = ManualClock(), 0

        class QuickSource:
            async def traffic(self, window_seconds: int) -> Traffic:
                nonlocal asked
                asked += 1
                await asyncio.sleep(0)
                return Traffic(seconds=window_seconds, ways=[], notes=[])

        watch = TrafficWatch(QuickSource(), clock)
        await asyncio.gather(*(watch.figures(60) for _ in range(30)))
        assert asked == 1
        await watch.figures(300)
        assert asked == 2
        clock.advance(2)
        await watch.figures(60)
        assert asked == 3

    async def test_one_that_takes_long_is_not_asked_again_meanwhile(self) -> None:
        clock, asked, may_answer = ManualClock(), 0, asyncio.Event()

        class SlowSource:
            async def traffic(self, window_seconds: int) -> Traffic:
                nonlocal asked
                asked += 1
                await may_answer.wait()
                return Traffic(seconds=window_seconds, ways=[], notes=[])

        watch = TrafficWatch(SlowSource(), clock)
        first = asyncio.create_task(watch.figures(60))
        await asyncio.sleep(0)
        clock.advance(2)
        second = asyncio.create_task(watch.figures(60))
        await asyncio.sleep(0)
        may_answer.set()
        assert await first == await second
        assert asked == 1

    async def test_what_a_frontend_has_seen_says_that_it_is_no_more(self) -> None:
        recent = RecentTraffic(ManualClock())
        Entrance(recent, with_calls_below=True).passed(call("frontend", call("order")))
        found = figures_of(await SeenHere(recent, lambda: ["order"]).traffic(60))
        assert found.edges["frontend", "order"].is_circuit_open
        assert "seen by this frontend" in found.notes[0]


_INT_KEYS = orjson.OPT_NON_STR_KEYS


class TestView:
    async def test_the_drawing_holds_every_service_and_call_once(self, topology: Topology) -> None:
        view = view_of(topology, figures(RecentTraffic()))
        names = [node.placed.name for node in view.nodes]
        assert sorted(names) == sorted([*topology.services, "stripe", "visitors"])
        drawn = [(edge.caller, edge.callee) for edge in view.drawn_edges]
        assert sorted(drawn) == sorted(
            [*topology.edges, ("visitors", "frontend"), ("payment", "stripe")]
        )

    async def test_no_two_boxes_overlap_and_calls_point_right(self, topology: Topology) -> None:
        drawing = draw(list(topology.services), topology.edges)
        places = {node.name: (node.x, node.y) for node in drawing.nodes}
        assert len(set(places.values())) == len(places)
        for x, y in places.values():
            assert 0 <= x <= drawing.width - NODE_WIDTH
            assert 0 <= y <= drawing.height
        backward = [
            (caller, callee)
            for caller, callee in topology.edges
            if places[caller][0] >= places[callee][0]
        ]
        # auth calls those who verify its tokens
        assert sorted(backward) == [("notification", "auth"), ("user", "auth")]

    async def test_no_label_is_under_a_box(self, topology: Topology) -> None:
        drawing = draw(list(topology.services), topology.edges)
        for edge in drawing.edges:
            for node in drawing.nodes:
                is_beside = not node.x < edge.label_x < node.x + NODE_WIDTH
                assert is_beside or not node.y < edge.label_y < node.y + NODE_HEIGHT, (edge, node)

    async def test_a_cycle_is_drawn(self) -> None:
        drawing = draw(["a", "b", "c"], [("a", "b"), ("b", "c"), ("c", "a")])
        assert len({node.x for node in drawing.nodes}) == 3
        assert len(drawing.edges) == 3

    async def test_a_call_that_nobody_declared_stands_out(self, topology: Topology) -> None:
        recent = RecentTraffic(ManualClock())
        recent.called("inventory", call("payment"))
        edge = view_of(topology, figures(recent)).edges[0]
        assert (edge.caller, edge.callee, edge.is_declared) == ("inventory", "payment", False)

    async def test_a_canary_has_its_shares_in_its_box(self, topology: Topology) -> None:
        recent = RecentTraffic(ManualClock())
        for version, count in {"v1": 9, "v2": 1}.items():
            for _ in range(count):
                recent.called("frontend", call("product", version=version))
        recent.called("frontend", call("order"))
        view = view_of(topology, figures(recent))
        assert [service.name for service in view.canaries] == ["product"]
        assert [service.name for service in view.others] == ["order"]
        assert _facts(view, "product") == "v1 90 % · v2 10 %"

    async def test_shares_that_do_not_fit_into_a_box_are_left_to_the_tables(
        self, topology: Topology
    ) -> None:
        recent = RecentTraffic(ManualClock())
        for version in ("stable", "beta-features", "mobile-optimized"):
            recent.called(VISITORS, call("frontend", version=version))
        assert _facts(view_of(topology, figures(recent)), "frontend") == "3 versions"

    async def test_boxes_say_who_is_down_and_how_visitors_come(self, topology: Topology) -> None:
        recent = RecentTraffic(ManualClock())
        for callee in ("frontend", "frontend", "product"):
            recent.called(VISITORS, call(callee))
        processes = [
            ProcessStatus("payment", "payment", "v1", is_up=False),
            ProcessStatus("order", "order-1", "v1", is_up=True),
            ProcessStatus("order", "order-2", "v1", is_up=False),
        ]
        view = view_of(topology, figures(recent, processes=processes, seconds=1.0))
        assert _facts(view, "payment") == "does not answer"
        assert _facts(view, "order") == "1 of 2 down"
        assert _facts(view, "visitors") == "2.0/s · API 1.0/s"
        assert set(view.down) == {"payment", "order-2"}

    @pytest.mark.parametrize(
        ("statuses", "label"),
        [
            (["200"] * 60, "1.0/s"),
            (["200"], ""),
            (["200", "200", "503", "503"], "✕ 50 %"),
            (["503", *["200"] * 199], "✕ 0.5 %"),
            (["200", "denied"], "✕ 403"),
            (["200", REFUSED], "✕"),
        ],
    )
    async def test_an_edge_is_labelled_with_what_matters(
        self, topology: Topology, statuses: list[str], label: str
    ) -> None:
        recent = RecentTraffic(ManualClock())
        for status in statuses:
            recent.called("order", call("payment", status=status, version=""))
        view = view_of(topology, figures(recent, seconds=60.0))
        edge = view.edges[0]
        assert edge.label == label
        assert edge.is_bad == label.startswith("✕")
        opened = view_of(
            topology, figures(recent, seconds=60.0, open_circuits={("order", "payment")})
        )
        assert opened.edges[0].label == "✕ open"

    async def test_an_edge_has_its_lines_of_the_topology(self, topology: Topology) -> None:
        written = {line.strip() for line in TOPOLOGY_PATH.read_text(encoding="utf-8").splitlines()}
        view = view_of(topology, figures(RecentTraffic()))
        for edge in view.edges:
            if (edge.caller, edge.callee) in topology.edges:
                assert edge.lines[0] == f"- callee: {edge.callee}"
                assert {line.strip() for line in edge.lines} <= written

    @pytest.mark.parametrize(
        ("per_second", "shown"),
        [(0.0, "0.0/s"), (0.02, "< 0.1/s"), (0.3, "0.3/s"), (9.96, "10/s"), (120.4, "120/s")],
    )
    async def test_rates_are_short(self, per_second: float, shown: str) -> None:
        assert rate(per_second) == shown

    @pytest.mark.parametrize(
        ("percent", "shown"),
        [(0.0, "0 %"), (0.04, "< 0.1 %"), (0.5, "0.5 %"), (9.84, "9.8 %"), (9.96, "10 %")],
    )
    async def test_shares_are_short_and_only_nothing_is_none(
        self, percent: float, shown: str
    ) -> None:
        assert percentage(percent) == shown

    @given(st.lists(st.floats(0, 1e6), min_size=1, max_size=TREND_POINTS))
    async def test_a_trend_stays_in_its_picture(self, trend: Sequence[float]) -> None:
        numbers = [float(found) for found in re.findall(r"[\d.]+", sparkline(trend, 80, 20))]
        assert len(numbers) == 2 * len(trend)
        assert all(0 <= x <= 80.05 for x in numbers[::2])
        assert all(0 <= y <= 20.05 for y in numbers[1::2])


def _facts(view: MeshView, name: str) -> str:
    return next(node.facts for node in view.nodes if node.placed.name == name)


class TestPage:
    async def test_it_shows_what_happened(self, visitor: Visitor, topology: Topology) -> None:
        await visitor.add_to_cart("oak-board")
        page = await visitor.get("/mesh")
        rows = {
            given["id"]: given["class"] for tag, given in page.tags if tag == "tr" and "id" in given
        }
        assert rows["frontend-to-product"] == ""
        assert rows["shipping-to-notification"] == "quiet-row"
        declared = {f"{caller}-to-{callee}" for caller, callee in topology.edges}
        assert declared <= set(rows)

    async def test_looking_at_it_is_no_traffic(self, visitor: Visitor) -> None:
        await visitor.add_to_cart("oak-board")
        before = await visitor.get("/mesh?minutes=15")
        for _ in range(3):
            await visitor.get("/mesh?minutes=15")
        await asyncio.sleep(0)
        assert _row(before.html, VISITORS, "frontend") == _row(
            (await visitor.get("/mesh?minutes=15")).html, VISITORS, "frontend"
        )

    @pytest.mark.parametrize(
        ("query", "chosen"),
        [("", "Last minute"), ("?minutes=5", "5 minutes"), ("?minutes=7", "Last minute")],
    )
    async def test_a_window_is_chosen(self, visitor: Visitor, query: str, chosen: str) -> None:
        page = await visitor.get(f"/mesh{query}")
        assert re.findall(r'aria-current="true">([^<]*)<', page.html) == [chosen]

    async def test_an_edge_opens_its_numbers_its_declaration_and_its_traces(
        self, visitor: Visitor
    ) -> None:
        await visitor.add_to_cart("oak-board")
        page = await visitor.get("/mesh?edge=frontend-to-product&minutes=15")
        assert "frontend → product" in page.text
        assert (
            "- {method: GET, path: /api/products, timeout_ms: 3000, idempotent: true}" in page.text
        )
        assert "Latest traces" in page.text
        quiet = await visitor.get("/mesh?edge=shipping-to-notification")
        assert "No call in this window." in quiet.text
        assert "NotificationService/Notify" in quiet.text
        unknown = await visitor.get("/mesh?edge=%3Cscript%3E")
        assert unknown.status == 200
        assert "<script>" not in unknown.html.partition("<main")[2].partition("</main")[0]

    async def test_what_visitors_ask_for_is_named_by_its_route(
        self, start_frontend: StartFrontend, new_visitor: Callable[[str], Visitor]
    ) -> None:
        internal_port = free_port()
        visitor = new_visitor(await start_frontend(internal_port=internal_port))
        for path in ("/products/oak-board", "/static/base.css", "/nowhere"):
            await visitor.get(path)
        kept = {"GET /products/{product_id}", "GET unmatched"}

        page = await visitor.get("/mesh?edge=visitors-to-frontend")
        assert {*re.findall(r"<td><code>([^<]*)</code></td>", page.html)} == kept
        metrics = await new_visitor(f"http://127.0.0.1:{internal_port}").get("/metrics")
        counted = re.findall(r'request_seconds_count{operation="([^"]*)"', metrics.html)
        assert {*counted} == {*kept, "GET /static/**", "GET /mesh"}

    async def test_an_opened_edge_keeps_the_colour_of_its_errors(
        self, visitor: Visitor, backends: Backends
    ) -> None:
        await visitor.add_to_cart("oak-board")
        backends.down = {"inventory"}
        await visitor.get("/cart")

        async def shows_the_error() -> str | None:
            html = (await visitor.get("/mesh?edge=frontend-to-inventory")).html
            return html if "edge-bad" in _link(html, "frontend to inventory") else None

        html = await eventually(shows_the_error, "the error is in the figures")
        assert _link(html, "frontend to inventory").count("edge-gap") == 1
        assert "edge-gap" not in _link(html, "frontend to product")

    @pytest.mark.parametrize("scheme", [0, 1])
    async def test_its_graphics_stand_out_from_what_they_are_on(self, scheme: int) -> None:
        """WCAG 2.2, 1.4.11; `scheme` is the number of the colours' block, light or dark."""
        tokens = (STATIC / "base.css").read_text("utf-8").split(":root {")[1:][scheme]
        colours = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]+);", tokens))
        drawn = re.findall(r"(?:fill|stroke): var\(--([a-z0-9-]+)\)", _mesh_css())
        grounds = {"surface", "paper", *(name for name in colours if name.endswith("-soft"))}
        faint = [
            name
            for name in {*drawn} - grounds - {"line"}  # the ground line of a trend says nothing
            if _contrast(colours[name], colours["surface"]) < 3
        ]
        assert {"bad", "brand", "plain", "line-strong"} <= {*drawn}
        assert not faint
        assert "opacity" not in _mesh_css().partition(".edge {")[2]


def _link(html: str, start_of_name: str) -> str:
    """An edge of the drawing, as HTML."""
    return html.partition(f'aria-label="{start_of_name}:')[2].partition("</a>")[0]


def _mesh_css() -> str:
    return (STATIC / "mesh.css").read_text("utf-8")


def _contrast(first: str, second: str) -> float:
    """The contrast of two colours, each ``#rgb`` or ``#rrggbb``, from 1 to 21."""

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        shares = (int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4))
        red, green, blue = (
            share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4
            for share in shares
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    lighter, darker = sorted((luminance(first), luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _row(html: str, caller: str, callee: str) -> str:
    return html.partition(f'id="{caller}-to-{callee}"')[2].partition("Trend")[0][:400]


class TestPrometheusSettings:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("PROMETHEUS_URL", "prometheus:9090"),
            ("PROMETHEUS_URL", "ftp://prometheus"),
            ("PROMETHEUS_SELECTOR", "namespace=ecommerce"),
            ("PROMETHEUS_SELECTOR", 'a="b"} or up{c="d"'),
        ],
    )
    async def test_a_wrong_one_is_named(
        self, monkeypatch: pytest.MonkeyPatch, name: str, value: str
    ) -> None:
        monkeypatch.setenv("FRONTEND_SECRET", SECRET)
        monkeypatch.setenv(name, value)
        with pytest.raises(ConfigurationError, match=f"^The setting {name} is wrong: "):
            read_settings(FrontendSettings)

    async def test_a_selector_may_have_several_matchers(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FRONTEND_SECRET", SECRET)
        monkeypatch.setenv("PROMETHEUS_SELECTOR", 'namespace="a",cluster="b"')
        assert read_settings(FrontendSettings).prometheus_selector == 'namespace="a",cluster="b"'
