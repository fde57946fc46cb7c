"""The load generator: a process of its own that sends prepared requests, by a closed or an open
loop.

Closed: each connection sends the next request as soon as it has an answer. Open: requests are sent
by the clock, answered or not, and a latency begins when its request is due, so that a stall is in
the figures.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import sys
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import aiohttp
import uvloop

from tests.bench.journeys import PreparedRequest


class WrongAnswer(Exception):
    """An answer has another status than the right one."""


def check_status(request: PreparedRequest, status: int, body: bytes) -> None:
    """Checks the status of an answer.

    :raises WrongAnswer: it is not the right one.
    """
    if status != request.status:
        start = body[:300].decode(errors="replace")
        raise WrongAnswer(f"{request.method} {request.path}: {status} {start}")


@dataclass(frozen=True, slots=True)
class Load:
    """Requests to send, in turn.

    :ivar rate: requests per second by the clock; None for a closed loop.
    """

    url: str
    requests: Sequence[PreparedRequest]
    connections: int
    seconds: float
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """The answered requests of a load.

    :ivar latencies_seconds: of each request.
    :ivar seconds: from the first request to the last answer.
    """

    latencies_seconds: Sequence[float]
    seconds: float

    @property
    def rate(self) -> float:
        """The answered requests per second."""
        return len(self.latencies_seconds) / self.seconds


class LoadGenerator:
    """The process that sends. Made by :func:`generator`.

    :ivar pid: of the process.
    """

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool
        self.pid = pool.submit(os.getpid).result()

    def send(self, load: Load) -> Sent:
        """Sends a load, and returns when all requests are answered.

        :raises WrongAnswer: an answer was not the right one.
        """
        return self._pool.submit(_send, load).result()


@contextmanager
def generator() -> Generator[LoadGenerator]:
    """Runs the process of a generator.

    :raises SystemExit: an answer was wrong, so that there is nothing to measure.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            yield LoadGenerator(pool)
        except WrongAnswer as wrong:
            sys.exit(f"A wrong answer ends the measurement. {wrong}")


def _send(load: Load) -> Sent:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(sending(load))


async def sending(load: Load) -> Sent:
    """Sends a load from this process.

    :raises WrongAnswer: as soon as an answer is not the right one.
    """
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
    ) as session:
        latencies: list[float] = []
        requests = itertools.cycle(load.requests)
        began = time.perf_counter()

        async def ask(due: float) -> None:
            request = next(requests)
            async with session.request(
                request.method,
                load.url + request.path,
                data=request.body or None,
                headers=request.headers_to_send(),
                allow_redirects=False,
            ) as answer:
                body = await answer.read()
                check_status(request, answer.status, body)
            latencies.append(time.perf_counter() - due)

        async def keep_asking() -> None:
            while time.perf_counter() - began < load.seconds:
                await ask(time.perf_counter())

        try:
            async with asyncio.TaskGroup() as tasks:
                if load.rate is None:
                    for _ in range(load.connections):
                        tasks.create_task(keep_asking())
                else:
                    for number in range(max(1, round(load.rate * load.seconds))):
                        due = began + number / load.rate
                        await asyncio.sleep(due - time.perf_counter())
                        tasks.create_task(ask(due))
        except ExceptionGroup as failed:  # the first has ended the others
            raise failed.exceptions[0] from None
        return Sent(latencies, time.perf_counter() - began)
