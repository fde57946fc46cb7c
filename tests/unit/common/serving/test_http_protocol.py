"""What comes over the wire before there is a request: heads that are too large or too slow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import orjson
import pytest
from fastapi import APIRouter, Request

from services.common.serving.host import Host
from services.common.serving.http_protocol import MAX_HEAD_BYTES, MAX_UNREAD_BYTES
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


class RawConnection:
    """A client that sends just what it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self._writer.write(piece)
            await self._writer.drain()

    async def answer(self) -> tuple[int, bytes]:
        """Status and body of the next answer."""
        async with asyncio.timeout(5.0):
            head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            return int(head.split()[1]), await self._reader.readexactly(length)

    async def is_refused(self, status: int, code: str) -> None:
        """Makes sure that the next answer is that problem, and the last one."""
        answered, body = await self.answer()
        problem = orjson.loads(body)
        assert (answered, problem["code"]) == (status, code)
        assert problem["type"] == f"urn:meshmart:problem:{code}"
        assert await self.is_closed()

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
async def connection(running: Running) -> AsyncGenerator[RawConnection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.process.http_port)
    connection = RawConnection(reader, writer)
    yield connection
    await connection.close()


async def test_one_connection_serves_request_after_request(connection: RawConnection) -> None:
    for _ in range(3):
        await connection.send(HEAD + b"\r\n")
        assert await connection.answer() == (200, b'"hello"')


async def test_headers_may_come_in_pieces(connection: RawConnection) -> None:
    for byte in HEAD + b"\r\n":
        await connection.send(bytes([byte]))
    assert await connection.answer() == (200, b'"hello"')


async def test_large_headers_are_served(connection: RawConnection) -> None:
    await connection.send(HEAD + b"x-long: " + b"x" * (MAX_HEAD_BYTES - 200) + b"\r\n\r\n")
    assert (await connection.answer())[0] == 200


@pytest.mark.parametrize(
    "hosts",
    [
        b"",
        b"host: a.example\r\nhost: b.example\r\n",
        b"host:\r\n",
        b"host: a, b\r\n",
        b"host: a.example,b.example\r\n",
        b"host: a b\r\n",
        b"host: a/b\r\n",
        b"host: user@a.example\r\n",
        b"host: a.example:port\r\n",
        b"host: [::1\r\n",
    ],
)
async def test_a_request_without_one_host_is_refused(
    connection: RawConnection, hosts: bytes
) -> None:
    await connection.send(b"GET /hello HTTP/1.1\r\n" + hosts + b"\r\n")
    await connection.is_refused(400, "bad-request")


@pytest.mark.parametrize(
    "host", [b"shop", b"shop:8080", b"127.0.0.1:80", b"[::1]:8080", b"a_b.example.", b"shop:"]
)
async def test_every_form_of_a_host_is_served(connection: RawConnection, host: bytes) -> None:
    await connection.send(b"GET /hello HTTP/1.1\r\nhost: " + host + b"\r\n\r\n")
    assert (await connection.answer())[0] == 200


@pytest.mark.parametrize("ending", [b"", b"\r\n\r\n"], ids=["unfinished", "finished"])
@pytest.mark.parametrize(
    "header", [b"x-long: " + b"x" * 70_000, b"x: y\r\n" * 20_000], ids=["long", "many"]
)
async def test_oversized_headers_are_refused(
    connection: RawConnection, header: bytes, ending: bytes
) -> None:
    await connection.send(HEAD + header + ending)
    await connection.is_refused(431, "request-header-fields-too-large")


@pytest.mark.parametrize("ending", [b"", b" HTTP/1.1\r\n\r\n"], ids=["unfinished", "finished"])
async def test_an_oversized_target_is_refused(connection: RawConnection, ending: bytes) -> None:
    await connection.send(b"GET /" + b"x" * 70_000 + ending)
    assert (await connection.answer())[0] == 431


