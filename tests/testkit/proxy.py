"""A forward proxy, as companies have them in front of the internet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

LOOPBACK = "127.0.0.1"


class Proxy:
    """A forward proxy (RFC 9110 §3.7, §9.3.6) whose ways all lead to one port of this machine.

    :ivar asked: request lines and what they said of who asks.
    :ivar refusal: the answer to CONNECT instead of a tunnel.
    :ivar waits: a tunnel is opened with the target's first words in the very same packet.
    """

    def __init__(self, target_port: int) -> None:
        self.asked: list[tuple[str, str]] = []
        self.refusal: bytes | None = None
        self.waits = False
        self._target_port = target_port

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        line, *fields = head.split("\r\n")
        headers = dict(field.lower().split(": ", 1) for field in fields if field)
        self.asked.append((line, headers.get("proxy-authorization", "")))
        if self.refusal is not None:
            writer.write(self.refusal)
            writer.close()
            return
        target_reader, target_writer = await asyncio.open_connection(LOOPBACK, self._target_port)
        method, target, version = line.split()
        if method == "CONNECT":
            first_words = await target_reader.read(65536) if self.waits else b""
            writer.write(b"HTTP/1.1 200 Connected\r\nVia: 1.1 proxy\r\n\r\n" + first_words)
        else:
            path = target.removeprefix("http://").partition("/")[2]
            target_writer.write("\r\n".join([f"{method} /{path} {version}", *fields]).encode())
        await asyncio.gather(_pass_on(reader, target_writer), _pass_on(target_reader, writer))


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        return
    finally:
        writer.close()


@asynccontextmanager
async def proxy_to(port: int) -> AsyncGenerator[tuple[Proxy, str]]:
    """A proxy to a port, and its URL, with the credentials of a user."""
    proxy = Proxy(port)
    async with await asyncio.start_server(proxy.serve, LOOPBACK, 0) as server:
        yield proxy, f"http://ada:s%20cret@{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
