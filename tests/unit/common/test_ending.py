"""How a process ends: nobody who speaks with it loses a request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator

import aiohttp
import pytest
from fastapi import APIRouter

from services.common.host import Host
from tests.unit.common.kit import serving, until

LINGER_SECONDS = 5.0


async def wire(host: Host) -> None:
    routes = APIRouter()

    @routes.get("/hello")
    async def hello() -> str:
        return "hello"

    host.serve_http(routes)


@pytest.fixture
async def http() -> AsyncGenerator[aiohttp.ClientSession]:
    """A client that keeps its connections."""
    async with aiohttp.ClientSession() as session:
        yield session


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
