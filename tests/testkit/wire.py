"""A client that sends just the bytes that it is told to, for what no HTTP library would send."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

import orjson
from yarl import URL

from tests.testkit.customer import Answer

_ANSWER_SECONDS = 20.0


async def exchange(url: str, *parts: bytes) -> Answer:
    """Sends the parts and nothing more; the first answer, whether or not all could be sent."""
    loop = asyncio.get_running_loop()
    target = URL(url)
    with socket.socket() as connection:
        connection.setblocking(False)
        await loop.sock_connect(connection, (target.host, target.port))
        sending = asyncio.create_task(_send(connection, parts))
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                received = b""
                while (answer := _complete(received)) is None:
                    data = await loop.sock_recv(connection, 65536)
                    assert data, f"the connection ended after {received!r}"
                    received += data
                return answer
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


async def _send(connection: socket.socket, parts: Sequence[bytes]) -> None:
    for part in parts:
        await asyncio.get_running_loop().sock_sendall(connection, part)


def _complete(received: bytes) -> Answer | None:
    """The answer, once all of it has come."""
    head, separator, body = received.partition(b"\r\n\r\n")
    if not separator:
        return None
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    if len(body) < int(headers["content-length"]):
        return None
    status, parsed = int(status_line.split()[1]), orjson.loads(body) if body else None
    return Answer(status, parsed, headers, body.decode())
