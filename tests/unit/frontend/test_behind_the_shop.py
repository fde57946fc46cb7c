"""How pages were made, and the mesh page."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from services.common.record import Call
from services.common.topology import Topology
from services.frontend.figures import MAX_SAMPLES, WINDOW_SECONDS, Figures, percentile
from services.frontend.graph import NODE_WIDTH, draw
from services.frontend.meshmap import MeshMap
from tests.unit.frontend.conftest import StartFrontend
from tests.unit.frontend.fakes import Backends, product
from tests.unit.frontend.kit import Browser

pytestmark = pytest.mark.asyncio(loop_scope="session")


def call(callee: str, milliseconds: float = 1.0, status: str = "200", *calls: Call) -> Call:
    return Call(callee, "GET /x", "v1", f"{callee}-1", milliseconds, status, calls)


class Clock:
    """Seconds that the test lets pass."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_every_page_says_how_it_was_made(browser: Browser) -> None:
    await browser.add_to_cart("oak-board")
    page = await browser.get("/cart")
    assert "How this page was made" in page.text
    assert "ProductService/GetProducts" in page.text
    assert "InventoryService/GetStock" in page.text
    assert "inventory-1" in page.text
    assert len([given for _, given in page.tags if "data-trace-id" in given]) == 1


async def test_a_failed_call_is_in_the_panel(browser: Browser, backends: Backends) -> None:
    await browser.add_to_cart("oak-board")
    backends.down = {"inventory"}
    page = await browser.get("/cart")
    assert ("tr", {"class": "failed"}) in page.tags


async def test_the_mesh_page_shows_what_happened(browser: Browser, topology: Topology) -> None:
    await browser.add_to_cart("oak-board")
    page = await browser.get("/mesh")
    rows = {
        given["id"]: given["class"] for tag, given in page.tags if tag == "tr" and "id" in given
    }
    assert rows["frontend-to-product"] == ""
    assert rows["shipping-to-notification"] == "quiet-row"
    declared = {f"{caller}-to-{callee}" for caller, callee in topology.edges}
    assert declared <= set(rows)


async def test_figures_count_calls_at_every_depth() -> None:
    figures = Figures()
    figures.observe(
        "frontend", [call("order", 9.0, "503", call("product", 2.0), call("product", 4.0))]
    )
    figures.observe("frontend", [call("order", 1.0)])
    order, product_ = sorted(figures.edges(), key=lambda edge: edge.callee)
    assert (order.caller, order.calls, order.errors) == ("frontend", 2, 1)
    assert (order.p50_ms, order.p95_ms) == (1.0, 9.0)
    assert (product_.caller, product_.calls, product_.errors) == ("order", 2, 0)
    assert product_.versions == ("v1",)
    assert product_.instances == ("product-1",)


async def test_figures_forget() -> None:
    clock = Clock()
    figures = Figures(clock)
    figures.observe("frontend", [call("order")])
    clock.now += WINDOW_SECONDS - 1
    figures.observe("frontend", [call("order")])
    assert figures.edges()[0].calls == 2
    clock.now += 2
    assert figures.edges()[0].calls == 1
    clock.now += WINDOW_SECONDS
    assert figures.edges() == []


async def test_figures_are_bounded() -> None:
    figures = Figures()
    figures.observe("frontend", [call("order")] * (MAX_SAMPLES + 5))
    assert figures.edges()[0].calls == MAX_SAMPLES


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([], 50, 0.0), ([3.0], 95, 3.0), ([1.0, 2.0], 50, 1.0), ([4.0, 1.0, 3.0, 2.0], 75, 3.0)],
)
async def test_percentiles(values: list[float], percent: int, expected: float) -> None:
    assert percentile(values, percent) == expected


async def test_the_drawing_holds_every_service_and_call_once(topology: Topology) -> None:
    view = MeshMap(topology).view([])
    names = [node.placed.name for node in view.nodes]
    assert sorted(names) == sorted([*topology.services, "stripe", "visitors"])
    drawn = [(edge.caller, edge.callee) for edge in view.drawn_edges]
    assert sorted(drawn) == sorted(
        [*topology.edges, ("visitors", "frontend"), ("payment", "stripe")]
    )


