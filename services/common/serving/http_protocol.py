"""uvicorn's fast HTTP/1.1 protocol, with what it lacks: limits on the size of headers, on their
arrival and on bodies that nobody reads, and refusals that wait for the answers before them.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from services.common.protocols.http_semantics import is_host

MAX_HEAD_BYTES = 32 * 1024
# What is taken of a body after its request was answered, so that the client sees the answer.
MAX_UNREAD_BYTES = 256 * 1024


class _HeadTooLarge(Exception):
    """Stops the parser."""


class _NotOneHost(Exception):
    """Stops the parser: a request has exactly one Host (RFC 9112 §3.2)."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """Answers 431 (RFC 6585 §5) to oversized headers and closes on clients that never finish
    sending them (408), or the rest of a body whose request is answered already.
    """

    head_seconds = 10.0

    _head_bytes = 0
    _in_head = True
    _head_timer: asyncio.TimerHandle | None = None
    _unread_bytes = 0
    _unread_timer: asyncio.TimerHandle | None = None
    _refusal: bytes | None = None
    """The last answer of this connection, for when those before it are complete."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._stop_unread_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refusal is not None:
            return
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
        hosts = [value for name, value in self.headers if name == b"host"]
        is_old = self.parser is not None and self.parser.get_http_version() == "1.0"
        if len(hosts) > 1 or not (hosts or is_old):
            raise _NotOneHost
        if hosts and not is_host(hosts[0].decode("latin-1")):
            raise _NotOneHost
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  uvicorn's own sentence
        """What uvicorn calls when the parser gives up, be it for our own refusal."""
        self._refuse(400, "Bad Request", "The request is not valid HTTP.")

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        if self._unread_timer is not None:
            self._unread_bytes += len(body)
            if self._unread_bytes > MAX_UNREAD_BYTES:
                self.transport.close()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head = True
        self._head_bytes = 0
        if self._unread_timer is not None:
            self._stop_unread_timer()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        is_last = not self.pipeline
        super().on_response_complete()
        if not is_last or self.transport.is_closing():
            return
        if self._refusal is not None:
            self.transport.write(self._refusal)
            self.transport.close()
        elif self.cycle.more_body:
            self._unread_bytes = 0
            self._unread_timer = self.loop.call_later(self.head_seconds, self.transport.close)

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self.head_seconds, self._head_is_late)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _head_is_late(self) -> None:
        self._refuse(408, "Request Timeout", "The request's headers did not arrive in time.")

    def _refuse_large_head(self) -> None:
        self._refuse(431, "Request Header Fields Too Large", "The request's headers are too large.")

    def _refuse(self, status: int, reason: str, detail: str) -> None:
        self._stop_timer()
        if self.transport.is_closing() or self._refusal is not None:
            return
        code = reason.lower().replace(" ", "-")
        body = (
            f'{{"type":"urn:meshmart:problem:{code}","title":"{reason}","status":{status},'
            f'"detail":"{detail}","code":"{code}"}}'
        ).encode()
        refusal = (
            b"HTTP/1.1 %d %s\r\ncontent-type: application/problem+json\r\n"
            b"content-length: %d\r\nconnection: close\r\n\r\n%s"
            % (status, reason.encode(), len(body), body)
        )
        if self._owes_an_answer():
            self._refusal = refusal
            self.flow.pause_reading()
            return
        newest = self._newest()
        if newest is None or newest.response_complete or not newest.response_started:
            self.transport.write(refusal)
        self.transport.close()

    def _owes_an_answer(self) -> bool:
        """Whether a request before the refused one is not answered yet (RFC 9112 §9.3.2)."""
        newest = self._newest()
        if newest is None or newest.response_complete:
            return False
        if not newest.more_body:
            return True
        # The refused one is the newest, in the middle of its body.
        if not self.pipeline:
            return False
        self.pipeline.popleft()
        return True

    def _newest(self) -> RequestResponseCycle | None:
        return cast("RequestResponseCycle | None", self.cycle)  # None until a first head is whole


def bounded_http_protocol(patience_seconds: float) -> type[BoundedHttpProtocol]:
    """The protocol that waits that long for a request's headers."""

    class Protocol(BoundedHttpProtocol):
        head_seconds = patience_seconds

    return Protocol
