"""What people get is compressed, but where its length could tell a secret."""

from __future__ import annotations

import gzip
from collections.abc import Mapping

import pytest
from starlette.types import Receive, Scope, Send

from services.frontend.compression import CompressedPages
from tests.unit.asgi import AsgiAnswer, ask

PAGE = b"<p>A page of some length.</p>" * 200


async def answered(
    headers: Mapping[str, str],
    *,
    accept_encoding: str,
    body: bytes = PAGE,
    kind: str = "text/html; charset=utf-8",
) -> AsgiAnswer:
    async def page(_scope: Scope, _receive: Receive, send: Send) -> None:
        given = [(b"content-type", kind.encode()), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": given})
        await send({"type": "http.response.body", "body": body})

    sent = {**headers, "accept-encoding": accept_encoding}
    answer = await ask(CompressedPages(page), "GET", "/", headers=sent)
    assert answer.headers["content-length"] == str(len(answer.body))
    return answer


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "application/json"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "cross-site"},
        {"cookie": "a=b", "sec-fetch-site": "same-origin"},
        {"cookie": "a=b", "sec-fetch-site": "none"},
    ],
)
async def test_what_is_worth_it_is_compressed(kind: str, headers: dict[str, str]) -> None:
    answer = await answered(headers, kind=kind, accept_encoding="gzip, deflate, br")
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["vary"] == "Accept-Encoding"
    assert gzip.decompress(answer.body) == PAGE
    assert len(answer.body) < len(PAGE) / 4


@pytest.mark.parametrize("site", ["cross-site", "same-site", "", None])
async def test_a_visitor_sent_by_another_site_gets_no_length_that_tells(site: str | None) -> None:
    said = {} if site is None else {"sec-fetch-site": site}
    answer = await answered({"cookie": "a=b", **said}, accept_encoding="gzip")
    assert answer.body == PAGE
    assert "content-encoding" not in answer.headers
    assert answer.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize(
    ("body", "kind", "accepted"),
    [
        (PAGE, "text/html", "identity"),
        (PAGE[:900], "text/html", "gzip"),
        (PAGE, "image/svg+xml", "gzip"),
        (PAGE, "text/event-stream", "gzip"),
    ],
)
async def test_all_else_is_as_it_was(body: bytes, kind: str, accepted: str) -> None:
    answer = await answered({}, accept_encoding=accepted, body=body, kind=kind)
    assert answer.body == body
    assert "content-encoding" not in answer.headers
