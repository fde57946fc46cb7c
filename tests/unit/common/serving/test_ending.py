"""How a process ends: nobody who speaks with it loses a request."""

from __future__ import annotations

import asyncio
import time

import aiohttp
from fastapi import APIRouter

from services.common.serving.host import Host
from tests.unit.common.kit import serving, until

LINGER_SECONDS = 5.0


async def wire(host: Host) -> None:
    routes = APIRouter()

    @routes.get("/hello")
    async def hello() -> str:
        return "hello"

    @routes.get("/slow")
    async def slow() -> str:
        await asyncio.Event().wait()
        return "never"

    host.serve_http(routes)


async def ask(http: aiohttp.ClientSession, url: str) -> aiohttp.ClientResponse:
    async with http.get(f"{url}/hello") as response:
        assert await response.json() == "hello"
        return response


async def test_a_kept_connection_ends_with_an_answer_that_says_so(
    http: aiohttp.ClientSession,
) -> None:
    async with serving(wire, linger_seconds=LINGER_SECONDS) as callee:
        assert "connection" not in (await ask(http, callee.url)).headers
        callee.stop.set()
        await until(lambda: callee.host.readiness.draining)
        assert (await ask(http, callee.url)).headers["connection"] == "close"
        began = time.monotonic()
    assert time.monotonic() - began < LINGER_SECONDS / 2, "with the last connection it ends"


async def test_one_that_stays_idle_is_closed_in_the_end(http: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(LINGER_SECONDS), serving(wire, linger_seconds=0.3) as callee:
        await ask(http, callee.url)
        callee.stop.set()


async def test_a_request_that_outlasts_the_drain_is_an_outage(http: aiohttp.ClientSession) -> None:
    async with serving(wire, drain_seconds=0.5) as callee:
        slow = asyncio.create_task(http.get(f"{callee.url}/slow"))
        await ask(http, callee.url)
        callee.stop.set()
        async with await slow as response:
            assert response.status == 503
            assert response.headers["retry-after"] == "1"
            assert response.content_type == "application/problem+json"
            assert (await response.json())["code"] == "stopping"


async def test_head_is_answered_as_get_without_its_body(http: aiohttp.ClientSession) -> None:
    async with serving(wire) as callee:
        async with http.head(f"{callee.url}/hello") as response:
            assert response.status == 200
            assert response.headers["content-length"] == str(len('"hello"'))
            assert await response.read() == b""
        async with http.head(f"{callee.url}/nothing") as response:
            assert response.status == 404


async def test_a_redirect_to_the_same_host_is_relative(http: aiohttp.ClientSession) -> None:
    async with (
        serving(wire) as callee,
        http.get(
            f"{callee.url}/hello/?a=1", headers={"host": "shop.example"}, allow_redirects=False
        ) as response,
    ):
        assert (response.status, response.headers["location"]) == (307, "/hello?a=1")
