"""uvicorn's fast HTTP/1.1 protocol, with the two limits it lacks: on the size of the headers and on
their arrival.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 32 * 1024


class _HeadTooLarge(Exception):
    """Stops the parser."""


class _NotOneHost(Exception):
    """Stops the parser: a request has exactly one Host (RFC 9112 §3.2)."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """Answers 431 (RFC 6585 §5) to oversized headers and closes on clients that never finish
    sending them (408).
    """

    head_seconds = 10.0

    _head_bytes = 0
    _in_head = True
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            if self._head_timer is None:
                self._await_head()
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse_large_head()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_timer()
        # A head that came in one piece is not counted yet. The 4 are a field's ": " and line end.
        fields_bytes = sum(len(name) + len(value) + 4 for name, value in self.headers)
        if len(self.url) + fields_bytes > MAX_HEAD_BYTES:
            self._refuse_large_head()
            raise _HeadTooLarge
        hosts = sum(name == b"host" for name, _ in self.headers)
        is_old = self.parser is not None and self.parser.get_http_version() == "1.0"
        if hosts > 1 or (hosts == 0 and not is_old):
            raise _NotOneHost
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  uvicorn's own sentence
        """What uvicorn calls when the parser gives up, be it for our own refusal."""
        self._refuse(400, "Bad Request", "The request is not valid HTTP.")

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head = True
        self._head_bytes = 0

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self.head_seconds, self._head_is_late)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._refuse(408, "Request Timeout", "The request's headers did not arrive in time.")

    def _refuse_large_head(self) -> None:
        self._refuse(431, "Request Header Fields Too Large", "The request's headers are too large.")

    def _refuse(self, status: int, reason: str, detail: str) -> None:
        self._stop_timer()
        if self.transport.is_closing():
            return
        code = reason.lower().replace(" ", "-")
        body = (
            f'{{"type":"urn:meshmart:problem:{code}","title":"{reason}","status":{status},'
            f'"detail":"{detail}","code":"{code}"}}'
        ).encode()
        self.transport.write(
            b"HTTP/1.1 %d %s\r\ncontent-type: application/problem+json\r\n"
            b"content-length: %d\r\nconnection: close\r\n\r\n%s"
            % (status, reason.encode(), len(body), body)
        )
        self.transport.close()


def bounded_http_protocol(patience_seconds: float) -> type[BoundedHttpProtocol]:
    """The protocol that waits that long for a request's headers."""

    class Protocol(BoundedHttpProtocol):
        head_seconds = patience_seconds

    return Protocol