async def test_no_two_boxes_overlap_and_calls_point_right(topology: Topology) -> None:
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


async def test_a_cycle_is_drawn() -> None:
    drawing = draw(["a", "b", "c"], [("a", "b"), ("b", "c"), ("c", "a")])
    assert len({node.x for node in drawing.nodes}) == 3
    assert len(drawing.edges) == 3


async def test_a_call_that_nobody_declared_stands_out(topology: Topology) -> None:
    figures = Figures()
    figures.observe("inventory", [call("payment")])
    edge = MeshMap(topology).view(figures.edges()).edges[0]
    assert (edge.caller, edge.callee, edge.is_declared) == ("inventory", "payment", False)


async def test_the_preview_asks_for_the_canary(browser: Browser, backends: Backends) -> None:
    page = await browser.get("/products")
    page = await browser.send(page.form("/preview", preview="on"))
    assert "preview of our new catalogue" in page.text
    assert browser.cookie("canary") == "true"
    assert backends.calls_of("GET /api/products")[-1].headers["canary"] == "true"
    page = await browser.send(page.form("/preview", preview="off"))
    assert "back in the usual catalogue" in page.text
    assert "canary" not in backends.calls_of("GET /api/products")[-1].headers


async def test_the_preview_is_said_as_what_it_is(browser: Browser) -> None:
    page = await browser.get("/")
    page = await browser.send(page.form("/preview", preview="on"))
    assert "Your requests now ask for the preview of our new catalogue." in page.text
    # The catalogue of these tests is v1, canary or not.
    assert "You asked for the preview; this page shows the usual catalogue." in page.text
    asked = "You asked for the preview of our new catalogue."
    assert asked in (await browser.get("/mesh")).text
    assert "You see the preview" not in page.text


async def test_the_second_edition_looks_different(browser: Browser, backends: Backends) -> None:
    backends.products["oak-board"] = product(
        "oak-board", version="v2", badges=["Bestseller"], sustainability="A"
    )
    page = await browser.get("/products")
    assert "Bestseller" in page.text
    assert any("card-new" in (given.get("class") or "") for _, given in page.tags)


async def test_the_mobile_variant_is_smaller(
    start_frontend: StartFrontend,
    browser: Browser,
    new_browser: Callable[[str], Browser],
    backends: Backends,
) -> None:
    backends.products = {f"thing-{n}": product(f"thing-{n}") for n in range(60)}
    mobile = new_browser(await start_frontend(variant="mobile-optimized"))
    small, usual = await mobile.get("/products"), await browser.get("/products")
    assert len(small.html) < 0.75 * len(usual.html)
    assert ("nav", {"class": "thumb-bar", "aria-label": "Main"}) in small.tags


async def test_the_beta_variant_adds_from_the_shelf_and_remembers(
    start_frontend: StartFrontend, new_browser: Callable[[str], Browser]
) -> None:
    beta = new_browser(await start_frontend(variant="beta-features"))
    page = await beta.get("/products")
    page = await beta.send(page.form("/cart", product_id="tin-kettle"))
    assert page.path == "/products"
    await beta.get("/products/tin-kettle")
    page = await beta.get("/products/oak-board")
    assert "Recently viewed" in page.text
    beta.set_cookie("meshmart-seen", "nonsense")
    assert "Recently viewed" not in (await beta.get("/")).text


async def test_pictures_are_kept_by_browsers(browser: Browser) -> None:
    page = await browser.get("/pictures/oak-board.svg?v=v1")
    assert page.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert "sandbox" in page.headers["content-security-policy"]
    again = await browser.get("/pictures/oak-board.svg?v=v1", if_none_match=page.headers["etag"])
    assert again.status == 304
    assert again.html == ""


async def test_files_for_browsers_and_crawlers(browser: Browser) -> None:
    assert "Disallow: /checkout" in (await browser.get("/robots.txt")).html
    assert (await browser.get("/favicon.ico")).headers["content-type"] == "image/svg+xml"
    page = await browser.get("/about")
    assert "The catalogue, with search" in page.text
    assert "No account is needed" in page.text
