"""The load generator: what it sends, when, and what it takes for a wrong answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from tests.bench.journeys import PreparedRequest
from tests.bench.load import Load, WrongAnswer, generator, sending

GET = PreparedRequest("GET", "/")
_STALL_SECONDS = 0.3


class Answerer:
    """Answers 200; one request at a time, the first after a stall."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.stall_seconds = 0.0
        self._turn = asyncio.Lock()

    async def answer(self, request: web.Request) -> web.Response:
        self.keys.append(request.headers.get("idempotency-key", ""))
        async with self._turn:
            stall_seconds, self.stall_seconds = self.stall_seconds, 0.0
            await asyncio.sleep(stall_seconds)
        return web.Response(text="fine")


@asynccontextmanager
async def answering() -> AsyncGenerator[tuple[Answerer, str]]:
    answerer = Answerer()
    app = web.Application()
    app.router.add_route("*", "/", answerer.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port, *_ = runner.addresses[0]
        yield answerer, f"http://{host}:{port}"
    finally:
        await runner.cleanup()


async def test_a_closed_loop_asks_as_long_as_it_is_to() -> None:
    async with answering() as (answerer, url):
        sent = await sending(Load(url, [GET], connections=2, seconds=1.0))
    assert len(sent.latencies_seconds) == len(answerer.keys) > 2
    assert sent.seconds >= 1.0


async def test_an_open_loop_counts_a_stall_for_all_that_were_due() -> None:
    async with answering() as (answerer, url):
        answerer.stall_seconds = _STALL_SECONDS
        sent = await sending(Load(url, [GET], connections=1, seconds=0.2, rate=50.0))
    assert len(sent.latencies_seconds) == 10
    late = [latency for latency in sent.latencies_seconds if latency > _STALL_SECONDS / 4]
    assert len(late) == 10, sent.latencies_seconds


async def test_each_keyed_request_has_a_key_of_its_own() -> None:
    keyed = PreparedRequest("POST", "/", body=b"{}", is_keyed=True)
    async with answering() as (answerer, url):
        await sending(Load(url, [keyed], connections=1, seconds=0.1, rate=100.0))
    assert len(set(answerer.keys)) == len(answerer.keys) == 10


async def test_a_wrong_answer_ends_the_load() -> None:
    created = PreparedRequest("POST", "/", status=201)
    async with answering() as (_, url):
        with pytest.raises(WrongAnswer, match="POST /: 200 fine"):
            await sending(Load(url, [created], connections=1, seconds=5.0))


async def test_the_generators_process_sends() -> None:
    async with answering() as (answerer, url):
        with generator() as sending_there:
            sent = await asyncio.to_thread(sending_there.send, Load(url, [GET], 1, 0.5))
    assert len(answerer.keys) == len(sent.latencies_seconds)


def test_a_wrong_answer_ends_the_program() -> None:
    with pytest.raises(SystemExit, match="POST /: 500"), generator():
        raise WrongAnswer("POST /: 500")