async def test_the_size_counts_anew_for_each_request(connection: RawConnection) -> None:
    for _ in range(4):
        await connection.send(HEAD + b"x-long: " + b"x" * (MAX_HEAD_BYTES // 2) + b"\r\n\r\n")
        assert (await connection.answer())[0] == 200


@pytest.mark.parametrize("beginning", [b"", b"GET", HEAD])
async def test_headers_that_never_end_are_given_up(
    connection: RawConnection, beginning: bytes
) -> None:
    await connection.send(beginning)
    await connection.is_refused(408, "request-timeout")


async def test_the_second_requests_headers_are_given_up_too(connection: RawConnection) -> None:
    await connection.send(HEAD + b"\r\n")
    assert (await connection.answer())[0] == 200
    await connection.send(HEAD)
    assert (await connection.answer())[0] == 408


async def test_an_idle_connection_is_kept(connection: RawConnection) -> None:
    await connection.send(HEAD + b"\r\n")
    assert (await connection.answer())[0] == 200
    await asyncio.sleep(PATIENCE_SECONDS + 0.1)  # nothing is to happen in this time
    await connection.send(HEAD + b"\r\n")
    assert (await connection.answer())[0] == 200


async def test_a_body_that_never_ends_is_given_up(connection: RawConnection) -> None:
    await connection.send(POST + b"12345")
    await connection.is_refused(408, "request-timeout")


async def test_a_body_may_come_in_pieces(connection: RawConnection) -> None:
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
async def test_what_is_no_http_is_refused(connection: RawConnection, garbage: bytes) -> None:
    await connection.send(garbage)
    await connection.is_refused(400, "bad-request")


@pytest.mark.parametrize(
    ("second", "status"),
    [
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\n\r\n", 400),
        (b"POST /bytes HTTP/1.1\r\nhost: shop\r\ntransfer-encoding: chunked\r\n\r\nx\r\n", 400),
        (b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\nhost: shop\r\n\r\n", 431),
    ],
    ids=["no http", "no host", "no chunk", "too large"],
)
async def test_a_refusal_waits_for_the_answers_before_it(
    connection: RawConnection, second: bytes, status: int
) -> None:
    await connection.send((HEAD + b"\r\n") * 2 + second + HEAD + b"\r\n")
    for _ in range(2):
        assert await connection.answer() == (200, b'"hello"')
    assert (await connection.answer())[0] == status
    assert await connection.is_closed()


async def test_a_broken_body_is_refused_at_once(connection: RawConnection) -> None:
    await connection.send(
        b"POST /bytes HTTP/1.1\r\nhost: shop\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    await connection.send(b"no number\r\n")
    assert (await connection.answer())[0] == 400
    assert await connection.is_closed()


NOWHERE = b"POST /nowhere HTTP/1.1\r\nhost: shop\r\n"


async def test_a_body_that_nobody_reads_is_passed_over(connection: RawConnection) -> None:
    await connection.send(NOWHERE + b"content-length: 10\r\n\r\n01234")
    assert (await connection.answer())[0] == 404
    await connection.send(b"56789" + HEAD + b"\r\n")
    assert await connection.answer() == (200, b'"hello"')
    await asyncio.sleep(PATIENCE_SECONDS + 0.1)  # nothing is to happen in this time
    await connection.send(HEAD + b"\r\n")
    assert await connection.answer() == (200, b'"hello"')


@pytest.mark.parametrize("method", [b"POST", b"DELETE"])
async def test_a_body_that_nobody_reads_and_that_never_ends_is_given_up(
    connection: RawConnection, method: bytes
) -> None:
    path = b"/nowhere" if method == b"POST" else b"/bytes"
    await connection.send(
        method + b" " + path + b" HTTP/1.1\r\nhost: shop\r\ncontent-length: 10\r\n\r\n012"
    )
    assert (await connection.answer())[0] in {404, 405}
    assert await connection.is_closed()


async def test_a_large_body_that_nobody_reads_is_given_up() -> None:
    async with serving(wire, head_seconds=60.0) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.process.http_port)
        connection = RawConnection(reader, writer)
        await connection.send(NOWHERE + b"transfer-encoding: chunked\r\n\r\n")
        assert (await connection.answer())[0] == 404
        chunk = b"2710\r\n" + bytes(10_000) + b"\r\n"
        # What the system buffers on the way comes on top.
        with pytest.raises(ConnectionError):
            await connection.send(*[chunk] * (100 * MAX_UNREAD_BYTES // len(chunk)))
        await connection.close()
