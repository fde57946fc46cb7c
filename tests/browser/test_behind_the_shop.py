"""The mesh page shows the calls of what was just done."""

from __future__ import annotations

import base64
import re
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import Locator, expect

from tests.browser.conftest import NewShopper
from tests.testkit.chance import is_chance
from tests.testkit.customer import Customer
from tests.testkit.shop import Shop
from tests.testkit.shopper import Shopper
from tests.testkit.usability import problems_of
from tests.testkit.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

Edge = tuple[str, str]

LIVE = "Live: every 2 seconds"

CHECKOUT: Iterable[Edge] = (
    ("frontend", "order"),
    ("order", "product"),
    ("order", "inventory"),
    ("order", "payment"),
    ("order", "shipping"),
)


@pytest.fixture(scope="module")
def canary_shop(tmp_path_factory: pytest.TempPathFactory) -> Generator[Shop]:
    """A few services, and one request of ten for product v2."""
    arguments = ("--only", "frontend,auth,product,inventory", "--versions", "product=v1:9,v2:1")
    with Shop(tmp_path_factory.mktemp("canary"), *arguments) as shop:
        yield shop


async def test_a_purchase_is_in_the_figures(shopper: Shopper, customer: Customer) -> None:
    await shopper.open("/mesh?minutes=15")
    before = await _calls(shopper)
    await shopper.log_in(customer.email)
    await shopper.bought("camp-lantern")

    await shopper.page.get_by_role("link", name="Behind the shop").click()
    await shopper.page.get_by_role("link", name="15 minutes").click()

    await expect(shopper.page.locator("[aria-current=true]")).to_have_text("15 minutes")
    after = await _calls(shopper)
    quiet = [edge for edge in CHECKOUT if after[edge] <= before[edge]]
    assert not quiet, f"no call more of {quiet} after a purchase"
    graph = shopper.page.get_by_role("group", name="Services and their calls")
    await expect(graph.get_by_role("link", name="order to payment")).to_be_attached()


async def test_it_is_live_until_somebody_stops_it(shopper: Shopper, customer: Customer) -> None:
    await shopper.page.clock.install()
    await shopper.open("/mesh?minutes=15")
    before = await _calls(shopper)
    await customer.bought({"camp-lantern": 1})

    async def shows_the_purchase() -> bool:
        await shopper.page.clock.run_for(2_000)
        return (await _calls(shopper))["order", "payment"] > before["order", "payment"]

    await eventually(shows_the_purchase, "the page shows the purchase")

    await shopper.page.get_by_label(LIVE).uncheck()
    asked: list[str] = []
    shopper.page.on("request", lambda request: asked.append(request.url))
    await shopper.page.clock.run_for(10_000)
    assert asked == []


async def test_who_works_in_it_is_not_disturbed(shopper: Shopper, customer: Customer) -> None:
    await customer.bought({"camp-lantern": 1})
    await shopper.page.clock.install()
    await shopper.open("/mesh?minutes=15")
    edge = shopper.page.get_by_role("link", name="order to payment")
    await edge.focus()
    async with shopper.page.expect_response("**/mesh?minutes=15"):
        await shopper.page.clock.run_for(2_000)
    await expect(edge).to_be_focused()

    await edge.press("Enter")

    opened = shopper.page.get_by_role("region", name="order → payment")
    await expect(opened).to_be_in_viewport()
    await expect(opened).to_contain_text("PaymentService/Authorize")
    await expect(opened.get_by_role("region", name="Latest traces")).to_be_visible()
    await opened.get_by_role("link", name="Close").click()
    await expect(opened).to_have_count(0)


async def test_a_canary_is_seen_as_what_it_is_within_a_minute(
    new_shopper: NewShopper, canary_shop: Shop
) -> None:
    shopper = await new_shopper(shop=canary_shop)
    async with aiohttp.ClientSession() as session:
        for _ in range(200):
            async with session.get(f"{canary_shop.url}/api/products/camp-lantern") as answer:
                assert answer.status == 200
    await shopper.open("/mesh?edge=visitors-to-product")
    await shopper.page.get_by_label(LIVE).uncheck()
    box = shopper.page.get_by_role("region", name="product", exact=True)
    rows = await _cells(box)
    counts = {row[0]: int(row[2]) for row in rows}
    assert counts.keys() == {"v1", "v2"}
    total = sum(counts.values())
    assert total >= 200
    assert is_chance(counts["v2"], total, 0.1)
    for row in rows:
        assert float(row[1].removesuffix(" %")) == pytest.approx(
            100 * counts[row[0]] / total, abs=0.6
        )
    facts = " · ".join(f"{row[0]} {row[1]}" for row in rows)
    assert await shopper.page.locator(".node").filter(has_text=facts).count() == 1
    opened = await _cells(shopper.page.get_by_role("region", name="Versions that answered"))
    in_table = await shopper.page.locator("#visitors-to-product .version").all_inner_texts()
    assert in_table == [f"{row[0]} {row[1]}" for row in opened]


async def test_a_service_that_has_stopped_is_seen(
    new_shopper: NewShopper, canary_shop: Shop
) -> None:
    shopper = await new_shopper(shop=canary_shop)
    canary_shop.pause("product-v2")
    try:
        await shopper.open("/mesh")
        await expect(shopper.main).to_contain_text("product-v2 does not answer.")
    finally:
        canary_shop.resume("product-v2")

    async def is_back() -> bool:
        await shopper.open("/mesh")
        return "does not answer" not in await shopper.main.inner_text()

    await eventually(is_back, "it answers again")


