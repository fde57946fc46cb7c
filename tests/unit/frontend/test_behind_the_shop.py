"""How pages were made, and which versions of things one sees."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.testkit.visitor import Visitor
from tests.unit.frontend.conftest import StartFrontend
from tests.unit.frontend.fakes import Backends, product

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_every_page_says_how_it_was_made(visitor: Visitor) -> None:
    await visitor.add_to_cart("oak-board")
    page = await visitor.get("/cart")
    assert "How this page was made" in page.text
    assert "ProductService/GetProducts" in page.text
    assert "InventoryService/GetStock" in page.text
    assert "inventory-1" in page.text
    assert len([given for _, given in page.tags if "data-trace-id" in given]) == 1


async def test_a_failed_call_is_in_the_panel(visitor: Visitor, backends: Backends) -> None:
    await visitor.add_to_cart("oak-board")
    backends.down = {"inventory"}
    page = await visitor.get("/cart")
    assert ("tr", {"class": "failed"}) in page.tags


async def test_the_preview_asks_for_the_canary(visitor: Visitor, backends: Backends) -> None:
    page = await visitor.get("/products")
    page = await visitor.send(page.form("/preview", preview="on"))
    assert "preview of our new catalogue" in page.text
    assert visitor.cookie("canary") == "true"
    assert backends.calls_of("GET /api/products")[-1].headers["canary"] == "true"
    page = await visitor.send(page.form("/preview", preview="off"))
    assert "back in the usual catalogue" in page.text
    assert "canary" not in backends.calls_of("GET /api/products")[-1].headers


async def test_the_preview_is_said_as_what_it_is(visitor: Visitor) -> None:
    page = await visitor.get("/")
    page = await visitor.send(page.form("/preview", preview="on"))
    assert "Your requests now ask for the preview of our new catalogue." in page.text
    # The catalogue of these tests is v1, canary or not.
    assert "You asked for the preview; this page shows the usual catalogue." in page.text
    asked = "You asked for the preview of our new catalogue."
    assert asked in (await visitor.get("/mesh")).text
    assert "You see the preview" not in page.text


async def test_the_second_edition_looks_different(visitor: Visitor, backends: Backends) -> None:
    backends.products["oak-board"] = product(
        "oak-board", version="v2", badges=["Bestseller"], sustainability="A"
    )
    page = await visitor.get("/products")
    assert "Bestseller" in page.text
    assert any("card-new" in (given.get("class") or "") for _, given in page.tags)


async def test_the_mobile_variant_is_smaller(
    start_frontend: StartFrontend,
    visitor: Visitor,
    new_visitor: Callable[[str], Visitor],
    backends: Backends,
) -> None:
    backends.products = {f"thing-{n}": product(f"thing-{n}") for n in range(60)}
    mobile = new_visitor(await start_frontend(variant="mobile-optimized"))
    small, usual = await mobile.get("/products"), await visitor.get("/products")
    assert len(small.html) < 0.75 * len(usual.html)
    assert ("nav", {"class": "thumb-bar", "aria-label": "Main"}) in small.tags


async def test_the_beta_variant_adds_from_the_shelf_and_remembers(
    start_frontend: StartFrontend, new_visitor: Callable[[str], Visitor]
) -> None:
    beta = new_visitor(await start_frontend(variant="beta-features"))
    page = await beta.get("/products")
    page = await beta.send(page.form("/cart", product_id="tin-kettle"))
    assert page.path == "/products"
    await beta.get("/products/tin-kettle")
    page = await beta.get("/products/oak-board")
    assert "Recently viewed" in page.text
    beta.set_cookie("meshmart-seen", "nonsense")
    assert "Recently viewed" not in (await beta.get("/")).text


async def test_pictures_are_kept_by_browsers(visitor: Visitor) -> None:
    page = await visitor.get("/pictures/oak-board.svg?v=v1")
    assert page.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert "sandbox" in page.headers["content-security-policy"]
    again = await visitor.get("/pictures/oak-board.svg?v=v1", if_none_match=page.headers["etag"])
    assert again.status == 304
    assert again.html == ""


async def test_files_for_browsers_and_crawlers(visitor: Visitor) -> None:
    assert "Disallow: /checkout" in (await visitor.get("/robots.txt")).html
    assert (await visitor.get("/favicon.ico")).headers["content-type"] == "image/svg+xml"
    page = await visitor.get("/about")
    assert "The catalogue, with search" in page.text
    assert "No account is needed" in page.text
