"""The files that pages name: kept for good, compressed, and told again only when they changed."""

from __future__ import annotations

import gzip

import pytest
from starlette.types import Receive, Scope, Send

from services.common.observing.metrics import Metrics
from services.frontend.assets import STATIC, Assets, AssetsFirst
from services.frontend.mesh_page.figures import VISITORS, Entrance
from services.frontend.security import security_headers
from tests.unit.asgi import AsgiAnswer, ask

PATH = "/static/shop.css"
CONTENT = (STATIC / "shop.css").read_bytes()


async def a_page(scope: Scope, _receive: Receive, send: Send) -> None:
    """Answers whatever is no file."""
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


class Shelf:
    """The files in front of a page, and what was counted."""

    def __init__(self) -> None:
        self.assets = Assets()
        self.metrics = Metrics()
        self.app = AssetsFirst(
            a_page,
            self.assets,
            headers=security_headers(secure=True),
            metrics=self.metrics,
            entrance=Entrance(self.metrics.recent, with_calls_below=False),
            version="v1",
            instance="frontend-1",
        )

    async def ask(self, target: str, method: str = "GET", **headers: str) -> AsgiAnswer:
        """The answer to one request; ``if_none_match`` is the header ``if-none-match``."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return await ask(self.app, method, target, headers=sent)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


async def test_a_file_is_sent_as_it_is(shelf: Shelf) -> None:
    answer = await shelf.ask(PATH)
    assert (answer.status, answer.body) == (200, CONTENT)
    assert answer.headers["content-type"] == "text/css; charset=utf-8"
    assert answer.headers["content-length"] == str(len(CONTENT))
    assert "content-encoding" not in answer.headers


async def test_a_client_that_takes_gzip_gets_it(shelf: Shelf) -> None:
    answer = await shelf.ask(PATH, accept_encoding="gzip, deflate, br")
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["content-length"] == str(len(answer.body))
    assert gzip.decompress(answer.body) == CONTENT
    assert len(answer.body) < len(CONTENT) / 2


async def test_caches_know_both_kinds_of_answer(shelf: Shelf) -> None:
    tags: set[str] = set()
    for accepted in ("identity", "gzip"):
        answer = await shelf.ask(PATH, accept_encoding=accepted)
        assert answer.headers["vary"] == "accept-encoding"
        tags.add(answer.headers["etag"])
    assert len(tags) == 2


@pytest.mark.parametrize("accepted", ["identity", "gzip"])
async def test_a_file_that_the_browser_has_is_not_sent(shelf: Shelf, accepted: str) -> None:
    tag = (await shelf.ask(PATH, accept_encoding=accepted)).headers["etag"]
    for known in (tag, f'"other", {tag}', f"W/{tag}"):
        answer = await shelf.ask(PATH, accept_encoding=accepted, if_none_match=known)
        assert (answer.status, answer.body) == (304, b"")
        assert answer.headers["etag"] == tag
    changed = await shelf.ask(PATH, accept_encoding=accepted, if_none_match='"other"')
    assert changed.status == 200


async def test_only_the_exact_address_is_kept_for_good(shelf: Shelf) -> None:
    exact = await shelf.ask(shelf.assets.url("shop.css"))
    assert exact.headers["cache-control"] == "public, max-age=31536000, immutable"
    for target in (PATH, f"{PATH}?v=0123456789"):
        assert (await shelf.ask(target)).headers["cache-control"] == "public, max-age=300"


async def test_every_file_has_the_headers_of_every_answer(shelf: Shelf) -> None:
    for path in STATIC.iterdir():
        answer = await shelf.ask(f"/static/{path.name}")
        assert answer.status == 200
        for name, value in security_headers(secure=True):
            if name != b"cache-control":
                assert answer.headers[name.decode()] == value.decode(), path.name


async def test_it_is_in_the_figures(shelf: Shelf) -> None:
    await shelf.ask(PATH)
    await shelf.ask(PATH, "HEAD")
    told = shelf.metrics.exposition().decode()
    assert (
        'meshmart_request_seconds_count{operation="GET /static/**",protocol="http",status="200"} 2'
        in told
    )
    (way,) = shelf.metrics.recent.report(60).ways
    assert (way.caller, way.callee, way.version, way.tally.calls) == (VISITORS, "frontend", "v1", 2)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", "/static/nothing.css"), ("POST", PATH), ("GET", "/static/")],
)
async def test_the_pages_answer_for_all_else(shelf: Shelf, method: str, path: str) -> None:
    answer = await shelf.ask(path, method)
    assert (answer.status, answer.body) == (418, path.encode())