@pytest.mark.parametrize("width", [768, 1280])
async def test_everybody_can_use_a_canarys_page(
    new_shopper: NewShopper, canary_shop: Shop, width: int, tmp_path: Path
) -> None:
    """The picture in pytest's folder is for people."""
    shopper = await new_shopper(width=width, shop=canary_shop)
    for number in range(20):
        await shopper.context.request.get(f"/api/products/camp-lantern?{number}=")
    await shopper.open("/products/camp-lantern")
    await shopper.open("/mesh?edge=frontend-to-product")
    await shopper.page.get_by_label(LIVE).uncheck()  # what is measured must stay in the page
    await expect(shopper.page.get_by_role("region", name="product", exact=True)).to_be_visible()
    page_width: int = await shopper.page.evaluate("document.scrollingElement.scrollWidth")
    assert page_width <= width
    hidden = "frame => frame.scrollWidth - frame.clientWidth"
    assert await shopper.page.locator(".graph-frame").evaluate(hidden) <= 0
    assert await shopper.page.locator(".box-large .scroll").evaluate(hidden) <= 0
    assert await _smallest_text(shopper) >= 9.0
    await shopper.page.screenshot(path=tmp_path / "mesh.png", full_page=True)
    problems = await problems_of(shopper.page)
    assert not problems, "\n".join(problems)


async def test_what_scrolls_sideways_shows_it(new_shopper: NewShopper, canary_shop: Shop) -> None:
    shopper = await new_shopper(width=600, shop=canary_shop)
    await shopper.page.clock.install()
    await shopper.open("/products/camp-lantern")
    await shopper.open(
        "/mesh?minutes=15"
    )  # its figures, which make the table wide, outlive this test
    live = shopper.page.get_by_label(LIVE)
    await live.uncheck()
    region = shopper.page.get_by_role("region", name="Calls between services")
    assert await region.evaluate("one => one.scrollWidth - one.clientWidth") > 20
    left, right = await _darkness_of_edges(region)
    assert right > left + 0.1

    async def is_at_its_end() -> bool:
        await region.press("ArrowRight")
        at_end = "one => one.scrollLeft + one.clientWidth >= one.scrollWidth - 1"
        return bool(await region.evaluate(at_end))

    await eventually(is_at_its_end, "the keyboard has scrolled the table to its end")
    left, right = await _darkness_of_edges(region)
    assert left > right + 0.1

    await region.evaluate("one => one.dataset.isOld = 'yes'")
    before: float = await region.evaluate("one => one.scrollLeft")
    await live.check()
    await shopper.page.clock.run_for(2_000)
    await expect(region).not_to_have_attribute("data-is-old", "yes")
    assert await region.evaluate("one => one.scrollLeft") == before


async def test_a_purchase_is_a_waterfall_that_fits(new_shopper: NewShopper, tmp_path: Path) -> None:
    """The picture in pytest's folder is for people."""
    width = 768
    shopper = await new_shopper(width=width)
    await shopper.order_as_guest("oak-serving-board")
    panel = shopper.page.get_by_role("complementary", name="How this page was made")
    await panel.get_by_text("How this page was made").click()
    await panel.get_by_role("link", name=re.compile("^[0-9a-f]{32}$")).last.click()
    await expect(shopper.page.get_by_role("heading", level=1)).to_have_text("POST /checkout")
    await expect(shopper.main).to_contain_text("PaymentService/Capture")
    page_width: int = await shopper.page.evaluate("document.scrollingElement.scrollWidth")
    assert page_width <= width
    hidden = "frame => frame.scrollWidth - frame.clientWidth"
    assert await shopper.main.locator(".scroll").first.evaluate(hidden) <= 0
    await shopper.page.screenshot(path=tmp_path / "trace.png", full_page=True)


async def _smallest_text(shopper: Shopper) -> float:
    """How high the smallest letters of the drawing are on the screen, in CSS pixels."""
    found: float = await shopper.page.locator(".graph").evaluate(
        """graph => Math.min(...[...graph.querySelectorAll("text")].map(
          (text) => parseFloat(getComputedStyle(text).fontSize) * graph.getScreenCTM().a))"""
    )
    return found


async def _darkness_of_edges(region: Locator) -> Sequence[float]:
    """How dark the outermost four pixels of a region are, left and right, from 0 to 1."""
    picture = base64.b64encode(await region.screenshot()).decode()
    reader = await region.page.context.new_page()
    darkness: list[float] = await reader.evaluate(
        """async (picture) => {
          const image = new Image();
          image.src = `data:image/png;base64,${picture}`;
          await image.decode();
          const canvas = document.createElement("canvas");
          canvas.width = image.width;
          canvas.height = image.height;
          const drawing = canvas.getContext("2d");
          drawing.drawImage(image, 0, 0);
          return [0, image.width - 4].map((x) => {
            const { data } = drawing.getImageData(x, 0, 4, image.height);
            return 1 - data.reduce((sum, value) => sum + value, 0) / data.length / 255;
          });
        }""",
        picture,
    )
    await reader.close()
    return darkness


async def _cells(region: Locator) -> list[list[str]]:
    """The texts of a table's cells, row by row, without its head."""
    rows: list[list[str]] = await region.get_by_role("row").evaluate_all(
        "rows => rows.slice(1).map((row) => [...row.cells].map((cell) => cell.textContent.trim()))"
    )
    return rows


async def _calls(shopper: Shopper) -> dict[Edge, int]:
    """How many calls each edge has had, as the table says."""
    rows = await _cells(shopper.page.get_by_role("region", name="Calls between services"))
    return {(row[0], row[1]): int(row[3]) if row[3].isdecimal() else 0 for row in rows}
