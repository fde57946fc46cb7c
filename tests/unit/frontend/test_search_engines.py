"""What the shop tells search engines and those who show a preview of a link."""

from __future__ import annotations

from collections.abc import Callable
from xml.etree import ElementTree

import pytest

from services.common.errors import ConfigurationError
from services.common.settings import read_settings
from services.frontend.settings import FrontendSettings
from tests.testkit.visitor import Visitor
from tests.unit.frontend.conftest import StartFrontend
from tests.unit.frontend.fakes import SECRET, Backends, product

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_link_to_the_shop_comes_with_a_picture(visitor: Visitor, base_url: str) -> None:
    page = await visitor.get("/")
    [picture] = page.elements("meta", property="og:image")
    assert (picture["content"] or "").startswith(f"{base_url}/static/")
    answer = await visitor.get((picture["content"] or "").removeprefix(base_url))
    assert answer.headers["content-type"] == "image/jpeg"
    assert int(answer.headers["content-length"]) > 10_000


class TestTheShopsUrl:
    async def test_is_that_of_the_setting_whoever_asks(
        self, start_frontend: StartFrontend, new_visitor: Callable[[str], Visitor]
    ) -> None:
        shop = new_visitor(await start_frontend(shop_url="https://shop.example/"))
        page = await shop.get("/products/oak-board", host="evil.example")
        [link] = page.elements("link", rel="canonical")
        assert link["href"] == "https://shop.example/products/oak-board"
        assert '"url": "https://shop.example/products/oak-board"' in page.html
        assert "evil.example" not in page.html
        robots = await shop.get("/robots.txt", host="evil.example")
        assert "Sitemap: https://shop.example/sitemap.xml" in robots.html

    async def test_is_https_where_the_shop_is(
        self, start_frontend: StartFrontend, new_visitor: Callable[[str], Visitor]
    ) -> None:
        shop = new_visitor(await start_frontend(secure=True))
        page = await shop.get("/", host="shop.example:8443")
        [link] = page.elements("link", rel="canonical")
        assert link["href"] == "https://shop.example:8443/"

    @pytest.mark.parametrize(
        "host", ["shop.example", "SHOP.example", "127.0.0.1:8080", "[::1]:8080", "localhost"]
    )
    async def test_is_where_the_visitor_came_in_otherwise(
        self, visitor: Visitor, host: str
    ) -> None:
        [link] = (await visitor.get("/", host=host)).elements("link", rel="canonical")
        assert link["href"] == f"http://{host.lower()}/"

    @pytest.mark.parametrize(
        "host",
        ["-", "x" * 300],  # any that is less of a host is refused
    )
    async def test_is_nowhere_where_the_host_is_none(self, visitor: Visitor, host: str) -> None:
        page = await visitor.get("/", host=host)
        [link] = page.elements("link", rel="canonical")
        assert link["href"] == "/"
        assert not page.elements("meta", property="og:url")
        assert not page.elements("meta", property="og:image")
        assert "Sitemap" not in (await visitor.get("/robots.txt", host=host)).html
        assert (await visitor.get("/sitemap.xml", host=host)).status == 404

    @pytest.mark.parametrize(
        "url",
        [
            "shop.example",
            "ftp://shop.example",
            "https://",
            "https://shop.example/meshmart",
            "https://shop.example?x",
            "https://ada@shop.example",
        ],
    )
    async def test_is_refused_where_it_is_no_origin(
        self, monkeypatch: pytest.MonkeyPatch, url: str
    ) -> None:
        monkeypatch.setenv("FRONTEND_SECRET", SECRET)
        monkeypatch.setenv("SHOP_URL", url)
        with pytest.raises(ConfigurationError, match=r"^The setting SHOP_URL is wrong: "):
            read_settings(FrontendSettings)


async def test_the_sitemap_lists_what_everybody_may_see(
    visitor: Visitor, backends: Backends, base_url: str
) -> None:
    backends.products = {f"thing-{n}": product(f"thing-{n}") for n in range(150)}
    answer = await visitor.get("/sitemap.xml")
    assert answer.headers["content-type"] == "application/xml"
    assert "set-cookie" not in answer.headers
    root = ElementTree.fromstring(answer.html)  # noqa: S314  our own
    assert root.tag == "{http://www.sitemaps.org/schemas/sitemap/0.9}urlset"
    listed = [(found.text or "").removeprefix(base_url) for found in root.iter() if found.text]
    paths = [path for path in listed if path.strip()]
    assert {"/", "/products", "/products?category=kitchen", "/about", "/mesh"} < set(paths)
    assert [path for path in paths if path.startswith("/products/")] == [
        f"/products/thing-{n}" for n in range(150)
    ]
    for path in paths[:5]:
        page = await visitor.get(path)
        assert (page.status, page.path) == (200, path)
        assert not page.elements("meta", name="robots"), path
    backends.down = {"product"}
    assert (await visitor.get("/sitemap.xml")).status == 503
