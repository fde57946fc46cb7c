"""What comes over the wire before there is a request: heads that are too large or too slow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import orjson
import pytest
from fastapi import APIRouter, Request

from services.common.host import Host
from services.common.http_protocol import MAX_HEAD_BYTES
from tests.unit.common.kit import Running, serving

HEAD = b"GET /hello HTTP/1.1\r\nhost: shop\r\n"
POST = b"POST /bytes HTTP/1.1\r\nhost: shop\r\ncontent-length: 10\r\n\r\n"
PATIENCE_SECONDS = 0.3


async def wire(host: Host) -> None:
    routes = APIRouter()

    @routes.get("/hello")
    async def hello() -> str:
        return "hello"

    @routes.post("/bytes")
    async def post_bytes(request: Request) -> int:
        return len(await request.body())

    host.serve_http(routes)


@pytest.fixture
async def running() -> AsyncGenerator[Running]:
    async with serving(
        wire, head_seconds=PATIENCE_SECONDS, body_seconds=PATIENCE_SECONDS
    ) as running:
        yield running


class Connection:
    """A client that sends just what it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self) -> tuple[int, bytes]:
        """Status and body of the next answer."""
        async with asyncio.timeout(5.0):
            head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            return int(head.split()[1]), await self._reader.readexactly(length)

    async def is_closed(self) -> bool:
        """Whether the server hangs up, which it gets a while for."""
        async with asyncio.timeout(5.0):
            try:
                return await self._reader.read() == b""
            except ConnectionResetError:
                return True

    async def close(self) -> None:
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            return


@pytest.fixture
async def connection(running: Running) -> AsyncGenerator[Connection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.process.http_port)
    connection = Connection(reader, writer)
    yield connection
    await connection.close()


def problem_code(body: bytes) -> str:
    problem = orjson.loads(body)
    assert problem["type"] == f"urn:meshmart:problem:{problem['code']}"
    return problem["code"]


async def test_one_connection_serves_request_after_request(connection: Connection) -> None:
    for _ in range(3):
        await connection.send(HEAD + b"\r\n")
        assert await connection.answer() == (200, b'"hello"')


async def test_headers_may_come_in_pieces(connection: Connection) -> None:
    for byte in HEAD + b"\r\n":
        await connection.send(bytes([byte]))
    assert await connection.answer() == (200, b'"hello"')


async def test_large_headers_are_served(connection: Connection) -> None:
    await connection.send(HEAD + b"x-long: " + b"x" * (MAX_HEAD_BYTES - 200) + b"\r\n\r\n")
    assert (await connection.answer())[0] == 200


@pytest.mark.parametrize(
    "hosts", [b"", b"host: a.example\r\nhost: b.example\r\n"], ids=["none", "two"]
)
async def test_a_request_without_one_host_is_refused(connection: Connection, hosts: bytes) -> None:
    await connection.send(b"GET /hello HTTP/1.1\r\n" + hosts + b"\r\n")
    status, body = await connection.answer()
    assert (status, problem_code(body)) == (400, "bad-request")
    assert await connection.is_closed()


@pytest.mark.parametrize("ending", [b"", b"\r\n\r\n"], ids=["unfinished", "finished"])
@pytest.mark.parametrize(
    "header", [b"x-long: " + b"x" * 70_000, b"x: y\r\n" * 20_000], ids=["long", "many"]
)
async def test_oversized_headers_are_refused(
    connection: Connection, header: bytes, ending: bytes
) -> None:
    await connection.send(HEAD + header + ending)
    status, body = await connection.answer()
    assert (status, problem_code(body)) == (431, "request-header-fields-too-large")
    assert await connection.is_closed()


@pytest.mark.parametrize("ending", [b"", b" HTTP/1.1\r\n\r\n"], ids=["unfinished", "finished"])
async def test_an_oversized_target_is_refused(connection: Connection, ending: bytes) -> None:
    await connection.send(b"GET /" + b"x" * 70_000 + ending)
    assert (await connection.answer())[0] == 431


async def test_the_size_counts_anew_for_each_request(connection: Connection) -> None:
    for _ in range(4):
        await connection.send(HEAD + b"x-long: " + b"x" * (MAX_HEAD_BYTES // 2) + b"\r\n\r\n")
        assert (await connection.answer())[0] == 200


@pytest.mark.parametrize("beginning", [b"", b"GET", HEAD])
async def test_headers_that_never_end_are_given_up(
    connection: Connection, beginning: bytes
) -> None:
    await connection.send(beginning)
    status, body = await connection.answer()
    assert (status, problem_code(body)) == (408, "request-timeout")
    assert await connection.is_closed()


async def test_the_second_requests_headers_are_given_up_too(connection: Connection) -> None:
    await connection.send(HEAD + b"\r\n")
    assert (await connection.answer())[0] == 200
    await connection.send(HEAD)
    assert (await connection.answer())[0] == 408


async def test_an_idle_connection_is_kept(connection: Connection) -> None:
    await connection.send(HEAD + b"\r\n")
    assert (await connection.answer())[0] == 200
    await asyncio.sleep(PATIENCE_SECONDS + 0.1)  # nothing is to happen in this time
    await connection.send(HEAD + b"\r\n")
    assert (await connection.answer())[0] == 200


async def test_a_body_that_never_ends_is_given_up(connection: Connection) -> None:
    await connection.send(POST + b"12345")
    status, body = await connection.answer()
    assert (status, problem_code(body)) == (408, "request-timeout")
    assert await connection.is_closed()


async def test_a_body_may_come_in_pieces(connection: Connection) -> None:
    await connection.send(POST)
    for byte in b"0123456789":
        await connection.send(bytes([byte]))
    assert await connection.answer() == (200, b"10")


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"HELO shop\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"POST /bytes HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST /bytes HTTP/1.1\r\ncontent-length: \xb2\r\n\r\n",
        b"POST /bytes HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_refused(connection: Connection, garbage: bytes) -> None:
    await connection.send(garbage)
    status, body = await connection.answer()
    assert (status, problem_code(body)) == (400, "bad-request")
    assert await connection.is_closed()
